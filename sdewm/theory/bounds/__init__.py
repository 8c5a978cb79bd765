"""Bounds of rollout divergence, of fundamental matrices and of expansion terms."""

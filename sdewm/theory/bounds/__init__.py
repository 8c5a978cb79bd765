"""Bounds: of rollouts, of fundamental matrices, of expansion terms."""

"""Proven constants of networks, with lower bounds beside them."""

"""Expansion of the expected loss in the size of an error in drift and diffusion."""

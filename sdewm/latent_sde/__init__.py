"""Trained world models as stochastic systems: where the two halves meet."""

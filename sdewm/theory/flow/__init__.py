"""Errors in the initial state: variation of the flow, divergence of rollouts, values, exponents."""

"""Errors in the initial state: flow variation, divergence, value bias, Lyapunov exponents."""

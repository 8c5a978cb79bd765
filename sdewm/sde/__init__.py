"""Floor 1: stochastic differential equations, their Brownian increments and their solution."""

"""Certificates: proven Lipschitz and curvature constants of networks, and lower bounds of them."""

"""Trained world models as stochastic differential equations: model and theory meet here."""

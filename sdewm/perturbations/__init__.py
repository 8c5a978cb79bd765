"""Perturbations of the observations of a world model."""

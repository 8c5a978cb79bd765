"""Perturbations of what a world model observes."""

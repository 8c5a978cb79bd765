"""Returns and errors under perturbations, and statistics over training seeds."""

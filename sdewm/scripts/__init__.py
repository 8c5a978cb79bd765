"""Scaffolding of the scripts in analysis/."""

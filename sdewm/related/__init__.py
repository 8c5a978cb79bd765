"""Measurements of related papers, one a file."""

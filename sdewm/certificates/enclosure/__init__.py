"""Enclosures of the values of a model over a ball of errors: Taylor models run through its code."""

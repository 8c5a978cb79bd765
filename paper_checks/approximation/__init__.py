"""The approximation theorem: what can be checked of it (S31 to S33)."""

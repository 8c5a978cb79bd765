"""Floor 2: expansions, bounds, and their verdicts."""

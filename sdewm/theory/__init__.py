"""Floor 2: perturbations, variations, expansions and verdicts."""

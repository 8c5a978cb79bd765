"""Floor 3: a run from its configuration to its checkpoints, records and pictures."""

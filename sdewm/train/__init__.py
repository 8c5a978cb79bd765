"""Floor 3: training runs, from the configuration to checkpoints, records and pictures."""

"""Floor 1: environments, replay and recorded data. A policy is only a callable here."""

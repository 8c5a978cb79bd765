"""The cases to which the checks are applied: systems, rollouts and trained models."""

"""What is checked: systems, rollouts, trained models."""

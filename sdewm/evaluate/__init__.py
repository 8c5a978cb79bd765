"""Floor 4: what a trained world model is worth: errors over the horizon, robustness."""

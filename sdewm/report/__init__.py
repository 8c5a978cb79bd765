"""Floor 5: the analyses of a trained run: tables, figures, and what they say in a few lines."""

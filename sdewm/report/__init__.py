"""Floor 5: the analyses of a trained run, each with a table, a figure and a summary."""

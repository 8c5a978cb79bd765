"""Floor 1: drawing. Rows in, axes out; nothing is computed here."""

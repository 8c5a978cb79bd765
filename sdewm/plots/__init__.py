"""Floor 0: drawing. Rows in, axes out; nothing is computed here."""

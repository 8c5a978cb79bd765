"""Floor 1: systems, their noise, and their paths through torchsde."""

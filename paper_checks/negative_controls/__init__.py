"""Deliberate mistakes: each check must notice its own."""

"""Negative controls: deliberate mistakes that the checks must detect."""

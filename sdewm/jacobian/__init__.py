"""Jacobians of step functions: matrix-free products, random probes, penalties and diagnostics."""

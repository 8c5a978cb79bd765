"""Jacobians of step functions: products, probes, the penalty, diagnostics."""

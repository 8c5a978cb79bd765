"""Derivations by machine: each file derives one statement of MATHEMATICS.md with sympy."""

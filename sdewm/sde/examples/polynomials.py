"""Polynomial algebra: polynomials as maps from exponents to coefficients."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

# Exponents -> coefficient. A periodic variable stores the mode k of exp(ikx) as its exponent.
Polynomial = Mapping[tuple[int, ...], complex]
Matrix = Sequence[Sequence[float]]


def affine(matrix: Matrix, constant: Sequence[float]) -> list[Polynomial]:
    """Rows of ``matrix @ x + constant`` as polynomials."""
    size = len(matrix[0])
    unit = [tuple(int(i == j) for i in range(size)) for j in range(size)]
    rows = []
    for row, offset in zip(matrix, constant, strict=True):
        polynomial: Polynomial = {unit[j]: value for j, value in enumerate(row) if value}
        rows.append(add(polynomial, {(0,) * size: offset} if offset else {}))
    return rows


def columns(matrix: Matrix) -> list[list[Polynomial]]:
    """Constant (n, drivers) matrix as one list of n constant polynomials per driver."""
    constant = (0,) * len(matrix)
    return [
        [{constant: value} if value else {} for value in column]
        for column in zip(*matrix, strict=True)
    ]


def half_quadratic(weight: Matrix) -> Polynomial:
    """The polynomial x'Wx / 2."""
    size = len(weight)
    total: Polynomial = {}
    for i, j in itertools.product(range(size), repeat=2):
        exponents = tuple(int(k == i) + int(k == j) for k in range(size))
        total = add(total, {exponents: weight[i][j] / 2})
    return total


def add(*polynomials: Polynomial) -> Polynomial:
    """Sum, without zero coefficients."""
    total: dict[tuple[int, ...], complex] = {}
    for polynomial in polynomials:
        for exponents, value in polynomial.items():
            total[exponents] = total.get(exponents, 0.0) + value
    return {exponents: value for exponents, value in total.items() if value != 0}


def scale(polynomial: Polynomial, factor: complex) -> Polynomial:
    """Product with a number."""
    return {exponents: factor * value for exponents, value in polynomial.items()}


def multiply(left: Polynomial, right: Polynomial) -> Polynomial:
    """Product of two polynomials in the same variables."""
    total: dict[tuple[int, ...], complex] = {}
    for a, u in left.items():
        for b, v in right.items():
            exponents = tuple(i + j for i, j in zip(a, b, strict=True))
            total[exponents] = total.get(exponents, 0.0) + u * v
    return total


def derivative(polynomial: Polynomial, index: int, periodic: bool = False) -> Polynomial:
    """Partial derivative; for a periodic variable the derivative of exp(ikx) is ik exp(ikx)."""
    if periodic:
        return {e: 1j * e[index] * value for e, value in polynomial.items() if e[index]}
    return {
        e[:index] + (e[index] - 1,) + e[index + 1 :]: e[index] * value
        for e, value in polynomial.items()
        if e[index]
    }

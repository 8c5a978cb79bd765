"""Constants derived from an enclosure: Lipschitz constants, curvatures, logarithmic norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sdewm.certificates.derivative_enclosure import Ball, Enclosure, interval_distance
from sdewm.certificates.interval import Interval, above
from sdewm.certificates.norms import joint_eigenvalue, joint_norm, largest_eigenvalue, row_sums

JOINT_SIZE = 160  # beyond it the search of `norms.joint_eigenvalue` would take too long
JOINT_ROUNDS = 15


@dataclass(frozen=True)
class PartConstants:
    """Proven constants of one block of a Jacobian; logarithmic norms of square blocks only."""

    lipschitz_2: float
    lipschitz_inf: float
    log_norm_2: float | None = None
    log_norm_inf: float | None = None


def is_square(enclosure: Enclosure) -> bool:
    """Whether the map has as many outputs as inputs."""
    rows, columns = enclosure.magnitude.shape
    return rows == columns


def _constants(enclosure: Enclosure) -> dict[str, Any]:
    square = is_square(enclosure)
    steepest, rows = norm_2(enclosure), enclosure.lipschitz_inf
    found = {
        "lipschitz_2": steepest,
        "lipschitz_inf": rows,
        "curvature_2": enclosure.curvature_2,
        "curvature_inf": enclosure.curvature_inf,
        "log_norm_2": log_norm_2(enclosure.ball, enclosure.jacobian, steepest) if square else None,
        "log_norm_inf": log_norm_inf(enclosure.jacobian, rows) if square else None,
    }
    # ∞ − ∞ and 0 · ∞ of formulas that exceed all numbers are no bound.
    return {name: math.inf if value != value else value for name, value in found.items()}


def least_constants(enclosures: list[Enclosure]) -> dict[str, Any]:
    """The least value of each constant over the enclosures; None if it does not apply."""
    found = [_constants(enclosure) for enclosure in enclosures]

    def least(name: str) -> float | None:
        values = [value for one in found if (value := one[name]) is not None]
        return min(values, default=None)

    return {name: least(name) for name in found[0]}


def norm_2(enclosure: Enclosure) -> float:
    """The least available bound of the 2-norm; for small sizes also by `norms.joint_norm`."""
    ball = enclosure.ball
    bound = min(enclosure.lipschitz_2, enclosure.ball_bound())
    if ball.right.numel() == 0 or max(ball.centre.shape) > JOINT_SIZE:
        return bound
    joint = joint_norm(ball.centre, ball.dense_left, ball.right, 0.0, JOINT_ROUNDS)
    return min(bound, above(joint + ball.radius))


def log_norm_2(ball: Ball, jacobian: Interval, bound: float) -> float:
    """An upper bound of λ_max(sym J) for every square J in both enclosures."""
    bounds = [bound]
    spread = interval_distance(jacobian)
    if math.isfinite(spread):
        bounds.append(largest_eigenvalue(jacobian.midpoint, spread))
    if ball.right.numel() == 0:
        bounds.append(largest_eigenvalue(ball.centre, ball.radius))
    else:
        rounds = JOINT_ROUNDS if len(ball.centre) <= JOINT_SIZE else 1
        joint = joint_eigenvalue(ball.centre, ball.dense_left, ball.right, 0.0, rounds)
        bounds += [above(joint + ball.radius), largest_eigenvalue(ball.centre, ball.distance)]
    return min(bounds)


def log_norm_inf(jacobian: Interval, bound: float) -> float:
    """An upper bound of max_i (J_ii + Σ_{j≠i} |J_ij|) for every J in the enclosure."""
    absolute = jacobian.magnitude.clone()
    absolute.diagonal().zero_()
    sums = jacobian.upper.diagonal() + row_sums(absolute)
    return min(bound, above(float(sums.max())))

"""Bounds on the fundamental matrix, one per grade (S9–S12)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from sdewm.sde.linear_moments import mean_square_growth_rate
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import (
    CERTIFICATE,
    ESTIMATE,
    CertifiedSystem,
    ConstantJacobians,
    Rates,
    block_slices,
    no_proof,
)
from sdewm.sde.system import StepSystem, System
from sdewm.theory.bounds import formulas
from sdewm.theory.bounds.bound import GradeBound, named_constants
from sdewm.theory.bounds.weighted_norms import WeightedNorm, constant_rates, reference_rates
from sdewm.theory.curve import NORMS, Curve

MATRIX_GRADES: tuple[str, ...] = ("gronwall", "log_norm", "weighted")
Pair = tuple[torch.Tensor, torch.Tensor]  # bounds of E‖Φ_t‖_F² and of its running supremum


@dataclass(frozen=True)
class GrowthConstants:
    """The constants of the bounds, each at its maximum over time.

    Attributes:
        alpha: ‖A‖.
        beta: λ_max(Σ_k A_kᵀA_k)^½.
        lambda_: λ = λ_max(sym A + ½ Σ A_kᵀA_k), the rate of E|Φv|² (S10).
        rho: ρ, the least rate in any weighted norm (S12). For varying Jacobians it is computed for
            their average over sampled paths and times, and is nan if D is too large.
        kappa: (sup_v Σ_k (vᵀA_k v)²)^½ (S11).
    """

    alpha: float
    beta: float
    lambda_: float
    rho: float
    kappa: float


def growth_bounds(
    system: System | StepSystem,
    states: torch.Tensor,
    noise: GaussianNoise,
    form: str,
    kind: str | None,
) -> tuple[Mapping[str, GradeBound], GrowthConstants | None]:
    """Grade -> bound, and the constants; ({}, None) for a step without `jacobians()`.

    Args:
        system: D components.
        states: initial states `(P, D)`.
        noise: the grid, and the increments of sampled paths.
        form: see `fundamental_matrix`.
        kind: see `fundamental_matrix`.

    Raises:
        ValueError: kind="certificate", but the system proves no rates from these states.
    """
    weighted, rates, rho, kinds = _available_rates(system, states, noise, kind)
    if rates is None:
        return {}, None
    size = states.shape[1]
    euclidean = (WeightedNorm.euclidean(rates.drift.new_empty(size, size)), rates)
    squares = {
        "gronwall": lambda: _gronwall(euclidean, noise.step_size, form),
        "log_norm": lambda: _lowest([euclidean], noise.step_size, form),
        "weighted": lambda: _lowest(weighted, noise.step_size, form),
    }
    constants = GrowthConstants(
        alpha=float(rates.drift.max()),
        beta=float(rates.noise.max()),
        lambda_=float(rates.log_norm[1].max()),
        rho=rho,
        kappa=float(rates.radial.max()),
    )
    bounds = {
        grade: GradeBound(grade, kinds[grade], _curves(*square(), noise), named_constants(rates))
        for grade, square in squares.items()
        if kind in (None, kinds[grade]) and (weighted or grade != "weighted")
    }
    return bounds, constants


class _Available(NamedTuple):
    """Rates in weighted norms, of which the Euclidean is the last; Euclidean rates; ρ; kinds."""

    weighted: list[tuple[WeightedNorm, Rates]]
    euclidean: Rates | None
    rho: float
    kinds: dict[str, str]


def _available_rates(
    system: System | StepSystem, states: torch.Tensor, noise: GaussianNoise, kind: str | None
) -> _Available:
    """Proven rates as far as the system has them and `kind` allows, else those of sampled paths.

    In float64 on the CPU, where the formulas are evaluated. A system given by its step has none.
    """
    exact = torch.empty(0, dtype=torch.float64)
    kinds = dict.fromkeys(MATRIX_GRADES, ESTIMATE)
    reason = no_proof(system)
    weighted: list[tuple[WeightedNorm, Rates]] = []
    rho = math.nan
    if isinstance(system, ConstantJacobians) and kind != ESTIMATE:
        drift, columns = (part.to(exact) for part in system.jacobians())
        weighted = constant_rates(drift, columns, noise.step_size, noise.steps)
        kinds = dict.fromkeys(MATRIX_GRADES, CERTIFICATE)
        rho = mean_square_growth_rate(drift, columns)
    elif isinstance(system, System):
        sampled, rho = reference_rates(system, states, noise)
        weighted = [(one, rates.to(exact)) for one, rates in sampled]
    euclidean = weighted[-1][1] if weighted else None
    if isinstance(system, CertifiedSystem) and kind != ESTIMATE and ESTIMATE in kinds.values():
        blocks = block_slices(system, None, states.shape[1])
        box = states.to(torch.float64).aminmax(dim=0)
        try:
            proven = system.certified_rates(*box, noise.step_size, blocks)
        except ValueError as problem:
            reason = f"{type(system).__name__} has no proof: {problem}"
        else:
            euclidean = proven.to(exact).repeated(noise.steps)
            kinds |= {"gronwall": CERTIFICATE, "log_norm": CERTIFICATE}
    if kind == CERTIFICATE and CERTIFICATE not in kinds.values():
        raise ValueError(f"kind='certificate': {reason}")
    return _Available(weighted, euclidean, rho, kinds)


def _gronwall(one: tuple[WeightedNorm, Rates], step_size: float, form: str) -> Pair:
    square = one[0].start * formulas.gronwall(one[1], step_size, form)["sup_square"]
    return square, square


def _lowest(pairs: Sequence[tuple[WeightedNorm, Rates]], step_size: float, form: str) -> Pair:
    """The lowest bounds of E‖Φ_t‖_F² and of E sup‖Φ‖_F² over weighted norms, at each time."""
    squares, suprema = [], []
    for one, rates in pairs:
        factors = formulas.log_norm(rates, step_size, form)
        squares.append(one.start * factors["mean_square"])
        suprema.append(one.start * factors["sup_square"])
    return torch.stack(squares).amin(0), torch.stack(suprema).amin(0)


def _curves(square: torch.Tensor, supremum: torch.Tensor, noise: GaussianNoise) -> dict[str, Curve]:
    values = (square.sqrt(), square, supremum.sqrt(), supremum)
    grid = noise.grid(torch.float64).numpy()
    return {
        name: Curve(grid, value.numpy(), np.zeros(len(grid)))
        for name, value in zip(NORMS, values, strict=True)
    }

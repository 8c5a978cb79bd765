"""Negative controls of the derivations: each drops one term of what was derived."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from paper_checks.derivations.assembly import TERMS
from paper_checks.derivations.block_structure import ROWS
from paper_checks.derivations.ito_correction import NOISE_JACOBIANS
from paper_checks.derivations.layer_norm import Q, U
from paper_checks.derivations.moments import NOISE_SIZE, Perturbed
from paper_checks.derivations.residual_form import STATE
from paper_checks.derivations.steps import Derivation


def drop_error_slope(derivation: Derivation) -> Derivation:
    """The second variation without 2 Dσ̄ y, the slope of the diffusion error (S1)."""

    def is_slope(part: sp.Basic) -> bool:
        if not isinstance(part, sp.Derivative):
            return False
        return part.expr.func.__name__.startswith(r"\bar{\sigma}")

    results = derivation.results
    return derivation.changed(
        {n: results[n].replace(is_slope, lambda _: sp.S.Zero) for n in results if n[0] == "w"}
    )


def drop_drift_curvature_of_loss(derivation: Derivation) -> Derivation:
    """The corollary as recalled: c₂ without ½ S̃ξξ (S4)."""
    return derivation.changed({"c2": derivation.results["c2"].subs(TERMS["S_drift"], 0)})


def drop_corrections(derivation: Derivation) -> Derivation:
    """Variation of constants as recalled, without the corrections −A_k σ̄_k and −A_k F_k (S3)."""
    none = dict.fromkeys(NOISE_JACOBIANS, 0)
    return derivation.changed({name: derivation.results[name].subs(none) for name in ("y", "w")})


def drop_sequence_correction(derivation: Derivation) -> Derivation:
    """The form as recalled: no Itô correction at all, also of second order (S6)."""
    return derivation.changed({name: 0 * derivation.results[name] for name in ROWS})


def drop_squared_error(system: Perturbed) -> Perturbed:
    """The covariance of the noise without the square of the error's diffusion (S5)."""
    covariance = {
        key: sp.expand(value).coeff(NOISE_SIZE, 0)
        + NOISE_SIZE * sp.expand(value).coeff(NOISE_SIZE, 1)
        for key, value in system.covariance.items()
    }
    return replace(system, covariance=covariance)


def drop_relaxation(derivation: Derivation) -> Derivation:
    """The drift as recalled, without −x/τ: a cumulative sum (S21)."""
    return derivation.changed({"drift": derivation.results["drift"].subs(STATE, 0)})


def freeze_statistics(derivation: Derivation) -> Derivation:
    """Layer normalisation differentiated with its variance held constant."""
    constant = {U: 0, Q: 0}
    names = ("first", "second")
    return derivation.changed({name: derivation.results[name].subs(constant) for name in names})

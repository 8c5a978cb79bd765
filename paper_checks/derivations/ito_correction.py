r"""Variation of constants for the variations, with Itô corrections (S3).

A differential is a pair: the factor of dt, and the factors of dB^1, …, dB^m. Itô's product rule is

    d(XY) = dX Y + X dY + Σ_k (dB^k-factor of X)(dB^k-factor of Y) dt,

for factors that do not commute, as matrices. Applied to Φ⁻¹Φ = I it confirms dΦ⁻¹; applied to
Φ⁻¹y, where dy is that of S1, it gives the forcings of S3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import sympy as sp

from paper_checks.derivations.steps import Derivation, Step, equation

DRIVERS = 2


def word(name: str) -> sp.Symbol:
    """A matrix or vector: a symbol that does not commute."""
    return sp.Symbol(name, commutative=False)


def _per_driver(name: str) -> tuple[sp.Symbol, ...]:
    return tuple(word(f"{name}_{{{k + 1}}}") for k in range(DRIVERS))


JACOBIAN, NOISE_JACOBIANS = word("A"), _per_driver("A")
FLOW, INVERSE = word(r"\Phi"), word(r"{\Phi^{-1}}")
Y, W, ERROR, ERROR_NOISE = word("y"), word("w"), word(r"\sigma"), _per_driver(r"\bar{\sigma}")
FORCING, NOISE_FORCING = word("F_{0}"), _per_driver("F")
DT, DB = word("{dt}"), tuple(word(f"{{dB^{{{k + 1}}}}}") for k in range(DRIVERS))


@dataclass(frozen=True)
class Differential:
    """dX = drift dt + Σ_k noise[k] dB^k."""

    drift: sp.Expr
    noise: tuple[sp.Expr, ...]

    def expression(self) -> sp.Expr:
        """The differential as one expression."""
        terms = [n * b for n, b in zip(self.noise, DB, strict=True)]
        return sp.expand(self.drift) * DT + sp.Add(*terms)


def product_rule(x: sp.Expr, dx: Differential, y: sp.Expr, dy: Differential) -> Differential:
    """Itô's product rule."""
    covariation = sp.Add(*(a * b for a, b in zip(dx.noise, dy.noise, strict=True)))
    drift = sp.expand(dx.drift * y + x * dy.drift + covariation)
    pairs = zip(dx.noise, dy.noise, strict=True)
    return Differential(drift, tuple(sp.expand(a * y + x * b) for a, b in pairs))


def ito_correction() -> Derivation:
    """S3. The results "y" and "w" are the factors of Φ⁻¹ dt in d(Φ⁻¹y) and d(Φ⁻¹w)."""
    flow = Differential(JACOBIAN * FLOW, tuple(a * FLOW for a in NOISE_JACOBIANS))
    squares = sp.Add(*(a**2 for a in NOISE_JACOBIANS))
    inverse = Differential(
        sp.expand(INVERSE * (squares - JACOBIAN)), tuple(-INVERSE * a for a in NOISE_JACOBIANS)
    )
    unit = product_rule(INVERSE, inverse, FLOW, flow)
    steps = [
        Step("The fundamental matrix solves", equation(r"d\Phi", flow.expression())),
        Step("Its inverse solves", equation(r"d(\Phi^{-1})", inverse.expression())),
        Step(
            r"because Itô's product rule then gives $d(\Phi^{-1}\Phi)=dI$:",
            equation(r"d(\Phi^{-1}\Phi)", unit.expression()),
        ),
    ]
    results = {}
    for vector, drift, noise in ((Y, ERROR, ERROR_NOISE), (W, FORCING, NOISE_FORCING)):
        own = Differential(
            JACOBIAN * vector + drift,
            tuple(a * vector + n for a, n in zip(NOISE_JACOBIANS, noise, strict=True)),
        )
        moved = product_rule(INVERSE, inverse, vector, own)
        pairs = zip(NOISE_JACOBIANS, noise, strict=True)
        forcing = drift - sp.Add(*(a * n for a, n in pairs))
        stated = Differential(INVERSE * forcing, tuple(INVERSE * n for n in noise))
        name = rf"d(\Phi^{{-1}} {vector.name})"
        steps += [
            Step("By S1 the variation solves", equation(f"d{vector.name}", own.expression())),
            Step("Itô's product rule gives", equation(name, moved.expression())),
            Step("This is the form of S3:", equation(name, stated.expression()), True),
        ]
        results[vector.name] = sp.expand(moved.drift.subs(INVERSE, sp.Integer(1)))
    title = "Variation of constants with the Itô corrections"
    return Derivation(title, "S3", tuple(steps), results)


def geometric_first_order(forcing: sp.Expr) -> sp.Expr:
    r"""P of O3 by variation of constants, with `forcing` for the factor of Φ⁻¹ dt in d(Φ⁻¹y).

    With weight Φ_T² and its mean e^(ρT), ρ = 2μ + ν², the Brownian motion has the drift 2ν, so that
    P = 2 x₀ e^(ρT) ∫₀ᵀ Ẽ[Φ_s⁻¹] (forcing + 2ν σ̄) ds with Ẽ[Φ_s⁻¹] = e^(−(μ + ν²)s).
    """
    mu, nu, bar, start, time = GEOMETRIC
    s, forced = sp.Symbol("s", positive=True), commuting(forcing, {"A": mu, "A_{1}": nu})
    forced = forced.subs({sp.Symbol(r"\sigma"): 0, sp.Symbol(r"\bar{\sigma}_{1}"): bar})
    forced = forced.subs({sp.Symbol("A_{2}"): 0, sp.Symbol(r"\bar{\sigma}_{2}"): 0})
    weight = sp.exp((2 * mu + nu**2) * time) * sp.exp(-(mu + nu**2) * s)
    return 2 * start * sp.integrate(weight * (forced + 2 * nu * bar), (s, 0, time))


GEOMETRIC = sp.symbols(r"\mu \nu \bar{\sigma} x_0 T", positive=True)


def commuting(expression: sp.Expr, values: Mapping[str, Any]) -> sp.Expr:
    """The expression for scalars: every word becomes its value, or a symbol of the same name."""
    words = expression.free_symbols
    return expression.subs({w: values.get(w.name, sp.Symbol(w.name)) for w in words})


def evaluate(expression: sp.Expr, values: Mapping[str, Any]) -> Any:
    """A sum of products of words for given matrices, multiplied in their order by `@`."""
    total = 0.0
    for term in sp.Add.make_args(sp.expand(expression)):
        factor, words = term.args_cnc()
        matrices = [values[w.name] for w in words]
        total = total + float(sp.Mul(*factor)) * reduce(lambda a, b: a @ b, matrices)
    return total

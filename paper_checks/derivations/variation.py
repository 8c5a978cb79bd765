r"""First and second variation of a path in the sizes of the error (S1, S5b).

The derivative of an Euler–Maruyama step in the sizes ε_n, ε_d is taken with the chain rule, where
the derivatives of the path are symbols of their own: with y^a = ∂x/∂ε_a and w^ab = ∂²x/∂ε_a∂ε_b the
total derivative of a function of (x, y, ε_n, ε_d) is

    d/dε_a = ∂/∂ε_a + Σ_i y^a_i ∂/∂x_i + Σ_b,i w^ab_i ∂/∂y^b_i.

Applied once and twice to the step, at ε = 0, it gives S5b. The factors of Δ and of the increments
ΔB^k are the coefficients of dt and of dB^k in S1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import sympy as sp

from paper_checks.derivations.steps import (
    Derivation,
    Step,
    equation,
    functions_of,
    same,
    symbols_of,
)

ETA, XI = "eta", "xi"  # directions: size ε_n of the diffusion error, size ε_d of the drift error
PAIRS = ((ETA, ETA), (ETA, XI), (XI, XI))
SIZES = {ETA: sp.Symbol("{\\varepsilon}_n"), XI: sp.Symbol("{\\varepsilon}_d")}
GREEK = {ETA: r"\eta", XI: r"\xi"}
LENGTH = sp.Symbol(r"\Delta", positive=True)


@dataclass(frozen=True)
class Jet:
    """A path of n states and its first and second derivatives in both sizes, as symbols."""

    states: int

    @cached_property
    def x(self) -> tuple[sp.Symbol, ...]:
        """The state."""
        return symbols_of("x", self.states)

    @cached_property
    def y(self) -> dict[str, tuple[sp.Symbol, ...]]:
        """First derivatives by direction."""
        return {a: symbols_of(f"{{y^{{{GREEK[a]}}}}}", self.states) for a in (ETA, XI)}

    @cached_property
    def w(self) -> dict[tuple[str, str], tuple[sp.Symbol, ...]]:
        """Second derivatives by pair of directions."""
        return {
            (a, b): symbols_of(f"{{w^{{{GREEK[a]}{GREEK[b]}}}}}", self.states) for a, b in PAIRS
        }

    def total(self, value: sp.Expr, a: str) -> sp.Expr:
        """The total derivative in the size of direction a."""
        terms = [sp.diff(value, SIZES[a])]
        terms += [y * sp.diff(value, x) for x, y in zip(self.x, self.y[a], strict=True)]
        for b in (ETA, XI):
            pair = (a, b) if (a, b) in PAIRS else (b, a)
            terms += [w * sp.diff(value, y) for w, y in zip(self.w[pair], self.y[b], strict=True)]
        return sp.Add(*terms)


@dataclass(frozen=True)
class Coefficients:
    """Unspecified coefficients of n states and m drivers, with their errors."""

    jet: Jet
    drivers: int

    @cached_property
    def drift(self) -> sp.Matrix:
        """g of (1), (n, 1)."""
        return self._column("g")

    @cached_property
    def error_drift(self) -> sp.Matrix:
        """σ, (n, 1)."""
        return self._column(r"\sigma")

    @cached_property
    def diffusion(self) -> list[sp.Matrix]:
        """ḡ_k, (n, 1) for each driver."""
        return self._columns(r"\bar{g}")

    @cached_property
    def error_diffusion(self) -> list[sp.Matrix]:
        """σ̄_k, (n, 1) for each driver."""
        return self._columns(r"\bar{\sigma}")

    @cached_property
    def increments(self) -> tuple[sp.Symbol, ...]:
        """ΔB^k."""
        if self.drivers == 1:
            return (sp.Symbol(r"{\Delta B}"),)
        return tuple(sp.Symbol(rf"{{\Delta B}}^{{{k + 1}}}") for k in range(self.drivers))

    def step(self) -> sp.Matrix:
        """The perturbed Euler–Maruyama step F of S5b."""
        moved = sp.Matrix(self.jet.x) + LENGTH * (self.drift + SIZES[XI] * self.error_drift)
        for k, increment in enumerate(self.increments):
            moved += (self.diffusion[k] + SIZES[ETA] * self.error_diffusion[k]) * increment
        return moved

    def _column(self, name: str) -> sp.Matrix:
        return sp.Matrix(functions_of(name, self.jet.states, self.jet.x))

    def _columns(self, name: str) -> list[sp.Matrix]:
        if self.drivers == 1:
            return [self._column(name)]
        return [self._column(f"{name}^{{{k + 1}}}") for k in range(self.drivers)]


@cache  # for the negative control, which changes a copy
def variation_equations(states: int = 1, drivers: int = 1) -> Derivation:
    """S5b for the Euler–Maruyama scheme, and S1 read from it, for unspecified coefficients.

    The results are the next values of "x", "y_eta", "y_xi", "w_eta_eta", "w_eta_xi" and "w_xi_xi".
    """
    jet = Jet(states)
    coefficients = Coefficients(jet, drivers)
    step, at_zero = coefficients.step(), dict.fromkeys(SIZES.values(), 0)
    steps = [
        Step("The Euler–Maruyama step of the perturbed equation (1) is", equation("x^+", step))
    ]
    results = {"x": step.subs(at_zero)}
    for a in (ETA, XI):
        derived = step.applyfunc(lambda entry, a=a: jet.total(entry, a)).subs(at_zero)
        name = f"y^{{{GREEK[a]}}}"
        text = f"Its total derivative in ${sp.latex(SIZES[a])}$, at zero, is the first variation"
        steps.append(Step(f"{text}:", equation(f"{{{name}}}^+", derived)))
        stated = _stated_first(coefficients, a)
        steps.append(Step("This is the form of S5b:", equation(f"{{{name}}}^+", stated), True))
        results[f"y_{a}"] = derived
    for a, b in PAIRS:
        derived = step.applyfunc(lambda e, a=a, b=b: jet.total(jet.total(e, a), b)).subs(at_zero)
        derived = derived.applyfunc(sp.expand)
        name = f"w^{{{GREEK[a]}{GREEK[b]}}}"
        sizes = " and ".join(f"${sp.latex(SIZES[c])}$" for c in (a, b))
        text = f"The second derivative in {sizes}, at zero, is the second variation:"
        steps.append(Step(text, equation(f"{{{name}}}^+", derived)))
        stated = _stated_second(coefficients, a, b)
        steps.append(Step("This is the form of S5b:", equation(f"{{{name}}}^+", stated), True))
        change = equation(f"d{name}", _differential(coefficients, derived, sp.Matrix(jet.w[a, b])))
        steps.append(Step(r"With $\Delta$ as $dt$ and $\Delta B$ as $dB$ this is S1:", change))
        results[f"w_{a}_{b}"] = derived
    title = "Variation equations from the derivative of an Euler–Maruyama step"
    return Derivation(title, "S1, S5b", tuple(steps), results)


def _linear(coefficients: Coefficients, column: sp.Matrix, vector: tuple) -> sp.Matrix:
    """D column · vector."""
    return column.jacobian(coefficients.jet.x) * sp.Matrix(vector)


def _curved(coefficients: Coefficients, column: sp.Matrix, u: tuple, v: tuple) -> sp.Matrix:
    """D² column [u, v]."""
    entries = (sp.Matrix(u).T * sp.hessian(e, coefficients.jet.x) * sp.Matrix(v) for e in column)
    return sp.Matrix([entry[0] for entry in entries])


def _step_along(coefficients: Coefficients, vector: tuple) -> sp.Matrix:
    """F_x · vector, with F_x = I + Δ A + Σ_k A_k ΔB^k."""
    total = sp.Matrix(vector) + LENGTH * _linear(coefficients, coefficients.drift, vector)
    for column, increment in zip(coefficients.diffusion, coefficients.increments, strict=True):
        total += _linear(coefficients, column, vector) * increment
    return total


def _error(coefficients: Coefficients, a: str) -> sp.Matrix:
    """The derivative of the step in the size of direction a: Δ σ, or Σ_k σ̄_k ΔB^k."""
    if a == XI:
        return LENGTH * coefficients.error_drift
    columns = zip(coefficients.error_diffusion, coefficients.increments, strict=True)
    return sum((c * increment for c, increment in columns), sp.zeros(coefficients.jet.states, 1))


def _stated_first(coefficients: Coefficients, a: str) -> sp.Matrix:
    return _step_along(coefficients, coefficients.jet.y[a]) + _error(coefficients, a)


def _stated_second(coefficients: Coefficients, a: str, b: str) -> sp.Matrix:
    """F_x w + F_xx[y^a, y^b] + D(error of a) y^b + D(error of b) y^a."""
    jet = coefficients.jet
    total = _step_along(coefficients, jet.w[a, b])
    total += LENGTH * _curved(coefficients, coefficients.drift, jet.y[a], jet.y[b])
    for column, increment in zip(coefficients.diffusion, coefficients.increments, strict=True):
        total += _curved(coefficients, column, jet.y[a], jet.y[b]) * increment
    total += _linear(coefficients, _error(coefficients, a), jet.y[b])
    return total + _linear(coefficients, _error(coefficients, b), jet.y[a])


def _differential(coefficients: Coefficients, moved: sp.Matrix, before: sp.Matrix) -> sp.Matrix:
    """The change in one step with dt and dB for Δ and ΔB; nothing of higher order occurs."""
    change = (moved - before).applyfunc(sp.expand)
    small = [LENGTH, *coefficients.increments]
    names = [sp.Symbol("{dt}"), *(sp.Symbol(f"{{d{b.name[7:]}") for b in coefficients.increments)]
    parts = [change.applyfunc(lambda entry, s=s: entry.coeff(s, 1)) for s in small]
    rest = change - sum((p * s for p, s in zip(parts, small, strict=True)), 0 * change)
    assert same(rest, 0 * rest), "a term is not linear in Δ and ΔB"
    return sum((p * n for p, n in zip(parts, names, strict=True)), 0 * change)

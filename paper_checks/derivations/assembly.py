"""The coefficients c₁ and c₂ as sums of the terms of S4, by Taylor's formula (S2, S4)."""

from __future__ import annotations

import sympy as sp

from paper_checks.derivations.steps import Derivation, Step, equation
from paper_checks.derivations.variation import ETA, PAIRS, XI, Jet

NAMES = {
    "P": "P",
    "P_drift": r"{\tilde P}",
    "Q": "Q",
    "S": "S",
    "Q_drift": r"{\tilde Q}",
    "S_cross": r"{\tilde S_\times}",
    "S_drift": r"{\tilde S_{\xi\xi}}",
}
TERMS = {name: sp.Symbol(text) for name, text in NAMES.items()}
FIRST = ("P", "P_drift")
SECOND = ("Q", "S", "Q_drift", "S_cross", "S_drift")


def assembly(states: int = 1) -> Derivation:
    """c₁ and c₂ on a path, for an unspecified loss and equal sizes ε_d = ε_n = ε.

    The second derivative of L(x^ε) is taken with the chain rule. The weights of the terms are then
    unknowns, and the identity "derivative = weighted sum of terms", which is to hold for all y and
    w, determines them. The results are the terms on a path, and "c1", "c2" as sums of `TERMS`.
    """
    jet = Jet(states)
    loss = sp.Function("L")(*jet.x)
    terms = path_terms(jet, loss)

    def both(value: sp.Expr) -> sp.Expr:
        return jet.total(value, ETA) + jet.total(value, XI)

    first, second = sp.expand(both(loss)), sp.expand(both(both(loss)) / 2)
    c1, c2 = (
        _weighted(jet, value, names, terms) for value, names in ((first, FIRST), (second, SECOND))
    )
    at = r"\big|_{\varepsilon=0}"
    steps = [
        Step("The first derivative of the loss along a path is", equation("c_1", first)),
        Step("As a sum of terms of S4 it is", equation("c_1", _insert(c1, terms)), True),
        Step("that is, in means,", equation("c_1", c1)),
        Step(
            "Half of the second derivative is",
            equation(rf"{{\tfrac12\,d^2L/d\varepsilon^2{at}}}", second),
        ),
        Step("As a sum of terms of S4 it is", equation("c_2", _insert(c2, terms)), True),
        Step("that is, in means, equation (2):", equation("c_2", c2)),
    ]
    title = "Assembly of the coefficients from the terms"
    return Derivation(title, "S2, S4", tuple(steps), {**terms, "c1": c1, "c2": c2})


def path_terms(jet: Jet, loss: sp.Expr) -> dict[str, sp.Expr]:
    """The terms of S4 on one path, before the expectation."""
    slope, curvature = sp.Matrix([loss]).jacobian(jet.x), sp.hessian(loss, jet.x)
    eta, xi = (sp.Matrix(jet.y[a]) for a in (ETA, XI))
    diffusion, mixed, drift = (sp.Matrix(jet.w[pair]) for pair in PAIRS)
    half = sp.Rational(1, 2)
    matrices = {
        "P": slope * eta,
        "P_drift": slope * xi,
        "Q": half * slope * diffusion,
        "S": eta.T * curvature * eta,
        "Q_drift": slope * mixed + half * slope * drift,
        "S_cross": xi.T * curvature * eta,
        "S_drift": xi.T * curvature * xi,
    }
    return {name: sp.expand(matrix[0]) for name, matrix in matrices.items()}


def _weighted(jet: Jet, value: sp.Expr, names: tuple, terms: dict[str, sp.Expr]) -> sp.Expr:
    """The weighted sum of the named terms that equals `value` for all variations."""
    weights = sp.symbols(f"a:{len(names)}")
    gap = value - sum(a * terms[name] for a, name in zip(weights, names, strict=True))
    variations = [*jet.y[ETA], *jet.y[XI], *(w for pair in PAIRS for w in jet.w[pair])]
    equations = [
        part
        for coefficient in sp.Poly(sp.expand(gap), *variations).coeffs()
        for part in sp.Poly(coefficient, *coefficient.atoms(sp.Derivative)).coeffs()
    ]
    (solution,) = sp.linsolve(equations, *weights)
    assert not any(entry.free_symbols for entry in solution), "a weight is not determined"
    return sum(a * TERMS[name] for a, name in zip(solution, names, strict=True))


def _insert(combination: sp.Expr, terms: dict[str, sp.Expr]) -> sp.Expr:
    return combination.subs({TERMS[name]: terms[name] for name in TERMS})

r"""First and second derivative of layer normalisation along a direction (section 8, item 6).

ŷ = y/s with the centred y of n numbers and s² = mean(y²) + ϵ. Along a direction whose centred form
is p, the input moves as y + θp, and s² is a quadratic polynomial in θ with the three means
v = mean(y²), u = mean(y p), q = mean(p²). Derivatives in θ at 0 are then those of one number, for
any n.
"""

from __future__ import annotations

import sympy as sp

from paper_checks.derivations.steps import Derivation, Step, equation

Y, P, U, THETA = sp.symbols(r"y_i p_i u \theta", real=True)
V, Q, FLOOR, S = sp.symbols(r"v q \epsilon s", positive=True)
UNIT, SLOPE = sp.symbols(r"{\hat{y}_i} c", real=True)  # ŷ_i = y_i/s and c = mean(ŷ p) = u/s
ARGUMENTS = (Y, P, V, U, Q, FLOOR)
SHARE, COSINE, COUNT = sp.symbols(r"w C n", positive=True)  # w = v/(v + ϵ), C = cos of the angle


def layer_norm() -> Derivation:
    """The derivatives of component i before gain and bias, and the largest second derivative.

    The results are "first" and "second" in `ARGUMENTS`, and "square": n ϵ² |D²ŷ[d, d]|² for a
    centred unit vector d at the angle with cosine C to y, in C and w.
    """
    moved = (Y + THETA * P) / sp.sqrt(V + 2 * THETA * U + THETA**2 * Q + FLOOR)
    first, second = (sp.diff(moved, THETA, k).subs(THETA, 0) for k in (1, 2))
    size = sp.sqrt(V + FLOOR)
    short = {"first": (P - UNIT * SLOPE) / S}
    short["second"] = (-2 * SLOPE * P + UNIT * (3 * SLOPE**2 - Q)) / S**2
    back = {UNIT: Y / size, SLOPE: U / size, S: size}
    square = _square(second)
    stated = SHARE * (1 - SHARE) ** 2
    stated *= 1 + COSINE**2 * (8 - 6 * SHARE) - COSINE**4 * 3 * SHARE * (4 - 3 * SHARE)
    derivative = r"\partial_\theta{0}\,\hat y_i(y+\theta p)\big|_{{\theta=0}}"
    left, left_second = (derivative.format(k) for k in ("", "^2"))
    name = r"n\epsilon^2\,|D^2\hat y[d,d]|^2"
    steps = (
        Step("Along the direction the component is", equation(r"\hat{y}_i(y+\theta p)", moved)),
        Step("Its first derivative is", equation(left, first)),
        Step(
            r"With $\hat y_i=y_i/s$, $c=u/s$ it is $(p_i-c\,\hat y_i)/s$:",
            equation(left, short["first"].subs(back)),
            True,
        ),
        Step("Its second derivative is", equation(left_second, second)),
        Step(
            r"This is $(-2c\,p_i+(3c^2-q)\,\hat y_i)/s^2$:",
            equation(left_second, short["second"].subs(back)),
            True,
        ),
        Step(
            "Summed over the squares of all components, for a unit vector at an angle to $y$,",
            equation(name, square),
        ),
        Step("this is a parabola in the squared cosine:", equation(name, stated), True),
    )
    results = {"first": first, "second": second, "square": square}
    return Derivation("Derivatives of layer normalisation", "section 8", steps, results)


def _square(second: sp.Expr) -> sp.Expr:
    """n ϵ² Σ_i (D²ŷ_i[d, d])², where y = t e, d = C e + √(1 − C²) e_⊥ and v = t²/n = ϵw/(1 − w)."""
    variance = FLOOR * SHARE / (1 - SHARE)
    length = sp.sqrt(COUNT * variance)
    means = {V: variance, U: length * COSINE / COUNT, Q: 1 / COUNT}
    total = sp.S.Zero
    for along, across in ((1, 0), (0, 1)):  # components along e and along e_⊥
        entry = {Y: length * along, P: COSINE * along + sp.sqrt(1 - COSINE**2) * across}
        total += second.subs(entry | means) ** 2
    return sp.factor(sp.simplify(COUNT * FLOOR**2 * total))

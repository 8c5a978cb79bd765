"""A recurrent step as one Euler–Maruyama step, for any relaxation time (S21, S27)."""

from __future__ import annotations

import sympy as sp

from paper_checks.derivations.steps import Derivation, Step, equation

TAU, STEP = sp.symbols(r"\tau \Delta", positive=True)
H, Z, XI = sp.symbols(r"h z \xi", real=True)
MEAN, FACTOR, STATE = sp.symbols("F G x", real=True)  # of the step x⁺ = F(x) + G(x) ξ


def residual_form() -> Derivation:
    """S21: drift (F − x)/τ and diffusion G/√τ with one step of length τ give F + G ξ.

    The results are "drift" and "diffusion" in (F, G, x, τ), and "determinant", that of the Jacobian
    of the joint step of (h, z) with z⁺ = m(h⁺) + s(h⁺) ξ.
    """
    drift, diffusion = (MEAN - STATE) / TAU, FACTOR / sp.sqrt(TAU)
    increment = sp.sqrt(STEP) * XI
    moved = STATE + STEP * drift + diffusion * increment
    sequence = sp.Function("f_d")(H, Z)
    inner = sp.Symbol("h^+", real=True)
    latent = sp.Function("m")(inner) + sp.Function(r"\mathsf{s}")(inner) * XI
    slope = sp.diff(latent, inner)
    row = sp.Matrix([[sp.diff(sequence, H), sp.diff(sequence, Z)]])
    jacobian = sp.Matrix.vstack(row, slope * row)
    steps = (
        Step("The drift of the residual form is", equation(r"\mathrm{drift}", drift)),
        Step("Its diffusion is", equation(r"\mathrm{diffusion}", diffusion)),
        Step(
            r"An Euler--Maruyama step of length $\Delta$ has $\Delta B=\sqrt\Delta\,\xi$:",
            equation("x^+", moved),
        ),
        Step(
            r"For $\Delta=\tau$ it is the recurrent step, for every $\tau$:",
            equation("x^+", moved.subs(STEP, TAU)),
        ),
        Step("that is,", equation("x^+", MEAN + FACTOR * XI), True),
        Step(r"A recurrent model draws $z$ after $h$:", equation("z^+", latent)),
        Step(
            r"By the chain rule the step of $(h,z)$ has the Jacobian $I+\Delta A$:",
            equation(r"I+\Delta A", jacobian),
        ),
        Step(
            "Its rows are proportional, so it is singular:",
            equation(r"\det(I+\Delta A)", sp.expand(jacobian.det())),
        ),
    )
    results = {"drift": drift, "diffusion": diffusion, "determinant": sp.expand(jacobian.det())}
    return Derivation("A recurrent step in residual form", "S21, S27", steps, results)

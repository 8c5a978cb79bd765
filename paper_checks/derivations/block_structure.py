"""Where the Itô corrections vanish for the block structure of the world model (S6, S7).

One component per block is enough to see which blocks meet. The state is (z, h, z̃, s̃, s), each
diffusion has its driver, and the error acts on the row of z and on the encoder's driver. The
diffusions of h and of s are functions of the state into which the policy is already inserted.
"""

from __future__ import annotations

import sympy as sp

from paper_checks.derivations.steps import Derivation, Step, equation

STATE = Z, H, Z_TILDE, S_TILDE, S = sp.symbols(r"z h {\tilde{z}} {\tilde{s}} s", real=True)
ROWS = ("enc", "seq", "pred", "dec", "env")  # drivers, in the order of the rows they act on
VARIATION = sp.Matrix([sp.Symbol(f"{{y_{{{x.name}}}}}", real=True) for x in STATE])
ENCODER_NOISE = sp.Function(r"\bar{q}_{\rm enc}")(H, S)
SEQUENCE_NOISE = sp.Function(r"\bar{f}")(H, Z)
TASK_NOISE = sp.Function(r"\bar{b}")(S, H, Z)
PREDICTOR_NOISE = sp.Function(r"\bar{p}")(H)
DECODER_NOISE = sp.Function(r"\bar{q}_{\rm dec}")(H, Z_TILDE)
ERROR_NOISE = sp.Function(r"\bar{\sigma}")(H, S)
ZERO = sp.zeros(len(STATE), 1)
FIRST = r"\textstyle\sum_kA_k\bar\sigma_k"


def block_structure(
    encoder: sp.Expr = ENCODER_NOISE, sequence: sp.Expr = SEQUENCE_NOISE, task: sp.Expr = TASK_NOISE
) -> Derivation:
    """The corrections of first and second order, for given diffusions of z, h and s.

    The results are "first", Σ_k A_k σ̄_k, and for each driver of `ROWS` the vector A_k F_k.
    """
    diffusions = (encoder, sequence, PREDICTOR_NOISE, DECODER_NOISE, task)
    columns = {name: _on_row(row, diffusions[row]) for row, name in enumerate(ROWS)}
    results = {"first": _first(columns)} | {name: _second(name, columns[name]) for name in ROWS}
    steps = [
        Step(
            "The Jacobian of the encoder's driver has a row $z$ only, and no column $z$:",
            equation(r"A_{\rm enc}", columns["enc"].jacobian(STATE)),
        ),
        Step(
            "The error has the entry $z$ only, so the correction of first order is",
            equation(FIRST, results["first"]),
        ),
    ]
    reads_latent = sp.Function(r"\bar{q}_{\rm enc}")(Z, H, S)
    steps.append(
        Step(
            "If the encoder's diffusion read $z$, it would be",
            equation(FIRST, _first(columns | {"enc": _on_row(0, reads_latent)})),
        )
    )
    for row, name in enumerate(ROWS):
        left = rf"A_{{\rm {name}}}F_{{\rm {name}}}"
        text = rf"For $F_{{\rm {name}}}=D^2\bar g[y,y]+2D\bar\sigma y$ the second order has"
        steps.append(Step(text, equation(left, results[name])))
        if name in ("seq", "env"):
            stated = sp.diff(diffusions[row], STATE[row]) * _curved(columns[name])[row]
            text = "This is the slope times the curvature of the diffusion:"
            steps.append(Step(text, equation(left, _on_row(row, stated)), True))
    constants = sp.symbols("c_0 c_1 c_2")
    affine = constants[0] + constants[1] * H + constants[2] * Z
    left = r"A_{\rm seq}F_{\rm seq}"
    for text, special in (
        ("If the sequence model's diffusion is jointly affine,", affine),
        ("If it does not depend on $h$,", sp.Function(r"\bar{f}")(Z)),
    ):
        steps.append(Step(text, equation(left, _second("seq", _on_row(1, special)))))
    title = "Itô corrections under the block structure"
    return Derivation(title, "S6, S7", tuple(steps), results)


def _error(name: str) -> sp.Matrix:
    return _on_row(0, ERROR_NOISE) if name == "enc" else ZERO


def _first(columns: dict[str, sp.Matrix]) -> sp.Matrix:
    """Σ_k A_k σ̄_k."""
    return sum((columns[name].jacobian(STATE) * _error(name) for name in ROWS), ZERO)


def _second(name: str, column: sp.Matrix) -> sp.Matrix:
    """A_k F_k with F_k = D²ḡ_k[y, y] + 2 Dσ̄_k y."""
    forcing = _curved(column) + 2 * _error(name).jacobian(STATE) * VARIATION
    return column.jacobian(STATE) * forcing


def _on_row(row: int, value: sp.Expr) -> sp.Matrix:
    return sp.Matrix([value if i == row else 0 for i in range(len(STATE))])


def _curved(column: sp.Matrix) -> sp.Matrix:
    """D² column [y, y]."""
    return sp.Matrix([(VARIATION.T * sp.hessian(e, STATE) * VARIATION)[0] for e in column])

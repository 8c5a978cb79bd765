"""Sympy shows where the block structure makes the Ito corrections vanish (S3, S6, S7)."""

import pytest
import sympy as sp

# One component per block is enough to see which blocks meet.
Z, H, Z_TILDE, S_TILDE, S = sp.symbols("z h z_tilde s_tilde s", real=True)
CLOSED = (Z, H, Z_TILDE, S_TILDE, S)
Y = sp.Matrix(sp.symbols("y_z y_h y_zt y_st y_s", real=True))


def jacobian(column):
    return column.jacobian(sp.Matrix(CLOSED))


def second_forcing(column, error):
    """F_k = D^2 g_k[y, y] + 2 D sigma_bar_k y (S3)."""
    curvature = sp.Matrix([(Y.T * sp.hessian(entry, CLOSED) * Y)[0] for entry in column])
    return curvature + 2 * jacobian(error) * Y


def world_model_drivers(f_bar, b_bar=sp.S.Zero, q_bar=None):
    """Columns of g-bar per driver: encoder, sequence, predictor, decoder, environment."""
    q_bar = sp.Function("q_bar")(H, S) if q_bar is None else q_bar
    p_bar, d_bar = sp.Function("p_bar")(H), sp.Function("d_bar")(H, Z_TILDE)
    entries = {
        "enc": (0, q_bar),
        "seq": (1, f_bar),
        "pred": (2, p_bar),
        "dec": (3, d_bar),
        "env": (4, b_bar),
    }
    return {
        name: sp.Matrix([value if i == row else 0 for i in range(5)])
        for name, (row, value) in entries.items()
    }


ERROR = {
    name: sp.Matrix([sp.Function("sigma_bar")(H, S) if name == "enc" else 0, 0, 0, 0, 0])
    for name in ("enc", "seq", "pred", "dec", "env")
}
POLICY = sp.Function("pi")(H, Z)
GENERAL_F_BAR = sp.Function("f_bar")(H, Z, POLICY)
GENERAL_B_BAR = sp.Function("b_bar")(S, POLICY)


def correction(columns, name):
    """A_k F_k, simplified."""
    return sp.simplify(
        (jacobian(columns[name]) * second_forcing(columns[name], ERROR[name])).doit()
    )


def test_first_order_ito_correction_vanishes_for_the_block_structure():
    columns = world_model_drivers(GENERAL_F_BAR, GENERAL_B_BAR)
    total = sum((jacobian(columns[k]) * ERROR[k] for k in columns), sp.zeros(5, 1))
    assert total == sp.zeros(5, 1)
    # An independent driver carries sigma_bar with g_bar = 0, so A = 0 there.
    assert jacobian(sp.zeros(5, 1)) * ERROR["enc"] == sp.zeros(5, 1)


def test_encoder_diffusion_that_reads_z_brings_the_correction_back():
    columns = world_model_drivers(GENERAL_F_BAR, q_bar=sp.Function("q_bar")(Z, H, S))
    first = jacobian(columns["enc"]) * ERROR["enc"]
    assert first[0] == sp.diff(columns["enc"][0], Z) * ERROR["enc"][0]
    assert first != sp.zeros(5, 1)


def test_second_order_corrections_vanish_except_in_the_sequence_row():
    columns = world_model_drivers(GENERAL_F_BAR)
    for name in ("enc", "pred", "dec"):
        assert correction(columns, name) == sp.zeros(5, 1), name
    sequence = correction(columns, "seq")
    f_bar = columns["seq"][1]
    stated = sp.diff(f_bar, H) * (Y.T * sp.hessian(f_bar, CLOSED) * Y)[0]
    assert sp.simplify((sequence[1] - stated).doit()) == 0
    assert sequence[1] != 0
    assert [sequence[i] for i in (0, 2, 3, 4)] == [0, 0, 0, 0]


AFFINE_POLICY = 2 * H - Z + 1


@pytest.mark.parametrize(
    ("f_bar", "vanishes"),
    [
        (sp.S.Zero, True),
        (sp.Function("f_bar")(Z), True),  # independent of h
        (3 + 2 * H - 5 * Z + 7 * AFFINE_POLICY, True),  # jointly affine, policy included
        (Z * H, False),  # affine in each argument, not jointly
        (1 + H + Z + sp.tanh(Z), False),  # affine in (h, z, a), but the policy a = tanh z is not
        (sp.sin(H), False),
    ],
)
def test_condition_for_the_sequence_correction_to_vanish(f_bar, vanishes):
    result = correction(world_model_drivers(f_bar), "seq")
    assert (result == sp.zeros(5, 1)) is vanishes


@pytest.mark.parametrize(
    ("b_bar", "vanishes"),
    [
        (sp.Function("b_bar")(POLICY), True),  # independent of s
        (1 + 2 * S + 3 * AFFINE_POLICY, True),
        (S * AFFINE_POLICY, False),
        (GENERAL_B_BAR, False),
    ],
)
def test_condition_for_the_closed_loop_correction_to_vanish(b_bar, vanishes):
    columns = world_model_drivers(GENERAL_F_BAR, b_bar)
    assert (correction(columns, "env") == sp.zeros(5, 1)) is vanishes
    assert jacobian(columns["env"]) * ERROR["env"] == sp.zeros(5, 1)  # first order: still none

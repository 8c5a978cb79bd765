"""One hidden unit at a point where a single term of the formulas is left, and attained."""

import math

import pytest
import torch
from torch import nn

import sdewm

OPEN, SHUT = 40.0, -40.0  # biases at which a gate is 1, or 0
AT = 0.7
SIGMOID = 1 / (1 + math.exp(-AT))
SLOPE = SIGMOID * (1 - SIGMOID)
BEND = SLOPE * (2 * SIGMOID - 1)  # |σ''|
TANH_BEND = 2 * math.tanh(AT) * (1 - math.tanh(AT) ** 2)


def certificate(point, width=1e-9, **weights):
    """Of a cell with the weights w (input), u (hidden), b, d (their biases) of gates r, z, n."""
    cell = nn.GRUCell(1, 1, dtype=torch.float64)
    for parameter, letter in (
        (cell.weight_ih, "w"),
        (cell.weight_hh, "u"),
        (cell.bias_ih, "b"),
        (cell.bias_hh, "d"),
    ):
        values = [[weights.get(f"{letter}_{gate}", 0.0)] for gate in "rzn"]
        parameter.data = torch.tensor(values, dtype=torch.float64).reshape(parameter.shape)
    centre = torch.tensor(point, dtype=torch.float64)
    return sdewm.certify(cell, (centre - width, centre + width))


@pytest.mark.parametrize(
    ("point", "weights", "exact"),
    [
        # n = tanh(r q), r and q of h: 2 r' U_r U_n at h = 0
        ((0.0, 0.0), {"b_z": SHUT, "u_r": 1.5, "u_n": 2.0}, 2 * 0.25 * 1.5 * 2.0),
        # z of h: 2 z' U_z at h = n = 0
        ((0.0, 0.0), {"u_z": 1.5}, 2 * 0.25 * 1.5),
        # z of x: (h − n) z'' W_z², above which 2 z' W_z (Dh) is small
        ((0.0, 0.5), {"w_z": 1e5, "b_z": AT}, 0.5 * BEND * 1e10),
        # n = tanh(a_n): n'' W_n²
        ((0.0, 0.0), {"b_z": SHUT, "w_n": 1.5, "b_n": AT}, TANH_BEND * 1.5**2),
        # n = tanh(r q + a_n) with r q + a_n = 0 and q constant: q r'' W_r²
        (
            (0.0, 0.0),
            {"b_z": SHUT, "w_r": 1.5, "b_r": AT, "d_n": 2.0, "b_n": -2.0 * SIGMOID},
            2.0 * BEND * 1.5**2,
        ),
    ],
    ids=["reset-times-state", "update-times-state", "update-bend", "candidate-bend", "reset-bend"],
)
def test_the_curvature_is_that_of_the_term(point, weights, exact):
    found = certificate(point, **weights)
    for name in ("curvature_2", "curvature_inf"):
        assert exact * (1 - 1e-12) <= getattr(found, name) < exact * 1.001, name


def test_a_kept_state_has_the_derivative_one():
    found = certificate((0.0, 0.3), b_z=OPEN)
    assert 1.0 <= found.lipschitz_2 < 1.0 + 1e-6
    assert 1.0 <= found.parts["hidden"].lipschitz_2 < 1.0 + 1e-6


def test_a_fresh_state_has_the_derivative_of_the_candidate_in_the_input():
    found = certificate((0.0, 0.3), b_z=SHUT, w_n=1.5)
    assert 1.5 <= found.parts["input"].lipschitz_2 < 1.5 + 1e-6


@pytest.mark.parametrize("state", [0.5, -0.5])
def test_the_next_state_lies_between_candidate_and_state(state):
    found = certificate((0.0, state), b_n=5.0, width=0.1)
    low, high = (float(end) for end in found.output)
    for h in (state - 0.1, state, state + 0.1):
        assert low <= 0.5 * (math.tanh(5.0) + h) <= high
    assert high - low < 0.2 + 1e-9

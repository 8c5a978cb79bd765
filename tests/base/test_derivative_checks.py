"""Automatic derivatives against differences, where these are not conclusive and where they are."""

import pytest
import torch
from torch.nn import functional

from sdewm.base.derivative_checks import check_derivatives


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


def cube_with_a_wrong_curvature(x):
    held = x.detach()
    return (3 * held**2 * x - 2 * held**3,)  # x³ and 3x², but 0 for 6x


@pytest.mark.parametrize("x", [-1e-7, -1e-4, 0.0, 1e-9, 1e-5, 0.3, -0.3])
def test_a_jump_of_the_second_derivative_is_not_an_error(x):
    check_derivatives("elu", lambda x: (functional.elu(x),), (row(x, 1.0),))


@pytest.mark.parametrize("x", [0.3, 1.0])
def test_a_wrong_second_derivative_is_one_beside_a_jump_as_well(x):
    for function in (
        cube_with_a_wrong_curvature,
        lambda x: (cube_with_a_wrong_curvature(x)[0][:, :1] + 0.1 * functional.elu(x[:, 1:]),),
    ):
        with pytest.raises(ValueError, match="the second derivative of it is wrong"):
            check_derivatives("it", function, (row(x, 1e-9),))

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


def determinant(x):
    return (torch.linalg.det(x.reshape(-1, 2, 2)),)


@pytest.mark.parametrize("rate", [1.0, 1e-6, 1e-12])
def test_a_wrong_derivative_of_a_slow_system_is_one_as_well(rate):
    x = row(0.7, 0.2, -0.3, 0.9)
    with pytest.raises(ValueError, match="the second derivative of it is wrong"):
        check_derivatives("it", lambda x: (rate * determinant(x)[0],), (x,))
    check_derivatives("it", lambda x: (rate * (x[:, 0] * x[:, 3] - x[:, 1] * x[:, 2]),), (x,))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("constant", [1.0, 1e3])
def test_a_small_difference_of_large_numbers_is_not_an_error(constant, dtype):
    x = torch.linspace(-1, 1, 40, dtype=dtype).reshape(8, 5)
    check_derivatives("it", lambda x: ((1e-3 * torch.sin(x) + constant) - constant,), (x,))
    check_derivatives("it", lambda x: (x.sin() ** 2 + x.cos() ** 2 - 1,), (x,))


def test_a_value_that_is_no_number_beside_it_hides_no_wrong_derivative():
    with pytest.raises(ValueError, match="the second derivative of it is wrong"):
        check_derivatives(
            "it",
            lambda x: (torch.cat([cube_with_a_wrong_curvature(x)[0][:, :1], x[:, 1:].sqrt()], 1),),
            (row(0.7, 1e-9),),
        )

"""Enclosed rollouts of one path: never below an attack or exact arithmetic, and abstentions."""

import math

import mpmath
import pytest
import torch
from torch import nn

from sdewm.certificates.enclosure.attack import attack_path
from sdewm.certificates.enclosure.rollout import (
    enclose_path,
    propagate,
    radius_of,
    start_set,
)
from sdewm.certificates.enclosure.taylor_set import TaylorSet
from tests.certificates.random_networks import Draw

SIZE = 4
WEIGHT = 1.2 * torch.linalg.qr(Draw(0).normal(SIZE, SIZE)).Q
INPUT = Draw(1).normal(30, SIZE)


def tanh_step(n, x):
    return torch.tanh(x @ WEIGHT + 0.5 * INPUT[n])


def enclosed_path(step, x0, radius, directions=None, steps=12, order=2, columns=200):
    directions = torch.eye(len(x0)).double() if directions is None else directions
    return enclose_path(step, x0, directions, radius, steps=steps, order=order, columns=columns)


START = 0.3 * Draw(2).normal(SIZE)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("radius", [1e-13, 1e-8, 1e-4, 0.01, 0.1])
def test_bounds_are_never_below_an_attack(radius, order):
    found = enclosed_path(tanh_step, START, radius, order=order)
    attacked = attack_path(
        tanh_step, START, radius * torch.eye(SIZE).double(), steps=12, seed=0, samples=100
    )
    known = torch.isfinite(found.bounds)
    assert (attacked[known] <= found.bounds[known]).all()
    if 1e-10 < radius < 0.05:
        assert known.all()
        assert (found.bounds / attacked).max() < (1.02 if order == 2 else 1.5)


def test_few_symbols_are_enough_for_a_bound():
    found = enclosed_path(tanh_step, START, 0.05, columns=10)
    attacked = attack_path(tanh_step, START, 0.05 * torch.eye(SIZE).double(), steps=12, seed=0)
    assert (attacked <= found.bounds).all()


def exact_path(start, steps):
    """The states at 60 digits."""
    weight, states = mpmath.matrix(WEIGHT.tolist()), [list(start)]
    for n in range(steps):
        mixed = [mpmath.fdot(zip(states[-1], weight[:, j], strict=True)) for j in range(SIZE)]
        given = [mpmath.mpf(v) / 2 for v in INPUT[n].tolist()]
        states.append([mpmath.tanh(a + b) for a, b in zip(mixed, given, strict=True)])
    return states


def test_exact_rollouts_are_within_the_bounds_also_for_errors_below_rounding():
    """|X_k(e) − X_k(0)| at 60 digits; for the radius 1e-17 the bound is that of rounding."""
    start = [mpmath.mpf(x) for x in START.tolist()]
    with mpmath.workdps(60):
        reference = exact_path(start, 6)
        for radius in (1e-17, 1e-12, 1e-3):
            here = start_set(START, torch.eye(SIZE).double(), radius, 2)
            zero = start_set(START, torch.zeros(SIZE, 0).double(), 0.0, 2)
            bounds = []
            sets = propagate(tanh_step, here, 6, 100)
            for one, exact in zip(sets, propagate(tanh_step, zero, 6, 100), strict=True):
                shift = float((one.centre - exact.centre).norm())
                bounds.append(radius_of(one)[0] + shift + radius_of(exact)[0])
            for axis in range(SIZE):
                moved = [x + (mpmath.mpf(radius) if i == axis else 0) for i, x in enumerate(start)]
                for k, state in enumerate(exact_path(moved, 6)):
                    gaps = [a - b for a, b in zip(state, reference[k], strict=True)]
                    assert mpmath.norm(gaps) <= bounds[k]


def test_the_reference_is_enclosed_up_to_rounding_component_by_component():
    with mpmath.workdps(60):
        exact, missed = exact_path([mpmath.mpf(x) for x in START.tolist()], 20), []
        zero = start_set(START, torch.zeros(SIZE, 0).double(), 0.0, 2)
        for k, here in enumerate(propagate(tanh_step, zero, 20, 100)):
            for i in range(SIZE):
                gap = abs(exact[k][i] - mpmath.mpf(here.centre[0, i].item()))
                assert gap <= here.reach[0, i].item()
                missed.append(gap > 0)
        assert here.reach.max() < 1e-9
    assert sum(missed) > 40  # the computed reference is not the exact one


def test_another_order_of_the_sums_gives_the_same_bound_up_to_rounding():
    order = torch.tensor([2, 0, 3, 1])

    def permuted(n, x):
        return torch.tanh(x[:, order] @ WEIGHT[order] + 0.5 * INPUT[n])

    def in_two_parts(n, x):
        return torch.tanh(x[:, :1] @ WEIGHT[:1] + (x[:, 1:] @ WEIGHT[1:] + 0.5 * INPUT[n]))

    first = enclosed_path(tanh_step, START, 0.03).bounds
    for step in (permuted, in_two_parts):
        assert torch.allclose(enclosed_path(step, START, 0.03).bounds, first, rtol=1e-6)
        attacked = attack_path(step, START, 0.03 * torch.eye(SIZE).double(), steps=12, seed=1)
        assert (attacked <= first).all()


def test_an_ellipsoid_is_enclosed_by_its_directions():
    directions = Draw(3).normal(SIZE, 2)
    found = enclosed_path(tanh_step, START, 0.02, directions)
    attacked = attack_path(tanh_step, START, 0.02 * directions, steps=12, seed=0)
    assert (attacked <= found.bounds).all()
    assert (found.bounds / attacked).max() < 1.05


def linear_step(n, x):
    return x @ torch.diag(torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64))


def test_a_linear_rollout_has_the_exact_bound():
    found = enclosed_path(linear_step, START, 0.5, steps=5)
    assert torch.allclose(found.bounds, 0.5 * 2.0 ** torch.arange(6.0).double(), rtol=1e-9)
    assert torch.equal(torch.isfinite(found.linear), torch.ones(6).bool())


def test_an_enclosure_abstains_with_step_and_reason_and_gives_no_later_bound():
    def square(n, x):
        return x + 0.5 * x * x

    found = enclosed_path(square, torch.zeros(SIZE).double(), 0.5, steps=12)
    assert found.abstains is not None
    assert "times the error to first order" in found.reason
    assert torch.isfinite(found.bounds[: found.abstains]).all()
    assert torch.isinf(found.bounds[found.abstains :]).all()
    assert (found.bounds <= 10.0 * found.linear)[: found.abstains].all()

    def pole(n, x):
        return 1.0 / (1.0 - n * x)

    found = enclosed_path(pole, torch.zeros(SIZE).double(), 0.8)
    assert found.abstains == 1 or "no longer bounded after __rtruediv__" in found.reason


def test_bounds_contain_the_uncertainty_of_the_reference():
    """For a radius of rounding errors, twice what rounding does to a rollout."""
    found = enclosed_path(tanh_step, START, 1e-12, steps=4).bounds
    zero = start_set(START, torch.zeros(SIZE, 0).double(), 0.0, 2)
    uncertain = [radius_of(one)[0] for one in propagate(tanh_step, zero, 4, 100)]
    ball = start_set(START, torch.eye(SIZE).double(), 1e-12, 2)
    sizes = [radius_of(one)[0] for one in propagate(tanh_step, ball, 4, 200)]
    expected = [a + b for a, b in zip(sizes, uncertain, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    assert uncertain[4] > 0.1 * sizes[4]


def test_bounds_contain_the_distance_of_the_centres():
    """Two runs of the same step need not round alike; here the second one is moved by 1e-3."""
    calls = []

    def step(n, x):
        calls.append(n)
        return x + (1e-3 if calls.count(n) == 2 else 0.0)

    found = enclosed_path(step, START, 0.1, steps=1).bounds
    assert found[1].item() == pytest.approx(0.1 + 2e-3, rel=1e-9)  # of length 1e-3 √4


def test_the_start_contains_sums_rounded_to_float64():
    ball = start_set(START, torch.eye(SIZE).double(), 1e-3, 2)
    assert (ball.box >= 2.0**-53 * START.abs()).all()


def test_a_step_that_ignores_the_state_is_refused():
    with pytest.raises(ValueError, match="does not depend on the state"):
        enclosed_path(lambda n, x: torch.zeros(1, SIZE).double(), START, 0.1)


def test_the_radius_of_a_set_is_the_least_of_its_bounds():
    """Linear part, matricised quadratic part and rest, or the components together."""
    zero = torch.zeros(1, 2).double()
    linear = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]).double()
    form, rest = torch.zeros(1, 2, 2, 2).double(), torch.tensor([[[0.5], [0.0]]]).double()
    assert radius_of(TaylorSet(zero, linear, form, rest, zero)) == pytest.approx((4.5, 4.0))
    form = form.clone()
    form[0, 0, 0, 1] = form[0, 1, 1, 0] = 1.0  # e₀ e₁ in both: norm 1, not √2
    found = radius_of(TaylorSet(zero, 0.0 * linear, form, 0.0 * rest, zero + 0.1))
    assert found[0] == pytest.approx(1.0 + 0.1 * math.sqrt(2.0))


def test_a_model_in_plain_torch_with_block_gru_and_rms_norm_is_enclosed():
    torch.manual_seed(0)
    blocks = [nn.GRUCell(3, 4).double() for _ in range(2)]
    norm, head = nn.RMSNorm(8, eps=1e-4).double(), nn.Linear(8, 4).double()

    def step(n, x):
        h, z = x[:, :8], x[:, 8:]
        parts = [cell(z, part) for cell, part in zip(blocks, h.chunk(2, -1), strict=True)]
        h = torch.cat(parts, -1)
        mean, free = head(norm(h)).chunk(2, -1)
        return torch.cat([h, (mean + torch.sigmoid(free) * INPUT[n, :2]), mean[:, :1]], -1)

    x0 = 0.3 * Draw(4).normal(11)
    found = enclosed_path(step, x0, 0.01, steps=8, columns=300)
    attacked = attack_path(step, x0, 0.01 * torch.eye(11).double(), steps=8, seed=0)
    assert (attacked <= found.bounds).all()
    assert (found.bounds / attacked).max() < 1.1

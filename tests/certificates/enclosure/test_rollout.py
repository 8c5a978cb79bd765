"""Enclosed rollouts of one path: never below an attack or exact arithmetic, and abstentions."""

import math

import mpmath
import pytest
import torch
from torch import nn

from sdewm.certificates.enclosure.attack import attack_path
from sdewm.certificates.enclosure.rollout import Propagation, Reference, distance, follow
from sdewm.certificates.enclosure.slabs import start_sets
from sdewm.certificates.enclosure.taylor_set import MixedRows, TaylorSet
from tests.certificates.random_networks import Draw

SIZE = 4
WEIGHT = 1.2 * torch.linalg.qr(Draw(0).normal(SIZE, SIZE)).Q
INPUT = Draw(1).normal(30, SIZE)


def tanh_step(n, x):
    return torch.tanh(x @ WEIGHT + 0.5 * INPUT[n])


def enclosed_path(step, x0, radius, directions=None, steps=12, order=2, columns=200):
    directions = torch.eye(len(x0)).double() if directions is None else directions
    return enclosed_rows(
        step, start_sets(x0[None], radius * directions[None], order), x0, steps, columns
    ).largest()


def enclosed_rows(step, start, x0, steps=12, columns=200):
    paths, reference = torch.zeros(len(start.centre)).long(), Reference(step, x0[None], steps, None)
    return follow(step, start, reference, paths=paths, steps=steps, columns=columns)


def ball(x0, radius):
    """The set of x0 and all errors up to a radius; 0: of x0 alone."""
    size = SIZE if radius else 0
    return start_sets(x0[None], radius * torch.eye(SIZE).double()[None, :, :size], 2)


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
            sets, references = (
                Propagation(tanh_step, ball(START, size), 6, 100) for size in (radius, 0.0)
            )
            bounds = [
                distance(here.values, exact.values)[0]
                for here, exact in zip(sets, references, strict=True)
            ]
            for axis in range(SIZE):
                moved = [x + (mpmath.mpf(radius) if i == axis else 0) for i, x in enumerate(start)]
                for k, state in enumerate(exact_path(moved, 6)):
                    gaps = [a - b for a, b in zip(state, reference[k], strict=True)]
                    assert mpmath.norm(gaps) <= bounds[k]


def test_the_reference_is_enclosed_up_to_rounding_component_by_component():
    with mpmath.workdps(60):
        exact, missed = exact_path([mpmath.mpf(x) for x in START.tolist()], 20), []
        for k, followed in enumerate(Propagation(tanh_step, ball(START, 0.0), 20, 100)):
            here = followed.values
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
    found = enclosed_path(tanh_step, START, 1e-12, steps=3).bounds
    references = [one.values for one in Propagation(tanh_step, ball(START, 0.0), 3, 100)]
    uncertain = [float(one.reach.norm()) for one in references]
    sizes = [
        distance(
            one.values, TaylorSet(one.values.centre, *(0.0 * part for part in exact.parts[1:]))
        )[0]
        for one, exact in zip(
            Propagation(tanh_step, ball(START, 1e-12), 3, 200), references, strict=True
        )
    ]
    expected = [a + b for a, b in zip(sizes, uncertain, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    assert uncertain[3] > 0.1 * sizes[3]


def test_bounds_contain_the_distance_of_the_centres():
    """Two computations of a step need not round alike; here the reference's is moved by 1e-3."""
    found = follow(
        lambda n, x: x,
        ball(START, 0.1),
        Reference(lambda n, x: x + 1e-3, START[None], 1, None),
        paths=torch.zeros(1).long(),
        steps=1,
        columns=50,
    )
    assert found.bounds[0, 1].item() == pytest.approx(0.1 + 2e-3, rel=1e-9)  # of length 1e-3 √4


def test_the_start_contains_sums_rounded_to_float64():
    assert (ball(START, 1e-3).box >= 2.0**-53 * START.abs()).all()


def test_a_step_that_ignores_the_state_is_refused():
    with pytest.raises(ValueError, match="returns Tensor: expected one tensor"):
        enclosed_path(lambda n, x: torch.zeros(1, SIZE).double(), START, 0.1)


def test_the_radius_of_a_set_is_the_least_of_its_bounds():
    """Linear part, matricised quadratic part and rest, or the components together."""
    zero = torch.zeros(1, 2).double()
    linear = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]).double()
    form, rest = torch.zeros(1, 2, 2, 2).double(), torch.tensor([[[0.5], [0.0]]]).double()
    point = TaylorSet(zero, 0.0 * linear[..., :0], form[..., :0, :0], rest[..., :0], zero)
    found = distance(TaylorSet(zero, linear, form, rest, zero), point)
    assert found == pytest.approx((4.5, 4.0))
    form = form.clone()
    form[0, 0, 0, 1] = form[0, 1, 1, 0] = 1.0  # e₀ e₁ in both: norm 1, not √2
    found = distance(TaylorSet(zero, 0.0 * linear, form, 0.0 * rest, zero + 0.1), point)
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


def test_the_error_to_first_order_is_that_of_shift_and_linear_part_together():
    """|d + M e|² ≤ |d|² + 2 |Mᵀ d| + |M|²: attained where the shift has the leading direction."""
    zero, shift = torch.zeros(1, 2).double(), torch.tensor([[3.0, 0.0]]).double()
    form, rest = torch.zeros(1, 2, 2, 2).double(), torch.zeros(1, 2, 0).double()
    point = TaylorSet(zero, rest, form[..., :0, :0], rest, zero)
    for linear, expected in (([[2.0, 0.0], [0.0, 1.0]], 5.0), ([[0.0, 0.0], [0.0, 4.0]], 5.0)):
        matrix = torch.tensor([linear]).double()
        found = distance(TaylorSet(shift, matrix, form, rest, zero), point)
        assert found == pytest.approx((expected, expected))


def test_rows_have_the_bounds_of_one_row_at_a_time():
    """Of three radii, one of which abstains, in one computation and in three."""
    radii = (0.01, 0.9, 0.1)
    matrices = torch.stack([radius * torch.eye(SIZE).double() for radius in radii])
    start = start_sets(START.expand(3, -1), matrices, 2)
    together = enclosed_rows(tanh_step, start, START, columns=40)
    for row, radius in enumerate(radii):
        alone = enclosed_rows(tanh_step, ball(START, radius), START, columns=40).largest()
        found = together.row(row).largest()
        assert torch.allclose(found.bounds, alone.bounds, rtol=1e-6)
        assert (found.abstains, found.reason) == (alone.abstains, alone.reason)
    assert together.row(1).largest().abstains is not None
    assert together.row(2).largest().abstains is None


def test_an_unbounded_row_leaves_the_others_alone():
    def pole(n, x):
        return 1.0 / (1.5 - x)

    x0 = torch.zeros(1).double()
    matrices = torch.tensor([[[2.0]], [[0.01]]]).double()
    found = enclosed_rows(pole, start_sets(x0.expand(2, 1), matrices, 2), x0, steps=3)
    assert found.reasons == ["the set is no longer bounded after __rdiv__", ""]
    alone = enclosed_rows(pole, start_sets(x0[None], matrices[1:], 2), x0, steps=3)
    assert torch.allclose(found.bounds[1], alone.bounds[0], rtol=1e-9)
    assert torch.isinf(found.bounds[0, 1:]).all()


@pytest.mark.parametrize(
    "step",
    [
        lambda n, x: x - x.mean(0),
        lambda n, x: x.flip(0),
        lambda n, x: x.T.reshape(x.shape),
        lambda n, x: torch.cat([x, x])[: len(x)],
        lambda n, x: torch.softmax(x, 0),
        lambda n, x: x + x.sum(-1),
        lambda n, x: torch.stack([x, x]).sum(0),
        lambda n, x: x.roll(1, 0),
        lambda n, x: torch.nn.functional.pad(x, (0, 0, 1, 0))[1:],
        lambda n, x: x[[0, 0, 1]],
        lambda n, x: x.sign().roll(1, 0) + x,
        lambda n, x: torch.ones(3, 3).double() @ x,
    ],
)
def test_a_step_that_mixes_rows_is_refused(step):
    start = start_sets(
        START[:3].expand(3, 3), 0.1 * torch.eye(3).double().expand(3, 3, 3).contiguous(), 2
    )
    with pytest.raises(MixedRows):
        enclosed_rows(step, start, START[:3], steps=1)


def test_a_path_whose_reference_is_unbounded_has_no_bound_and_others_have_theirs():
    """x ↦ 1/x from 0 and from 1, in the reference alone; the sign makes its set finite again."""

    def lost(n, x):
        return 0.0 * torch.sign(1.0 / x) + 0.5 * x

    x0 = torch.tensor([[0.0], [1.0]]).double()
    for readout in (None, lambda x: x.sum(-1)):
        found = follow(
            lambda n, x: 0.5 * x,
            start_sets(x0, torch.full((2, 1, 1), 0.01).double(), 2),
            Reference(lost, x0, 3, None),
            paths=torch.arange(2),
            steps=3,
            columns=50,
            readout=readout,
        )
        assert torch.isinf(found.bounds[0, 1:]).all()
        assert "no longer bounded" in found.reasons[0] and found.reasons[1] == ""
        assert found.bounds[1].tolist() == pytest.approx([0.01, 0.005, 0.0025, 0.00125], rel=1e-6)
    assert torch.isinf(found.readout[0, 1:]).all() and torch.isfinite(found.readout[1]).all()


def test_a_value_that_is_unbounded_for_the_reference_alone_has_no_bound():
    x0 = torch.tensor([[0.0], [1.0]]).double()
    found = follow(
        lambda n, x: x + 1.0,
        start_sets(x0, torch.full((2, 1, 1), 0.01).double(), 2),
        Reference(lambda n, x: x + 1.0, x0, 1, None),
        paths=torch.arange(2),
        steps=1,
        columns=50,
        readout=lambda x: torch.sign(1.0 / x).sum(-1),
    )
    assert torch.isinf(found.readout[0, 0])
    assert torch.isfinite(found.readout[1]).all()

"""Slabs of a ball: together they contain it, each is thin, and their bounds hold."""

import pytest
import torch

from sdewm.certificates.enclosure.attack import leading_directions
from sdewm.certificates.enclosure.rollout import Reference, follow
from sdewm.certificates.enclosure.slabs import LONG, WIDE, slab_sets, start_sets
from tests.certificates.random_networks import Draw


def inside(sets, points, slack):
    """Which of the points (K, n) are in which of the sets c + M ẽ, n = p: (rows, K)."""
    found = []
    for centre, linear in zip(sets.centre, sets.linear, strict=True):
        e = torch.linalg.solve(linear, (points - centre).T)
        found.append(e.norm(dim=0) <= 1.0 + slack)
    return torch.stack(found)


def points_of_ball(draw, count, size):
    """Points of the unit ball, half of them on its sphere."""
    e = draw.normal(count, size)
    e = e / e.norm(dim=1, keepdim=True)
    radii = torch.linspace(0.0, 1.0, count // 2).double() ** (1.0 / size)
    return torch.cat([e[: count // 2] * radii[:, None], e[count // 2 :]])


@pytest.mark.parametrize("count", [2, 3, 7, 16])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_error_of_the_ball_is_in_a_slab(count, size):
    draw = Draw(count + size)
    x0, matrix, along = draw.normal(size), draw.normal(size, size), draw.normal(size)
    points = x0 + points_of_ball(draw, 4000, size) @ matrix.T
    sets = slab_sets(x0, matrix, along, range(count), count, 2)
    assert inside(sets, points, 1e-9).any(0).all()
    # The control: a slab is missing.
    assert not inside(sets, points, 1e-9)[1:].any(0).all()
    less = slab_sets(x0, 0.75 * matrix, along, range(count), count, 2)
    assert not inside(less, points, 1e-9).any(0).all()


def test_a_slab_is_thin_along_the_direction_and_little_wider_across():
    along = torch.tensor([3.0, 0.0, 0.0]).double()
    sets = slab_sets(torch.zeros(3).double(), torch.eye(3).double(), along, range(10), 10, 2)
    lengths = torch.linalg.vector_norm(sets.linear, dim=2)  # of the rows: the half widths
    assert lengths[:, 0] == pytest.approx(LONG / 10, rel=1e-8)
    assert lengths[4, 1:] == pytest.approx(WIDE, rel=1e-8)
    assert lengths[0, 1:] == pytest.approx(WIDE * (1 - 0.8**2) ** 0.5, rel=1e-8)
    assert 1.0 / LONG**2 + 1.0 / WIDE**2 <= 1.0
    line = slab_sets(torch.zeros(1).double(), torch.eye(1).double(), along[:1], range(4), 4, 2)
    assert line.linear.flatten() == pytest.approx(0.25, rel=1e-8)
    assert line.centre.flatten().tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_the_box_of_a_slab_covers_the_roundings_of_its_axes():
    """Slabs of one direction on huge and on small numbers, in exact arithmetic by scaling."""
    x0, matrix = torch.tensor([1e6, 1.0]).double(), torch.diag(torch.tensor([1.0, 1e-3])).double()
    sets = slab_sets(x0, matrix, torch.tensor([1.0, 1.0]).double(), range(2), 2, 2)
    assert (sets.box >= 2.0**-51 * x0).all()
    assert (sets.box >= 2.0**-39 * matrix.abs().sum(1)).all()


WEIGHT = torch.linalg.qr(Draw(0).normal(4, 4)).Q @ torch.diag(
    torch.tensor([2.4, 0.4, 0.3, 0.2]).double()
)


def stretching(n, x):
    return torch.tanh(x @ WEIGHT + 0.3)


def bounds_of(count, radius=0.3, steps=5):
    x0, matrix = torch.zeros(4).double(), radius * torch.eye(4).double()
    along = leading_directions(stretching, None, x0, matrix, steps)[-1]
    start = (
        start_sets(x0[None], matrix[None], 2)
        if count == 1
        else slab_sets(x0, matrix, along, range(count), count, 2)
    )
    paths, reference = torch.zeros(count).long(), Reference(stretching, x0[None], steps, None)
    found = follow(stretching, start, reference, paths=paths, steps=steps, columns=300)
    return found.largest()


def test_slabs_bound_what_the_whole_ball_does_not_and_never_less_than_an_attack():
    whole, cut = bounds_of(1), bounds_of(24)
    assert whole.abstains is not None
    assert cut.abstains is None
    e = 0.3 * points_of_ball(Draw(5), 20000, 4)
    x, distances = torch.cat([torch.zeros(1, 4).double(), e]), []
    for n in range(6):
        distances.append((x[1:] - x[0]).norm(dim=1).max())
        x = stretching(n, x)
    worst = torch.stack(distances)
    assert (worst <= cut.bounds).all()
    assert (cut.bounds / worst).max() < 1.6
    # The control: the slabs of half of the ball do not bound the whole.
    assert (worst > bounds_of(24, radius=0.15).bounds).any()


def test_the_smaller_bound_counts_at_each_step():
    whole, cut = bounds_of(1), bounds_of(24)
    both = whole.improved(cut)
    assert torch.equal(both.bounds, torch.minimum(whole.bounds, cut.bounds))
    assert both.bounds[0] == whole.bounds[0] < cut.bounds[0]
    assert both.abstains is None
    assert cut.improved(whole).abstains is None
    assert torch.equal(both.linear[: whole.abstains], whole.linear[: whole.abstains])
    assert torch.isfinite(both.linear).all()


def test_a_direction_that_is_not_finite_is_an_error():
    along = torch.tensor([float("nan"), 1.0]).double()
    with pytest.raises(ArithmeticError):
        slab_sets(torch.zeros(2).double(), torch.eye(2).double(), along, range(2), 2, 2)

"""The rasteriser, the manifolds, the interpolants and the distances against closed forms."""

import math

import numpy as np
import pytest
import torch

from paper_checks.approximation import interpolants
from paper_checks.approximation.autoencoder import AutoEncoder, train
from paper_checks.approximation.distances import errors, wasserstein
from paper_checks.approximation.manifolds import MANIFOLDS, antipodal_unit, direction, pendulum
from paper_checks.approximation.measure import IMAGES, STEM, WIDTHS, cells
from paper_checks.approximation.obstruction import (
    angle_code,
    antipodes_of_one_code,
    double_code,
    plane,
)
from paper_checks.approximation.rasteriser import (
    SIZE,
    WIDTH,
    balls,
    periodic_blobs,
    pixel_centres,
    rods,
)
from sdewm.base.records import ROOT, read_table


def states(*angles):
    return torch.tensor(angles, dtype=torch.float64)[:, None]


def test_a_rod_at_known_angles_lies_where_it_should():
    down, right, up, left = pendulum(states(0.0, 0.5 * math.pi, math.pi, -0.5 * math.pi))
    assert torch.allclose(up, down.flip(0)) and torch.allclose(left, right.flip(1))
    assert torch.allclose(right, down.mT, atol=1e-12)  # a reflection in the falling diagonal
    assert down[SIZE // 2 :].sum() > 3 * down[: SIZE // 2].sum()


def test_the_brightness_of_a_pixel_is_that_of_its_distance_to_the_rod():
    start, end = torch.zeros(1, 2, dtype=torch.float64), states(0.8, 0.0).mT
    image = rods(start, end)[0]
    x, y = pixel_centres().unbind(-1)
    distance = torch.hypot(x - x.clamp(0.0, 0.8), y)
    assert torch.allclose(image, torch.exp(-(distance**2) / (2 * WIDTH**2)))


def test_a_spot_that_leaves_at_one_edge_enters_at_the_opposite_one():
    cell = 2.0 / SIZE
    at = torch.tensor([[0.3, -0.1], [0.3 + cell, -0.1], [2.3, -0.1]], dtype=torch.float64)
    first, moved, round_once = periodic_blobs(at, 0.25)
    assert torch.allclose(moved, first.roll(1, 1)) and torch.allclose(round_once, first)


def test_a_ball_lit_from_the_viewer_is_brightest_in_the_middle_and_dark_from_behind():
    front, behind = balls(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64))
    middle = SIZE // 2
    assert front[middle, middle] == front.max() > 0.99
    assert behind[middle, middle] < 1e-4 < behind.max()
    assert front[0, 0] == 0.0


@pytest.mark.parametrize("name", MANIFOLDS)
def test_antipodes_have_different_images_and_are_mutual(name):
    manifold = MANIFOLDS[name]
    drawn = manifold.draw(64, np.random.default_rng(0))
    assert antipodal_unit(manifold, drawn) > 0.5
    twice = manifold.antipode(manifold.antipode(drawn))
    assert torch.allclose(manifold.render(twice), manifold.render(drawn))


def test_images_of_an_angle_are_one_round():
    assert torch.allclose(direction(torch.tensor([2 * math.pi])), direction(torch.tensor([0.0])),
                          atol=1e-6)  # fmt: skip


def test_the_distance_of_a_shifted_sample_is_the_shift():
    source = np.random.default_rng(0)
    numbers, vectors = source.standard_normal(200), source.standard_normal((60, 5))
    shift = np.array([3.0, 4.0, 0.0, 0.0, 0.0])
    assert wasserstein(numbers, source.permutation(numbers + 0.7)) == pytest.approx(0.7)
    assert wasserstein(vectors, source.permutation(vectors + shift)) == pytest.approx(5.0)
    assert errors(vectors, vectors + shift) == pytest.approx(np.full(60, 5.0))


@pytest.mark.parametrize("exponent", [0.5, 0.75, 1.25, 1.75])
def test_the_error_of_a_power_is_that_of_the_closed_form_and_below_the_bound(exponent):
    target = interpolants.power(exponent)
    for width in (4, 64):
        found = interpolants.largest_error(target, interpolants.equal_knots(width))
        exact = interpolants.power_error(exponent, width)
        assert found == pytest.approx(exact, rel=2e-3) and found <= exact * (1 + 1e-9)
        assert exact <= target.bound(width)


def test_the_bound_of_a_parabola_is_attained():
    target = interpolants.power(2.0)
    assert target.bound(1) == 0.25  # x(1 − x) at one half
    found = interpolants.largest_error(target, interpolants.equal_knots(8))
    assert found == pytest.approx(target.bound(8), rel=1e-3)


def test_graded_knots_hide_the_smoothness():
    target = interpolants.power(0.75)
    widths = [32, 256]
    found = [interpolants.largest_error(target, interpolants.graded_knots(n, 0.75)) for n in widths]
    assert math.log(found[0] / found[1]) / math.log(8) == pytest.approx(2.0, abs=0.05)


def test_the_network_equals_the_function_at_its_knots():
    target, knots = interpolants.weierstrass(0.75), np.array([0.0, 0.1, 0.5, 0.55, 1.0])
    network = interpolants.relu_interpolant(target, knots)
    assert network(knots) == pytest.approx(target.function(knots))
    assert network(np.array([0.3])) == pytest.approx(target.function(knots[1:3]).mean())


@pytest.mark.parametrize("exponent", [0.5, 0.75])
def test_the_constant_of_weierstrass_bounds_its_differences(exponent):
    target = interpolants.weierstrass(exponent)
    x, y = np.random.default_rng(0).random((2, 2000))
    quotient = np.abs(target.function(x) - target.function(y)) / np.abs(x - y) ** exponent
    assert quotient.max() <= target.constant


def test_a_code_of_the_circle_is_continuous_and_gives_two_antipodes_one_code():
    for gap in (1.0, 0.05):
        code = angle_code(gap)
        fine = np.linspace(-math.pi, math.pi, 200_001)
        assert np.abs(np.diff(code(fine))).max() < 2 * math.pi / gap * (fine[1] - fine[0])
        assert code(fine[:1]) == pytest.approx(code(fine[-1:]))
    tilted = [lambda t: np.cos(t - 0.3) + 0.2 * np.sin(2 * t), double_code]
    for code in tilted:
        at = antipodes_of_one_code(code)
        assert code(np.array([at])) == pytest.approx(code(np.array([at + math.pi])))
    assert antipodes_of_one_code(np.cos) == pytest.approx(0.5 * math.pi)


def test_the_doubled_code_keeps_the_uniform_law():
    angles = (np.arange(400) + 0.5) * math.pi / 200 - math.pi
    x, y = plane(angles), plane(double_code(angles))
    assert wasserstein(x, y) < 0.01
    assert errors(x, y).mean() == pytest.approx(4 / math.pi, rel=1e-3)


def test_training_is_reproducible_and_leaves_the_global_generator_alone():
    images = pendulum(torch.linspace(-3, 3, 32, dtype=torch.float64)[:, None])
    before = torch.random.get_rng_state()
    one, two = (train(images, 2, 2, 20, seed=3) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one(images.float()), two(images.float()))
    start = AutoEncoder(images.float(), 2, 2)(images.float())
    trained = one(images.float())
    assert (trained - images).square().mean() < (start - images).square().mean()


def test_the_smaller_sample_is_trained_on_with_the_largest_code_only():
    every = cells(2)
    assert len(every) == len(set(every)) == 2 * len(WIDTHS) * (6 * len(IMAGES) + 5)
    few = [cell for cell in every if cell.images == min(IMAGES)]
    assert all(cell.latent == MANIFOLDS[cell.name].latents[-1] for cell in few)


def test_the_committed_table_obeys_the_bounds():
    rows, _ = read_table(ROOT / "figures" / "data" / f"{STEM}.csv")
    trained = [row for row in rows if row["kind"] == "trained"]
    assert all(row["wasserstein"] <= row["matched_error"] * (1 + 1e-9) for row in trained)
    bounded = [row for row in trained if row["bound"] is not None]
    assert {row["name"] for row in bounded} == {"circle", "pendulum", "sphere"}
    assert all(row["largest_error"] >= row["bound"] for row in bounded)
    exact = [row for row in rows if row["kind"] == "interpolant"]
    assert len(exact) == 21
    assert all(row["largest_error"] <= row["bound"] for row in exact)

"""Rates from Jacobians against brute force over directions, and against closed forms."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from sdewm.sde.examples import LinearFlow, LinearWorldModel, OrnsteinUhlenbeck
from sdewm.sde.rates import Rates, block_slices
from sdewm.theory.bounds.jacobian_rates import (
    exact_rates,
    jacobian_rates,
    largest_singular_value,
    transition_norms,
)

DT = 0.3
WHOLE = [slice(0, 3)]


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def directions(size, count=20_000):
    v = draw(count, size, seed=99)
    return v / v.norm(dim=1, keepdim=True)


def embedded(rows):
    """The A_k = e_k r_kᵀ `(B, D, D, D)` of diagonal noise with rows r_k `(B, D, D)`."""
    return torch.diag_embed(rows.transpose(1, 2)).permute(0, 3, 2, 1).contiguous()


def moments_of_a_step(drift, noise, v, dt):
    """E|Fv|² and E|Fv|⁴ over Gaussian increments of two drivers, by quadrature, each `(V,)`."""
    points, weights = _gauss()
    moved = v + dt * v @ drift.T
    along = torch.stack([v @ one.T for one in noise], dim=1) * math.sqrt(dt)  # (V, 2, D)
    square = (moved[:, None] + torch.einsum("qk,vkd->vqd", points, along)).square().sum(2)
    return square @ weights, square.square() @ weights


def _gauss():
    points, weights = map(torch.tensor, np.polynomial.hermite_e.hermegauss(5))
    weights = weights / weights.sum()
    grid = torch.cartesian_prod(points, points)
    return grid, torch.cartesian_prod(weights, weights).prod(1)


def growth(drift, noise, v, p):
    """ℓ_p(v) of section 5, from its definition."""
    along = torch.einsum("vi,kij,vj->vk", v, noise, v)
    pushed = torch.einsum("kij,vj->vki", noise, v).square().sum((1, 2))
    return (v @ drift * v).sum(1) + 0.5 * pushed + 0.5 * (p - 2) * along.square().sum(1)


@pytest.mark.parametrize("seed", range(4))
def test_every_rate_bounds_its_expression_in_all_directions_and_is_nearly_attained(seed):
    drift, noise = draw(3, 3, seed=seed), 0.7 * draw(2, 3, 3, seed=10 + seed)
    rates = jacobian_rates(drift[None], noise[None], DT, WHOLE)
    v = directions(3)
    second, fourth = moments_of_a_step(drift, noise, v, DT)
    squares = torch.einsum("kij,vj->vki", noise, v).square().sum((1, 2))
    radial = torch.einsum("vi,kij,vj->vk", v, noise, v).square().sum(1).sqrt()
    found = {
        "drift": (v @ drift.T).norm(dim=1).max(),
        "noise": squares.max().sqrt(),
        "radial": radial.max(),
        "step": second.max().sqrt(),
        "fourth": fourth.max() ** 0.25,
    }
    attained = {"drift": 0.999, "noise": 0.999, "step": 0.999, "radial": 0.6, "fourth": 0.9}
    for name, value in found.items():
        assert attained[name] * rates[name][0] < value <= rates[name][0] * (1 + 1e-12), name
    for row, p in enumerate((1, 2, 4)):
        assert growth(drift, noise, v, p).max() <= rates["log_norm"][row, 0] + 1e-12
    assert growth(drift, noise, v, 2).max() > rates["log_norm"][1, 0] - 1e-2
    least = (v @ drift * v).sum(1).min()
    assert 0 <= least - rates["least_log_norm"][0] < 1e-2


def test_second_and_fourth_moments_of_a_step_are_attained_by_the_maximising_direction():
    noise, matrix = torch.stack((torch.eye(3), torch.zeros(3, 3))).double() * 0.5, draw(3, 3)
    drift = 0.5 * (matrix + matrix.T)
    rates = jacobian_rates(drift[None], noise[None], DT, WHOLE)
    values, vectors = torch.linalg.eigh(drift)
    best = vectors[:, (1 + DT * values).abs().argmax()][None]
    second, fourth = moments_of_a_step(drift, noise, best, DT)
    assert rates["step"].item() == pytest.approx(math.sqrt(second.item()), rel=1e-12)
    assert rates["fourth"].item() == pytest.approx(fourth.item() ** 0.25, rel=1e-12)
    # Negative control: the fourth moment is not the square of the second.
    assert rates["fourth"].item() > 1.02 * rates["step"].item()


def test_radial_rates_are_attained_by_symmetric_noise_of_one_driver():
    matrix = draw(3, 3, seed=5)
    noise = (matrix + matrix.T)[None]
    rates = jacobian_rates(torch.zeros(1, 3, 3).double(), noise[None], DT, WHOLE)
    spectrum = torch.linalg.eigvalsh(noise[0])
    assert rates["radial"].item() == pytest.approx(float(spectrum.abs().max()))
    brute = (directions(3) @ noise[0] * directions(3)).sum(1).abs().max()
    assert 0.995 * rates["radial"].item() < float(brute) <= rates["radial"].item() * (1 + 1e-12)
    # Definite noise lowers λ_1 below λ_2 by half the square of its least eigenvalue.
    definite = noise + (0.1 - spectrum[0]) * torch.eye(3).double()
    rates = jacobian_rates(torch.zeros(1, 3, 3).double(), definite[None], DT, WHOLE)["log_norm"]
    assert (rates[1] - rates[0]).item() == pytest.approx(0.5 * 0.1**2)
    indefinite = jacobian_rates(torch.zeros(1, 3, 3).double(), noise[None], DT, WHOLE)["log_norm"]
    assert torch.equal(indefinite[0], indefinite[1])


def test_product_bound_of_the_fourth_moment_is_close_to_brute_force():
    for seed in range(6):
        drift, noise = draw(3, 3, seed=seed), draw(1, 3, 3, seed=20 + seed)
        rates = jacobian_rates(drift[None], noise[None], DT, WHOLE)
        inside = (rates["fourth"] ** 4 - rates["step"] ** 4 - 2 * DT**2 * rates["noise"] ** 4) / (
            4 * DT
        )
        v = directions(3)
        brute = ((v + DT * v @ drift.T) * (v @ noise[0].T)).sum(1).square().max()
        assert 0.99 * inside.item() < float(brute) <= inside.item() * (1 + 1e-9)


@pytest.mark.parametrize("size", [1, 3])
def test_diagonal_noise_has_the_rates_of_its_embedding(size):
    drift, rows = draw(5, size, size, seed=1), draw(5, size, size, seed=2)
    whole = [slice(0, size)]
    short = jacobian_rates(drift, rows, DT, whole)
    full = jacobian_rates(drift, embedded(rows), DT, whole)
    for name, value in short.items():
        rows_only = slice(0, 2 if name == "log_norm" else None)
        if name != "radial":
            expected = full[name][rows_only]
            torch.testing.assert_close(value[rows_only], expected, rtol=1e-12, atol=1e-12)
    # Σ v_k² (r_k · v)² is bounded by max |r_k|², too, which the embedding does not show.
    v = directions(size)
    brute = (v * (v @ rows.mT)).square().sum(2).amax(1).sqrt()
    assert (brute <= short["radial"] + 1e-12).all()
    assert (short["radial"] <= full["radial"] + 1e-12).all()
    assert (brute > 0.5 * short["radial"]).all()
    assert (short["log_norm"][2] <= full["log_norm"][2] + 1e-12).all()
    # Power: rows taken for columns give other rates.
    other = jacobian_rates(drift, embedded(rows.transpose(1, 2)), DT, whole)
    assert size == 1 or not torch.allclose(other["log_norm"], full["log_norm"], rtol=1e-3)


def test_many_drivers_do_not_add_up():
    noise = draw(1, 60, 3, 3, seed=4)
    rates = jacobian_rates(torch.zeros(1, 3, 3, dtype=torch.float64), noise, DT, WHOLE)
    each = torch.linalg.eigvalsh(0.5 * (noise + noise.mT)).abs().amax(2).square().sum(1).sqrt()
    assert rates["radial"] == rates["noise"] < 0.95 * each
    v = directions(3, count=2000)
    brute = torch.einsum("vi,kij,vj->vk", v, noise[0], v).square().sum(1).max().sqrt()
    assert 0.5 * rates["radial"] < brute <= rates["radial"]


def test_no_noise_and_zero_noise_are_the_same():
    drift = draw(4, 3, 3)
    none, zero = (
        jacobian_rates(drift, noise, DT, WHOLE) for noise in (None, torch.zeros(4, 2, 3, 3))
    )
    for name in none:
        assert torch.equal(none[name], zero[name])
    norm = torch.linalg.matrix_norm(torch.eye(3) + DT * drift, 2)
    torch.testing.assert_close(none["step"], norm)
    torch.testing.assert_close(none["fourth"], norm)


@pytest.mark.parametrize(
    "blocks", [[slice(0, 1), slice(1, 3)], [slice(i, i + 1) for i in range(3)]]
)
def test_blocks_are_norms_of_blocks(blocks):
    drift = draw(4, 3, 3, seed=8)
    rates = jacobian_rates(drift, None, DT, blocks)
    step = torch.eye(3) + DT * drift
    for i, row in enumerate(blocks):
        for j, column in enumerate(blocks):
            part = step[:, row, column]
            norm = torch.linalg.matrix_norm(part, 2)
            torch.testing.assert_close(rates["step_blocks"][:, i, j], norm)
            own = drift[:, row, column]
            expected = torch.linalg.matrix_norm(own, 2)
            if i == j:
                expected = torch.linalg.eigvalsh(0.5 * (own + own.mT))[:, -1]
                assert expected.min() < 0  # the sign is kept
            torch.testing.assert_close(rates["blocks"][:, i, j], expected)


def test_largest_singular_value_takes_wide_tall_and_flat_matrices():
    for matrix in (draw(4, *shape) for shape in ((2, 5), (5, 2), (1, 3), (3, 1), (3, 3))):
        norm = torch.linalg.matrix_norm(matrix, 2)
        torch.testing.assert_close(largest_singular_value(matrix), norm)


class Blocked:
    blocks = {"b": slice(1, 3), "a": slice(0, 1)}


def test_blocks_are_those_given_the_systems_own_or_components():
    assert block_slices(Blocked(), None, 3) == [slice(0, 1), slice(1, 3)]
    assert block_slices(Blocked(), [slice(0, 3)], 3) == [slice(0, 3)]
    assert block_slices(object(), None, 2) == [slice(0, 1), slice(1, 2)]


@pytest.mark.parametrize(
    "blocks",
    [
        [slice(0, 1)],
        [slice(0, 2), slice(1, 3)],
        [slice(0, 1), slice(2, 3)],
        [slice(0, 0), slice(0, 3)],
        [slice(0, 4)],
        [],
    ],
)
def test_blocks_that_do_not_cut_the_state_are_refused(blocks):
    with pytest.raises(
        ValueError, match=r"blocks=\[.*expected consecutive slices that partition 0 … 3"
    ):
        block_slices(Blocked(), blocks, 3)


@pytest.mark.parametrize("case", [LinearFlow(), LinearWorldModel(), OrnsteinUhlenbeck()])
def test_exact_rates_lie_outside_those_of_the_jacobians_by_rounding_only(case):
    drift, noise = case.jacobians()
    blocks = [slice(0, case.state_size)]
    rates, plain = (
        exact_rates(case, DT, blocks),
        jacobian_rates(drift[None], noise[None], DT, blocks),
    )
    assert rates.additive != isinstance(case, LinearFlow)
    still = ("curvature", "noise_curvature", *(("noise", "radial") * rates.additive))
    for name, value in plain.items():
        gap = getattr(rates, name) - value
        if name == "least_log_norm":
            gap = -gap
        assert gap.max() < 1e-12
        assert bool((gap == 0).all()) if name in still else bool((gap > 0).all()), name


def test_rates_are_repeated_over_steps():
    rates = exact_rates(LinearFlow(), DT, [slice(0, 1), slice(1, 2)])
    many = rates.repeated(5)
    assert many.log_norm.shape == (3, 5)
    assert many.blocks.shape == many.step_blocks.shape == (5, 2, 2)
    assert torch.equal(many.log_norm[:, 4], rates.log_norm[:, 0])
    assert torch.equal(many.blocks[3], rates.blocks[0])
    assert many.to(torch.zeros((), dtype=torch.float32)).step.dtype == torch.float32


def test_lowered_rates_are_lower_each():
    rates = exact_rates(LinearFlow(), DT, [slice(0, 1), slice(1, 2)])
    rates = replace(rates, curvature=rates.drift, noise_curvature=rates.drift)
    cut = rates.lowered(0.8)
    assert isinstance(cut, Rates)
    for field in fields(Rates):
        before, after = getattr(rates, field.name), getattr(cut, field.name)
        if field.name == "blocks":
            before, after = before.diagonal(dim1=1, dim2=2), after.diagonal(dim1=1, dim2=2)
        if field.name == "least_log_norm":
            before, after = after, before  # a lower bound: raised
        assert (after < before).all(), field.name
    assert torch.equal(rates.lowered(1.0).log_norm, rates.log_norm)


@pytest.mark.parametrize("size", [2, 16, 17, 24])
def test_transition_norms_are_those_of_products(size):
    steps = torch.eye(size, dtype=torch.float64) + 0.5 * draw(2, 4, size, size) / size**0.5
    norms = transition_norms(steps)
    assert norms.shape == (2, 5, 5)
    for n in range(5):
        for k in range(5):
            product = torch.eye(size, dtype=torch.float64).expand(2, size, size)
            for m in range(k, n):
                product = steps[:, m] @ product
            exact = torch.linalg.matrix_norm(product, 2)
            if n < k:
                assert not norms[:, n, k].any()
            elif n == k or size <= 16:
                torch.testing.assert_close(norms[:, n, k], exact)
            else:
                ratio = norms[:, n, k] / exact
                assert (ratio >= 1 - 1e-12).all()
                assert (ratio <= size ** (1 / 16)).all()
                assert ratio.max() > 1 + 1e-6  # the other branch


def test_transition_norms_of_large_isotropic_maps_meet_the_worst_factor():
    steps = torch.eye(24, dtype=torch.float64)[None, None] * torch.tensor(1e-200).double()
    assert transition_norms(steps)[0, 1, 0].item() == pytest.approx(1e-200 * 24 ** (1 / 16))
    assert transition_norms(0 * steps)[0, 1, 0].item() == pytest.approx(0.0, abs=1e-300)


def test_transition_norms_see_contraction_that_norms_of_steps_do_not():
    shear = torch.tensor([[0.5, 2.0], [0.0, 0.5]], dtype=torch.float64)
    norms = transition_norms(shear.expand(1, 20, 2, 2))[0]
    assert float(largest_singular_value(shear)) > 2
    assert norms[20, 0] < 1e-4

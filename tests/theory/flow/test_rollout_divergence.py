"""Two rollouts on shared noise: against closed forms, a slow definition, and broken couplings."""

import math

import numpy as np
import pytest
import torch

import sdewm
from sdewm.sde.examples import (
    GeometricBrownianMotion,
    LinearFlow,
    LinearWorldModel,
    OrnsteinUhlenbeck,
    TanhWorldModel,
)
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from sdewm.theory.curve import NORMS
from sdewm.theory.flow import rollout_divergence
from sdewm.theory.flow.initial_error import draw_errors

WORLD, FLOW = TanhWorldModel(state_size=3, width=6, seed=3), LinearFlow()
E3 = torch.tensor([0.1, -0.2, 0.05], dtype=torch.float64)
ONE = torch.tensor([1.0], dtype=torch.float64)


def measure(system=WORLD, error=E3, **options):
    arguments = {"t1": 1.0, "steps": 8, "paths": 200, **options}
    return sdewm.rollout_divergence(system, arguments.pop("x0", system.x0), error, **arguments)


def slow_distances(system, error, paths, steps, t1, seed=0, noise_seed=None):
    """|D| `(paths, N + 1)`, path by path with Euler's formula; `noise_seed`: of the second path."""
    with torch.no_grad():
        seeds = (seed, seed if noise_seed is None else noise_seed)
        dt, both = t1 / steps, []
        for start, own in zip((system.x0, system.x0 + error), seeds, strict=True):
            drivers = system.g(torch.zeros(()), system.x0[None]).shape[2]
            noise = GaussianNoise(drivers=drivers, steps=steps, t1=t1, seed=own)
            x = start.expand(paths, -1)
            states = [x]
            for n, dB in enumerate(noise.increments(0, paths)):
                t = torch.tensor(n * dt, dtype=torch.float64)
                g = system.g(t, x)
                x = x + dt * system.f(t, x) + torch.einsum("bdm,bm->bd", g, dB)
                states.append(x)
            both.append(torch.stack(states, dim=1))
    return (both[1] - both[0]).norm(dim=2).numpy()


def norms_of(distances):
    largest = np.maximum.accumulate(distances, axis=1)
    return dict(zip(NORMS, (distances, distances**2, largest, largest**2), strict=True))


def test_all_norms_are_those_of_the_slow_definition():
    measured, slow = measure(), slow_distances(WORLD, E3, 200, 8, 1.0)
    assert list(measured) == list(NORMS)
    for name, values in norms_of(slow).items():
        np.testing.assert_allclose(measured[name].values, values.mean(0), rtol=1e-12)
        spread = values.std(0, ddof=1) / math.sqrt(200)
        np.testing.assert_allclose(measured[name].standard_errors, spread, rtol=0.35, atol=1e-15)
    assert measured["sup"].last.value > 1.01 * measured["mean"].last.value
    np.testing.assert_allclose(measured.times, np.arange(9) / 8)
    assert measured.paths == 200


def test_without_an_error_the_paths_are_equal_and_on_other_noise_they_are_not():
    measured = measure(error=torch.zeros(3, dtype=torch.float64))
    for name in NORMS:
        assert not measured[name].values.any()
        assert not measured[name].standard_errors.any()
    uncoupled = slow_distances(WORLD, torch.zeros(3), 200, 8, 1.0, noise_seed=1)
    assert uncoupled[:, -1].mean() > 0.3


@pytest.mark.parametrize("make", [OrnsteinUhlenbeck, LinearWorldModel])
def test_additive_noise_cancels_and_the_divergence_is_the_matrix_power(make):
    case = make()
    error = torch.linspace(0.1, 0.4, case.state_size, dtype=torch.float64)
    matrix = case.jacobians()[0]
    step = torch.eye(len(matrix), dtype=torch.float64) + 0.25 * matrix
    powers = [float((torch.linalg.matrix_power(step, n) @ error).norm()) for n in range(9)]
    measured = measure(case, error, t1=2.0, paths=50)
    np.testing.assert_allclose(measured["mean"].values, powers, rtol=1e-12)
    np.testing.assert_allclose(measured["sup"].values, np.maximum.accumulate(powers), rtol=1e-12)
    assert measured["mean_square"].standard_errors.max() < 1e-15
    assert not np.allclose(measured["mean"].values[-1], powers[-2], rtol=1e-3)


def test_the_second_moment_is_that_of_the_scheme():
    error = torch.tensor([0.0, 0.1], dtype=torch.float64)
    measured = measure(FLOW, error, t1=1.5, steps=12, paths=20_000, quantiles=())
    start = torch.outer(error, error)
    for n in (1, 6, 12):
        exact = float(FLOW.second_moment(start, 0.125 * n, steps=n).trace())
        assert measured["mean_square"].at(0.125 * n).deviation_from(exact) < 5
    # Power: without the noise's share the same test fails.
    still = float(LinearFlow(noise=()).second_moment(start, 1.5, steps=12).trace())
    assert measured["mean_square"].last.deviation_from(still) > 5
    limit = float(FLOW.second_moment(start, 1.5).trace())
    assert limit == pytest.approx(0.0098428365, abs=6e-11)


def test_suprema_converge_from_below_to_the_closed_form():
    case = GeometricBrownianMotion(growth=0.2, volatility=0.4)
    found = {
        steps: measure(case, ONE, steps=steps, paths=20_000, seed=2, quantiles=())
        for steps in (16, 64, 256)
    }
    for name, exact in (("sup", 1.525467907), ("sup_square", 2.541583996)):
        coarse, middle, fine = (found[steps][name].last for steps in (16, 64, 256))
        assert coarse.value < middle.value < fine.value < exact
        # The grid misses O(√Δ) of the supremum: one Richardson step on a grid four times as fine.
        limits = [2 * b.value - a.value for a, b in ((coarse, middle), (middle, fine))]
        error = math.hypot(2 * fine.standard_error, middle.standard_error)
        assert abs(limits[1] - exact) < 5 * error + abs(limits[1] - limits[0])
        # Power: the fine grid itself misses it by more than sampling can explain.
        assert fine.deviation_from(exact) > 3


def test_quantiles_are_order_statistics_with_binomial_errors():
    measured = measure(paths=400, quantiles=(0.025, 0.5, 0.975))
    slow = np.sort(slow_distances(WORLD, E3, 400, 8, 1.0), axis=0)
    for level, place, spread in ((0.025, 10, 3.1225), (0.5, 200, 10.0), (0.975, 390, 3.1225)):
        curve = measured.quantiles[level]
        np.testing.assert_allclose(curve.values, slow[place - 1], rtol=1e-12)
        low, high = math.ceil(place - spread) - 1, math.ceil(place + spread) - 1
        half = 0.5 * (slow[high] - slow[low])
        np.testing.assert_allclose(curve.standard_errors, half, rtol=1e-9, atol=1e-15)
    assert np.isnan(measure(paths=20, quantiles=(0.01,)).quantiles[0.01].standard_errors).all()
    assert measure(quantiles=()).quantiles == {}


def test_the_errors_of_a_quantile_are_its_spread_over_seeds():
    found = [
        measure(FLOW, ONE.expand(2), steps=4, paths=500, seed=seed).quantiles[0.5].last
        for seed in range(60)
    ]
    spread = np.std([estimate.value for estimate in found], ddof=1)
    claimed = np.mean([estimate.standard_error for estimate in found])
    assert 0.7 < claimed / spread < 1.4


def test_results_do_not_depend_on_chunk_or_tile(monkeypatch):
    whole, parts = measure(), measure(chunk=1)
    monkeypatch.setattr(rollout_divergence, "_NUMBERS_AT_ONCE", 6 * 9 * 64)
    assert rollout_divergence.path_tile(6, 8, torch.device("cpu")) == 64
    small = measure()
    for name in NORMS:
        assert np.array_equal(whole[name].values, parts[name].values)
        np.testing.assert_allclose(small[name].values, whole[name].values, rtol=1e-13)
    for level, curve in whole.quantiles.items():
        np.testing.assert_allclose(small.quantiles[level].values, curve.values, rtol=1e-13)
    other = measure(seed=1)
    assert not np.allclose(other["mean"].values[1:], whole["mean"].values[1:], rtol=1e-6)


def test_memory_of_a_wide_long_rollout_is_bounded():
    tile = rollout_divergence.path_tile(2 * 232, 50, torch.device("cpu"))
    assert 500 < tile < 1000
    assert rollout_divergence.path_tile(10**8, 10, torch.device("cpu")) == 1


def test_samples_are_taken_in_turn_and_a_sampler_is_asked_once():
    rows = torch.stack((E3, 2 * E3, torch.zeros_like(E3)))
    cycled = measure(error=rows, paths=6)
    assert cycled["mean"].values[0] == pytest.approx(float(E3.norm()), rel=1e-12)
    asked = []

    def sampler(count, generator):
        asked.append(count)
        return torch.randn(count, 3, generator=generator, dtype=torch.float64)

    drawn = measure(error=sampler, paths=5000)
    assert asked == [5000]
    assert drawn["mean_square"].values[0] == pytest.approx(3.0, rel=0.1)
    again = measure(error=draw_errors(sampler, 5000, WORLD.x0, 0), paths=5000)
    assert np.array_equal(again["sup"].values, drawn["sup"].values)


def test_sampled_errors_are_independent_of_the_brownian_paths():
    def sampler(count, generator):
        return torch.randn(count, 2, generator=generator, dtype=torch.float64)

    error = draw_errors(sampler, 20_000, torch.zeros(2, dtype=torch.float64), seed=0)
    first = GaussianNoise(drivers=2, steps=1, t1=1.0, seed=0).increments(0, 20_000)[0]
    correlation = torch.corrcoef(torch.cat((error, first), dim=1).T)[:2, 2:]
    assert correlation.abs().max() < 5 / math.sqrt(20_000)


def test_one_start_per_path_is_followed():
    starts = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    measured = measure(x0=starts, paths=40)
    noise = GaussianNoise(drivers=2, steps=8, t1=1.0)
    with torch.no_grad():
        gap = solve_path(WORLD, starts + E3, noise) - solve_path(WORLD, starts, noise)
    assert measured["mean"].last.value == pytest.approx(float(gap.norm(dim=2).mean()), rel=1e-12)


class Cubic:
    noise_type, sde_type, x0 = "diagonal", "ito", torch.tensor([0.1], dtype=torch.float64)

    def f(self, t, y):
        return y**3

    def g(self, t, y):
        return 0 * y


def test_a_rollout_that_blows_up_is_named():
    options = {"t1": 40.0, "steps": 40, "paths": 3}
    with pytest.raises(FloatingPointError, match=r"rollout from x0 \+ error: .*drift"):
        measure(Cubic(), 5 * ONE, **options)
    with pytest.raises(FloatingPointError, match="rollout from x0: "):
        measure(Cubic(), 0 * ONE, x0=5 * ONE, **options)
    with pytest.raises(FloatingPointError, match="square of a distance of 7.63e"):
        measure(OrnsteinUhlenbeck(rate=-50.0), 1e153 * ONE)


class Stepped:
    """The tanh world model, given by its step only."""

    noise_type, sde_type, x0, drivers = "general", "ito", WORLD.x0, 2

    def f_and_g_prod(self, t, y, v):
        return WORLD.f(t, y), torch.einsum("bdm,bm->bd", WORLD.g(t, y), v)


def test_a_system_given_by_its_step_is_taken():
    stepped, plain = measure(Stepped()), measure()
    for name in NORMS:
        np.testing.assert_allclose(stepped[name].values, plain[name].values, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"paths": 0}, "paths=0"),
        ({"t1": 0.0}, r"t1=0\.0"),
        ({"seed": -1}, "seed=-1"),
        ({"dtype": torch.float16}, "dtype=torch.float16"),
        ({"device": "gpu"}, "device='gpu'"),
        ({"chunk": 0}, "chunk=0"),
        ({"quantiles": 0.5}, r"quantiles=0\.5"),
        ({"quantiles": (1.0,)}, r"quantiles contains 1\.0"),
        ({"quantiles": ("0.5",)}, r"quantiles contains '0\.5'"),
        ({"x0": torch.zeros(7, 3)}, r"x0 has shape \(7, 3\)"),
        ({"error": torch.zeros(2)}, r"error has shape \(2,\); expected a vector \(D,\) = \(3,\)"),
        ({"error": 0.1}, "error=float"),
        ({"error": E3 * math.nan}, "error contains values that are not finite"),
    ],
)
def test_bad_input_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        measure(**options)


def test_an_unknown_norm_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'mean_square'"):
        measure(paths=2)["mean_squared"]


def test_samples_that_do_not_count_as_often_are_refused():
    """Of 600 samples on 1000 paths the first 400 counted twice: 74.6 for 86.0."""
    like = torch.zeros(1, dtype=torch.float64)
    errors = torch.cat([torch.full((3, 1), 0.1), torch.full((3, 1), 9.0)])
    assert torch.equal(draw_errors(errors, 12, like, 0)[6:], errors.double())
    for paths, such in ((3, "6"), (9, "6 or 12"), (13, "12 or 18")):
        message = f"error has 6 samples for paths={paths}; expected a multiple of 6, as {such},"
        with pytest.raises(ValueError, match=message):
            draw_errors(errors, paths, like, 0)
        with pytest.raises(ValueError, match=message):
            measure(error=errors.expand(-1, 3), paths=paths)


@pytest.mark.parametrize("time", [math.nan, math.inf, 0.06, -0.125])
def test_a_curve_has_no_value_between_or_outside_the_points_of_its_grid(time):
    """nan was taken for the start."""
    with pytest.raises(ValueError, match="not on the grid"):
        measure()["mean"].at(time)


@pytest.mark.parametrize(("size", "kept"), [(1e-12, False), (1e-9, False), (1e-4, True)])
def test_errors_that_rounding_loses_beside_the_start_are_refused(size, kept):
    """D was 0, or 8 % above its bound."""
    system, x0 = OrnsteinUhlenbeck(), 1e6 * ONE
    if not kept:
        with pytest.raises(ValueError, match="rounding loses beside x0 of size 1e"):
            measure(system, size * ONE, x0=x0)
        return
    measured = measure(system, size * ONE, x0=x0)
    assert measured["mean"].last.value == pytest.approx(size * 0.9**8, rel=1e-2)

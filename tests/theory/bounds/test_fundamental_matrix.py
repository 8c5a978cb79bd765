"""The fundamental matrix, measured: against products of Jacobians, exact moments and oracles."""

import math

import numpy as np
import pytest
import torch

import sdewm
from sdewm.sde.examples import (
    GeometricBrownianMotion,
    LinearFlow,
    PearsonDiffusion,
    TanhWorldModel,
)
from sdewm.sde.noise import GaussianNoise
from sdewm.theory.bounds import formulas
from sdewm.theory.curve import NORMS
from sdewm.theory.flow import rollout_divergence

FLOW, WORLD = LinearFlow(), TanhWorldModel(state_size=3, width=6, seed=3)


def grow(system=WORLD, **options):
    arguments = {"t1": 1.0, "steps": 6, "paths": 100, **options}
    return sdewm.fundamental_matrix(system, arguments.pop("x0", system.x0), **arguments)


def slow_norms(system, paths, steps, t1, starts=None):
    """‖Φ‖_F `(paths, N + 1)` from full Jacobians of the step, path by path."""
    starts = system.x0.expand(paths, -1) if starts is None else starts
    drivers = system.g(torch.zeros(()), system.x0[None]).shape[2]
    noise = GaussianNoise(drivers=drivers, steps=steps, t1=t1)
    increments, dt, rows = noise.increments(0, paths), t1 / steps, []
    for i in range(paths):
        x, phi = starts[i], torch.eye(system.state_size, dtype=torch.float64)
        norms = [float(phi.norm())]
        for n in range(steps):
            t = torch.tensor(n * dt, dtype=torch.float64)

            def step(x, t=t, dB=increments[n, i]):
                return x + dt * system.f(t, x[None])[0] + system.g(t, x[None])[0] @ dB

            phi, x = torch.func.jacrev(step)(x) @ phi, step(x)
            norms.append(float(phi.norm()))
        rows.append(norms)
    return np.array(rows)


def test_all_norms_and_the_kurtosis_are_those_of_products_of_jacobians():
    growth, norms = grow(paths=60), slow_norms(WORLD, 60, 6, 1.0)
    largest = np.maximum.accumulate(norms, axis=1)
    expected = dict(zip(NORMS, (norms, norms**2, largest, largest**2), strict=True))
    assert list(growth) == list(NORMS)
    for name, values in expected.items():
        np.testing.assert_allclose(growth[name].values, values.mean(0), rtol=1e-11)
        assert getattr(growth, name) is growth[name]
    deviations = norms[:, -1] ** 2 - (norms[:, -1] ** 2).mean()
    kurtosis = (deviations**4).mean() / (deviations**2).mean() ** 2
    assert growth.kurtosis == pytest.approx(kurtosis, rel=1e-9)
    assert growth.exact is None
    assert growth.exact_limit is None
    np.testing.assert_allclose(growth.times, np.arange(7) / 6)


def test_values_of_the_oracle():
    growth = grow(FLOW, t1=1.5, steps=30, paths=2, form="sde")
    assert growth.exact_limit.last.value == pytest.approx(1.2823094145, abs=6e-11)
    assert growth.constants.lambda_ == pytest.approx(0.0973714135, abs=6e-11)
    assert growth.constants.rho == pytest.approx(-0.0597326427, abs=6e-11)
    assert growth.bounds["log_norm"]["mean_square"].last.value == pytest.approx(2.678512, abs=6e-7)
    assert growth.bounds["gronwall"]["sup_square"].last.value == pytest.approx(7.1e5, rel=5e-3)
    spread = 2 * 1.5 * growth.constants.kappa**2
    doob = float(formulas.doob_factor(torch.tensor(spread, dtype=torch.float64)))
    assert 2 * math.exp(3 * growth.constants.lambda_) * doob == pytest.approx(7.263021, abs=6e-7)
    # The entropy inequality is sharper than Doob's, and the simulated 2.42 is below both.
    assert 2.42 < growth.bounds["log_norm"]["sup_square"].last.value < 7.263021


def test_the_second_moment_of_the_scheme_is_met():
    growth = grow(FLOW, t1=1.5, steps=20, paths=20_000)
    np.testing.assert_allclose(growth.exact.values[0], 2.0)
    for time in (0.075, 0.75, 1.5):
        assert growth.mean_square.at(time).deviation_from(growth.exact.at(time).value) < 5
    # The grid misses O(√Δ) of the supremum: Richardson on a grid four times as fine; oracle 2.42.
    fine = grow(FLOW, t1=1.5, steps=80, paths=20_000).sup_square.last
    limit = 2 * fine.value - growth.sup_square.last.value
    assert growth.sup_square.last.value < fine.value < limit
    assert limit == pytest.approx(2.42, abs=0.005 + 10 * fine.standard_error)
    # Power: the second moment without noise is refused on the same paths.
    still = grow(LinearFlow(noise=()), t1=1.5, steps=20, paths=2)
    assert still.exact.last.value < growth.exact.last.value
    assert growth.mean_square.last.deviation_from(still.exact.last.value) > 5
    assert still.mean_square.last.value == pytest.approx(still.exact.last.value, rel=1e-12)
    assert math.isnan(still.kurtosis)


def test_the_exact_curves_meet_as_the_step_goes_to_zero():
    gaps = []
    for steps in (25, 50, 100):
        growth = grow(FLOW, t1=1.5, steps=steps, paths=2)
        gaps.append(growth.exact.last.value - growth.exact_limit.last.value)
    assert gaps[0] / gaps[1] == pytest.approx(2.0, abs=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(2.0, abs=0.05)


def test_single_precision_gives_the_law_to_its_digits():
    single, double = (grow(dtype=d, paths=4000) for d in (torch.float32, torch.float64))
    gap = abs(single.mean_square.last.value - double.mean_square.last.value)
    assert (
        0
        < gap
        < 5
        * math.hypot(single.mean_square.last.standard_error, double.mean_square.last.standard_error)
    )
    for grade, bound in double.bounds.items():
        found = single.bounds[grade]["mean_square"].values
        np.testing.assert_allclose(found, bound["mean_square"].values, rtol=0.2)


class Stepped:
    """The tanh world model, given by its step only."""

    noise_type, sde_type, x0, drivers = "general", "ito", WORLD.x0, 2

    def f_and_g_prod(self, t, y, v):
        return WORLD.f(t, y), torch.einsum("bdm,bm->bd", WORLD.g(t, y), v)


def test_a_system_given_by_its_step_is_measured_without_bounds():
    stepped, plain = grow(Stepped()), grow()
    for name in NORMS:
        np.testing.assert_allclose(stepped[name].values, plain[name].values, rtol=1e-11)
    assert stepped.bounds == {}
    assert stepped.constants is None
    with pytest.raises(ValueError, match="kind='certificate': Stepped proves no rates"):
        grow(Stepped(), kind="certificate")


class LinearStep:
    """A linear flow with two drivers, given by its step, and by matrices that may be another's."""

    noise_type, sde_type, drivers = "general", "ito", 2
    matrix = torch.tensor([[-0.6, 0.9], [0.2, -0.4]], dtype=torch.float64)
    columns = torch.stack((0.3 * matrix, 0.1 * torch.eye(2, dtype=torch.float64)))

    def __init__(self, drift=1.0, noise=1.0):
        self.given = drift * self.matrix, noise * self.columns

    def f_and_g_prod(self, t, y, v):
        return y @ self.matrix.T, torch.einsum("kij,bj,bk->bi", self.columns, y, v)

    def jacobians(self):
        return self.given


@pytest.mark.parametrize("options", [{"drift": 1.01}, {"noise": -1.0}])
def test_jacobians_of_a_system_given_by_its_step_are_compared(options):
    """They were taken on trust, for `exact` and for certificates."""
    grid = {"t1": 1.0, "steps": 5, "paths": 200}
    start = torch.tensor([1.0, -0.5], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"system.jacobians\(\) is not the derivative of system"):
        sdewm.fundamental_matrix(LinearStep(**options), start, **grid)
    growth = sdewm.fundamental_matrix(LinearStep(), start, **grid)
    assert growth.bounds["log_norm"].kind == "certificate"
    assert growth.mean_square.last.deviation_from(growth.exact.last.value) < 5


def test_results_do_not_depend_on_chunk_or_tile(monkeypatch):
    whole, parts = grow(steps=8), grow(steps=8, chunk=1)
    monkeypatch.setattr(rollout_divergence, "_NUMBERS_AT_ONCE", 12 * 9 * 32)
    small = grow(steps=8)
    for name in NORMS:
        assert np.array_equal(whole[name].values, parts[name].values)
        np.testing.assert_allclose(small[name].values, whole[name].values, rtol=1e-13)
    assert small.kurtosis == pytest.approx(whole.kurtosis, rel=1e-12)
    assert not np.allclose(grow(steps=8, seed=1).mean.values[1:], whole.mean.values[1:], rtol=1e-6)


def test_one_start_per_path_is_followed():
    starts = torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    norms = slow_norms(WORLD, 30, 6, 1.0, starts)
    np.testing.assert_allclose(grow(x0=starts, paths=30).mean.values, norms.mean(0), rtol=1e-11)
    assert not np.allclose(grow(paths=30).mean.values[1:], norms.mean(0)[1:], rtol=1e-3)


def test_heavy_tails_show_in_the_kurtosis():
    light, heavy = (
        grow(GeometricBrownianMotion(volatility=v), steps=20, paths=20_000) for v in (0.02, 0.7)
    )
    assert light.kurtosis == pytest.approx(3.0, abs=0.3)
    assert heavy.kurtosis > 30
    assert heavy.kurtosis > grow(PearsonDiffusion(), steps=20, paths=20_000).kurtosis


class Cubic:
    noise_type, sde_type, x0 = "diagonal", "ito", torch.tensor([5.0], dtype=torch.float64)

    def f(self, t, y):
        return y**3

    def g(self, t, y):
        return 0 * y


def test_a_path_or_matrix_that_blows_up_is_named():
    with pytest.raises(FloatingPointError, match="system: the "):
        grow(Cubic(), t1=20.0, steps=20)
    fast = LinearFlow(matrix=((1e40, 0.0), (0.0, 1e40)), noise=(), start=(0.0, 0.0))
    with pytest.raises(FloatingPointError, match="fundamental matrix: "):
        grow(fast, steps=10, kind="certificate")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"paths": 0}, "paths=0"),
        ({"t1": -1.0}, r"t1=-1\.0"),
        ({"seed": 0.5}, r"seed=0\.5"),
        ({"form": "sdes"}, "form='sdes' is not allowed; did you mean 'sde'"),
        ({"kind": "proof"}, "kind='proof'"),
        ({"dtype": torch.int64}, "dtype=torch.int64"),
        ({"device": "gpu"}, "device='gpu'"),
        ({"chunk": 0}, "chunk=0"),
        ({"x0": torch.zeros(7, 3)}, r"x0 has shape \(7, 3\)"),
        ({"system": FLOW, "x0": torch.zeros(1, dtype=torch.float64)}, "system.f returned shape"),
    ],
)
def test_bad_input_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        grow(**options)


def test_an_unknown_norm_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'sup_square'"):
        grow(paths=2)["sup_squared"]

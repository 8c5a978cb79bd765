"""Rates sampled along the tube: equal to analytic ones, never above proven ones."""

import math
from dataclasses import fields

import pytest
import torch

from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.certificates.network_system import NetworkSystem
from sdewm.sde.examples import CircleDiffusion, CubicFlow, LinearFlow, LinearWorldModel
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import Rates, block_slices
from sdewm.sde.solve import solve_path
from sdewm.theory.bounds import tube as module
from sdewm.theory.bounds.coefficients import Coefficients
from sdewm.theory.bounds.jacobian_rates import exact_rates, jacobian_rates
from sdewm.theory.bounds.tube import exact_reference, sample_tube, sampled_rates

F64 = {"dtype": torch.float64}
ZERO = torch.zeros(())


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, **F64, generator=generator)


def network(size=3, width=8, seed=0):
    module = torch.nn.Sequential(
        torch.nn.Linear(size, width, **F64),
        torch.nn.Tanh(),
        torch.nn.Linear(width, size, **F64),
    )
    for k, weight in enumerate(module.parameters()):
        weight.data = draw(*weight.shape, seed=seed + k) / weight.shape[-1] ** 0.5
    return module.requires_grad_(False)


def tube_of(system, error, t1=1.0, steps=5, paths=20, x0=None):
    drivers = system.g(ZERO, system.x0[None]).shape[-1]
    noise = GaussianNoise(drivers=drivers, steps=steps, t1=t1)
    states = system.x0.expand(paths, -1) if x0 is None else x0
    return sample_tube(system, states, error.expand(paths, -1), noise), noise


def sampled(system, error, blocks=None, **options):
    tube, noise = tube_of(system, error, **options)
    parts = block_slices(system, blocks, system.state_size)
    return tube, *sampled_rates(system, tube, noise.step_size, parts)


def test_the_tube_holds_both_paths_and_the_variations():
    system, error = CircleDiffusion(), torch.tensor([0.3], **F64)
    tube, noise = tube_of(system, error)
    times = tube.grid.tolist()
    start = system.x0.expand(20, -1)
    reference = solve_path(system, start, noise, times=times)
    other = solve_path(system, start + error, noise, times=times)
    torch.testing.assert_close(tube.reference, reference)
    torch.testing.assert_close(tube.difference, other - reference)
    h = 1e-3
    near = [solve_path(system, start + s * error, noise, times=times) for s in (h, -h)]
    torch.testing.assert_close(tube.first, (near[0] - near[1]) / (2 * h), rtol=1e-5, atol=1e-7)
    second = (near[0] + near[1] - 2 * reference) / h**2
    torch.testing.assert_close(tube.second, second, rtol=1e-3, atol=1e-6)
    assert tube.second[:, -1].abs().min() > 1e-4


@pytest.mark.parametrize("make", [LinearFlow, LinearWorldModel])
def test_sampled_rates_of_affine_systems_are_the_exact_ones(make):
    system = make()
    error = torch.full((system.state_size,), 0.1, **F64)
    parts = [slice(i, i + 1) for i in range(system.state_size)]
    _, rates, _ = sampled(system, error, parts)
    exact = exact_rates(system, 0.2, parts).repeated(5)
    for field in fields(Rates):
        found, expected = getattr(rates, field.name), getattr(exact, field.name)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_sampled_rates_reach_the_analytic_ones_along_the_segment():
    # Between x and x + D the slopes of −0.9 sin and of 0.5 + 0.2 cos are known.
    system, error = CircleDiffusion(), torch.tensor([0.8], **F64)
    tube, rates, _ = sampled(system, error, steps=8, paths=200)
    for n in range(8):
        x, d = tube.reference[:, n, 0], tube.difference[:, n, 0]
        points = x + torch.linspace(0, 1, 101, **F64)[:, None] * d
        top = {
            "drift": (0.9 * points.cos()).abs().max(),
            "noise": (0.2 * points.sin()).abs().max(),
            "curvature": (0.9 * points.sin()).abs().max(),
            "noise_curvature": (0.2 * points.cos()).abs().max(),
        }
        for name, value in top.items():
            found = getattr(rates, name)[n]
            assert 0.97 * value <= found <= value * (1 + 1e-12), name


def test_the_tube_widens_rates_beyond_the_reference():
    system = CircleDiffusion()
    _, near, _ = sampled(system, torch.tensor([1e-6], **F64))
    _, wide, _ = sampled(system, torch.tensor([1.0], **F64))
    assert wide.curvature[0] > 1.5 * near.curvature[0]
    assert wide.curvature[0].item() == pytest.approx(0.9 * math.sin(1.6))


class Diagonal:
    """Diagonal noise with a full Jacobian, and the same as general noise."""

    sde_type, x0, state_size = "ito", torch.tensor([0.3, -0.2], **F64), 2

    def __init__(self, noise_type):
        self.noise_type = noise_type
        self.rows = draw(2, 2, seed=3)

    def f(self, t, y):
        return -(y**3)

    def g(self, t, y):
        value = torch.sin(y @ self.rows) + 1.5
        return value if self.noise_type == "diagonal" else torch.diag_embed(value)


def test_diagonal_noise_has_the_rates_of_its_general_form():
    error = torch.tensor([0.2, 0.4], **F64)
    (_, short, _), (_, full, _) = (sampled(Diagonal(k), error) for k in ("diagonal", "general"))
    for field in fields(Rates):
        if field.name not in ("radial", "log_norm", "fourth"):  # of which diagonal knows more
            torch.testing.assert_close(getattr(short, field.name), getattr(full, field.name))
        else:
            assert (getattr(short, field.name) <= getattr(full, field.name) + 1e-12).all()
    assert not short.additive


def test_jacobians_are_those_of_reverse_mode():
    for system in (Diagonal("diagonal"), Diagonal("general")):
        points = draw(4, 2, seed=5)
        drift, noise = Coefficients(system, ZERO, points).jacobians(ZERO, points)
        for i, point in enumerate(points):
            full = torch.func.jacrev(lambda x, s=system: s.f(ZERO, x[None])[0])(point)
            torch.testing.assert_close(drift[i], full)
            full = torch.func.jacrev(lambda x, s=system: s.g(ZERO, x[None])[0])(point)
            full = full if system.noise_type == "diagonal" else full.transpose(0, 1)
            torch.testing.assert_close(noise[i], full)


def test_additive_noise_has_no_jacobian():
    system = NetworkSystem(network(), 0.1, torch.zeros(3, **F64))
    points = draw(4, 3)
    assert Coefficients(system, ZERO, points).jacobians(ZERO, points)[1] is None


@pytest.mark.parametrize("name", ["network", "recurrent", "cubic"])
@pytest.mark.parametrize("step_size", [0.1, 0.4, 1.0])
def test_sampled_rates_never_exceed_proven_ones(name, step_size):
    if name == "network":
        system = NetworkSystem(network(), 0.3, draw(3, seed=9), relaxation_time=0.8)
        error = torch.tensor([0.4, -0.2, 0.3], **F64)
    elif name == "recurrent":
        system = RecurrentSystem.like_trained(hidden=6, latent=2)
        error = (0.2 * draw(8, seed=4)).clamp(-0.2, 0.2)
    else:
        system, error = CubicFlow(), torch.tensor([0.2], **F64)
    paths = 40
    states = system.x0 + 0.3 * draw(paths, system.state_size, seed=8)
    if name == "recurrent":
        states[:, :6] = states[:, :6].clamp(-0.8, 0.8)  # states + error stay in |h| ≤ 1
    if name == "cubic":
        states = states.clamp(-1.1, 1.1)
    parts = block_slices(system, None, system.state_size)
    tube, rates, _ = sampled(system, error, t1=6 * step_size, steps=6, paths=paths, x0=states)
    both = torch.cat((states, states + error))
    proven = system.certified_rates(both.amin(0), both.amax(0), step_size, parts).repeated(6)
    for field in fields(Rates):
        found, bound = getattr(rates, field.name), getattr(proven, field.name)
        if field.name == "least_log_norm":
            found, bound = -found, -bound
        assert (found <= bound + 1e-12).all(), field.name
    # Not vacuous, though the certificates of a GRU are loose.
    share = 0.15 if name == "recurrent" else 0.4
    assert (rates.drift > share * proven.drift).any()
    assert (rates.step > share * proven.step).any()
    assert (rates.curvature > 0.005 * proven.curvature).any()


def test_the_reference_carries_its_own_rates():
    system, error = NetworkSystem(network(), 0.3, draw(3, seed=9)), 0.1 * draw(3, seed=1)
    tube, rates, reference = sampled(system, error)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: system.f(ZERO, x[None])[0]))
    for n in range(5):
        drift = jacobian(tube.reference[:, n])
        step = torch.eye(3, **F64) + 0.2 * drift
        torch.testing.assert_close(reference.step[:, n], torch.linalg.matrix_norm(step, 2))
        top = torch.linalg.eigvalsh(0.5 * (drift + drift.mT))[:, -1]
        torch.testing.assert_close(reference.log_norm[:, n], top)
        assert (reference.step[:, n] <= rates.step[n]).all()
    torch.testing.assert_close(reference.variation, tube.first.norm(dim=2))
    torch.testing.assert_close(reference.error, error.norm().expand(20))
    # The transition matrices are those that carry the variation.
    for n in range(6):
        assert (reference.variation[:, n] <= reference.transition[:, n, 0] * error.norm()).all()
    again = exact_reference(system, tube, 0.2)
    for name in ("step", "log_norm", "variation", "error", "transition"):
        torch.testing.assert_close(getattr(again, name), getattr(reference, name))


def test_norms_of_products_are_computed_where_a_bound_uses_them_and_they_fit(monkeypatch):
    error = torch.tensor([0.1], **F64)
    assert sampled(CubicFlow(), error)[2].transition.shape == (20, 6, 6)
    assert sampled(CircleDiffusion(), error)[2].transition is None  # multiplicative noise
    linear = LinearWorldModel()
    assert sampled(linear, torch.full((4,), 0.1, **F64))[2].transition is None  # D = y
    monkeypatch.setattr(module, "_MOST_NORMS", 20 * 6**2 - 1)
    assert sampled(CubicFlow(), error)[2].transition is None


def test_large_systems_take_the_iteration_and_stay_below_lapack():
    system = RecurrentSystem.like_trained(hidden=60, latent=8, seed=2)
    error = 0.05 * draw(68, seed=3)
    tube, rates, reference = sampled(system, error, t1=2.0, steps=2, paths=4)
    assert reference.transition is None
    coefficients = Coefficients(system, ZERO, tube.reference[:, 0])
    parts = list(system.blocks.values())
    for n in range(2):
        points = torch.cat([tube.reference[:, n] + s * tube.difference[:, n] for s in (0, 0.5, 1)])
        drift, _ = coefficients.jacobians(ZERO, points)
        exact = {name: v.amax(-1) for name, v in jacobian_rates(drift, None, 1.0, parts).items()}
        assert 0.9 * exact["drift"] < rates.drift[n] <= exact["drift"] * (1 + 1e-9)
        assert 0.9 * exact["step"] < rates.step[n] <= exact["step"] * (1 + 1e-9)
    full = exact_reference(system, tube, 1.0)
    assert (reference.step <= full.step * (1 + 1e-9)).all()
    torch.testing.assert_close(reference.step, full.step, rtol=0.1, atol=0)
    torch.testing.assert_close(reference.variation, full.variation)


class Normalised:
    """A drift whose nested derivatives torch takes wrongly unless it is recorded."""

    noise_type, sde_type, x0, state_size = "diagonal", "ito", draw(4, seed=2), 4

    def f(self, t, y):
        return (
            torch.nn.functional.layer_norm(y, (4,)) * torch.tensor([1.0, 2.0, -1.0, 0.5]).double()
        )

    def g(self, t, y):
        return torch.zeros_like(y)


def test_curvatures_of_a_layer_norm_are_those_of_differences():
    system, points = Normalised(), draw(3, 4, seed=6)
    direction = torch.nn.functional.normalize(draw(3, 4, seed=7))
    found, none = Coefficients(system, ZERO, points).curvatures(ZERO, points, direction)
    h = 1e-4
    shifted = [system.f(ZERO, points + s * h * direction) for s in (1, 0, -1)]
    exact = ((shifted[0] - 2 * shifted[1] + shifted[2]) / h**2).norm(dim=1)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)
    assert not none.any()


class Detached:
    noise_type, sde_type, x0, state_size = "diagonal", "ito", torch.ones(2, **F64), 2

    def f(self, t, y):
        return y.detach() * y

    def g(self, t, y):
        return torch.zeros_like(y)


def test_wrong_derivatives_are_refused():
    with pytest.raises(
        ValueError, match=r"coefficients \(system.f, system.g\) block derivatives by detach"
    ):
        Coefficients(Detached(), ZERO, torch.ones(3, 2, **F64))


def test_the_rates_of_a_step_are_the_extremes_over_the_segments():
    """On the circle A = −0.9 cos x: ν is its least value over the tube, not its largest."""
    system = CircleDiffusion()
    tube, rates, _ = sampled(system, torch.tensor([0.8], **F64))
    for n in range(5):
        slopes = -0.9 * torch.cos(module.segments(tube, n))
        assert float(slopes.max() - slopes.min()) > 0.05
        assert rates.least_log_norm[n].item() == pytest.approx(float(slopes.min()))
        assert rates.drift[n].item() == pytest.approx(float(slopes.abs().max()))

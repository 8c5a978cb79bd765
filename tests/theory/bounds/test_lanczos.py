"""Lanczos' iteration on Jacobian products against LAPACK."""

import pytest
import torch

from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.sde.examples import TanhWorldModel
from sdewm.theory.bounds import lanczos
from sdewm.theory.bounds.coefficients import Coefficients
from sdewm.theory.bounds.jacobian_rates import jacobian_rates
from sdewm.theory.bounds.lanczos import RateIteration, iterated_rates

STEP = 0.4
ZERO = torch.zeros(())


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


class Field:
    """dx = N(x) dt, a random network on D components; with noise in two drivers if asked."""

    sde_type = "ito"

    def __init__(self, size=72, noise=0.0, noise_type="general"):
        self.noise_type, self.size = noise_type, size
        self.inner, self.outer = draw(size, size, seed=1), draw(size, size, seed=2)
        self.rows = noise * draw(2, size, size, seed=3) / size**0.5

    def f(self, t, y):
        return torch.tanh(y @ self.inner / self.size**0.5) @ self.outer / self.size**0.5 - y

    def g(self, t, y):
        if self.noise_type == "diagonal":
            return torch.sin(y @ self.rows[0])
        return torch.stack([torch.sin(y @ rows) for rows in self.rows], dim=2)


def both(system, states, blocks):
    coefficients = Coefficients(system, ZERO, states)
    with torch.no_grad():
        exact = jacobian_rates(*coefficients.jacobians(ZERO, states), STEP, blocks)
        both = coefficients.drift, coefficients.diffusion
        return exact, iterated_rates(*both, ZERO, states, STEP, blocks)


def compare(exact, found, names, share):
    for name in names:
        e, f = exact[name], found[name]
        assert (f <= e + 1e-9 * e.abs()).all(), name
        assert (f >= e - share * e.abs().amax()).all(), name


def test_rates_of_a_recurrent_model_with_two_blocks_are_those_of_lapack(monkeypatch):
    system = RecurrentSystem.like_trained(hidden=60, latent=12, seed=1)
    assert system.state_size > lanczos.LARGE
    states = system.x0 + 0.3 * draw(4, 72)
    blocks = list(system.blocks.values())
    exact, rough = both(system, states, blocks)
    names = ("drift", "step", "fourth", "step_blocks")
    compare(exact, rough, names, share=0.1)
    assert (rough["log_norm"] <= exact["log_norm"] + 1e-9).all()
    assert (exact["log_norm"] - rough["log_norm"]).max() < 0.1
    assert not rough["noise"].any() and not rough["radial"].any()
    monkeypatch.setattr(lanczos, "_ITERATIONS", 72)
    _, fine = both(system, states, blocks)
    for name in (*names, "log_norm", "blocks"):
        torch.testing.assert_close(fine[name], exact[name], rtol=1e-8, atol=1e-8)
    # Negative control: the rough ones are not these.
    assert not torch.allclose(rough["drift"], exact["drift"], rtol=1e-8)


@pytest.mark.parametrize("noise_type", ["general", "diagonal"])
def test_rates_with_multiplicative_noise_are_those_of_lapack_or_admissible(monkeypatch, noise_type):
    system, states = Field(noise=0.5, noise_type=noise_type), 0.5 * draw(3, 72, seed=9)
    monkeypatch.setattr(lanczos, "_ITERATIONS", 72)
    exact, found = both(system, states, [slice(0, 72)])
    for name in ("drift", "noise", "step"):
        torch.testing.assert_close(found[name], exact[name], rtol=1e-8, atol=0)
    second = found["log_norm"][1]
    torch.testing.assert_close(second, exact["log_norm"][1], rtol=1e-8, atol=1e-8)
    for name in ("radial", "fourth"):
        assert (found[name] >= exact[name] * (1 - 1e-9)).all()
    assert (found["log_norm"][[0, 2]] >= exact["log_norm"][[0, 2]] - 1e-9).all()
    assert (found["least_log_norm"] <= exact["least_log_norm"]).all()
    assert torch.isinf(found["blocks"]).all() and torch.isinf(found["step_blocks"]).all()
    monkeypatch.setattr(lanczos, "_ITERATIONS", 8)
    _, rough = both(system, states, [slice(0, 72)])
    compare(exact, rough, ("drift", "noise", "step"), share=0.1)


def test_ritz_vectors_of_nearby_states_make_a_good_start_and_a_change_of_noise_none():
    system, states = Field(), 0.5 * draw(3, 72, seed=9)
    one = Coefficients(system, ZERO, states)
    run = RateIteration(one.drift, one.diffusion, STEP, [slice(0, 72)])
    first, second = run.rates(ZERO, states), run.rates(ZERO, states)
    for name in ("drift", "step"):
        assert (second[name] >= first[name] * (1 - 1e-3)).all()
    exact, _ = both(system, states, [slice(0, 72)])
    compare(exact, second, ("drift", "step"), share=0.1)
    # In a system whose noise starts to depend on the state, operators are added on the way.
    late = Field(noise=0.5)
    run.drift, run.diffusion = late.f, late.g
    compare(both(late, states, [slice(0, 72)])[0], run.rates(ZERO, states), ("drift", "noise"), 0.1)


def test_norms_of_more_than_four_blocks_are_not_computed():
    system, states = Field(), 0.5 * draw(2, 72, seed=9)
    five = [slice(0, 10), slice(10, 20), slice(20, 30), slice(30, 40), slice(40, 72)]
    _, found = both(system, states, five)
    assert found["blocks"].shape == (2, 5, 5)
    assert torch.isinf(found["blocks"]).all()
    _, four = both(system, states, [*five[:3], slice(30, 72)])
    assert torch.isfinite(four["blocks"]).all()


def test_names_and_shapes_are_those_of_the_exact_rates():
    system, states = TanhWorldModel(state_size=5, width=6), draw(7, 5)
    exact, found = both(system, states, [slice(0, 5)])
    assert {*found} == {*exact} - {"curvature", "noise_curvature"}
    for name, value in found.items():
        assert value.shape == exact[name].shape, name
    # Five components, eight iterations: the space is exhausted, the values are exact.
    torch.testing.assert_close(found["drift"], exact["drift"])
    torch.testing.assert_close(found["step"], exact["step"])

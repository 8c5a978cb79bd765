"""A world model as a system: its own step, derivatives and inputs, and models that are not ours."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sdewm import Perturbation, expand
from sdewm.base.derivative_checks import check_derivatives
from sdewm.base.taylor import record
from sdewm.latent_sde.models import RSSMModel, StepModel
from sdewm.latent_sde.system import as_system
from sdewm.model.rssm import State
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from tests.model.small_models import GAUSSIAN, A, D, make_model, randn, random_state

EPISODES, STEPS = 3, 4
ZERO = torch.zeros((), dtype=torch.float64)
STYLES = [("none", "elu"), ("layer", "silu"), ("rms", "silu")]


def inputs(seed=0):
    """Actions and observations of some episodes."""
    actions = torch.tanh(randn(EPISODES, STEPS, A, seed=seed))
    return actions, randn(EPISODES, STEPS, D, seed=seed + 1)


def flat(state):
    return torch.cat([state.deter, state.stoch], 1)


def start_of(model, system, repeats=1):
    return system.start(flat(random_state(model.rssm, EPISODES)), repeats)


@pytest.mark.parametrize(("norm", "activation"), STYLES)
@pytest.mark.parametrize("observed", [True, False])
def test_an_euler_step_is_the_models_own_step(norm, activation, observed):
    model = make_model("gaussian", norm=norm, activation=activation)
    actions, observations = inputs()
    system = as_system(model, actions=actions, observations=observations if observed else None)
    start = start_of(model, system)
    noise = GaussianNoise(drivers=system.model.noise_size, steps=STEPS, t1=STEPS, seed=1)
    end = solve_path(system, start, noise)[:, 0]
    state = random_state(model.rssm, EPISODES)
    for n, drawn in enumerate(noise.stream(0, EPISODES)):
        if observed:
            never = torch.zeros(EPISODES, dtype=torch.bool)
            embed = model.encoder(observations[:, n])
            state = model.rssm.observe_step(state, actions[:, n], never, embed, drawn)
        else:
            state = model.rssm.imagine_step(state, actions[:, n], drawn)
    assert torch.allclose(end[:, :-1], flat(state), rtol=0, atol=1e-12)
    assert end[:, -1].tolist() == [0, 1, 2] and system.label == "exact"
    other = as_system(model, actions=actions.flip(1), observations=observations)
    assert not torch.allclose(solve_path(other, start, noise)[:, 0], end, atol=1e-3)


def test_steps_of_the_relaxation_time_are_the_models_own_and_shorter_ones_refine():
    model = make_model("gaussian")
    actions, observations = inputs()
    slow = as_system(model, actions=actions, observations=observations, relaxation_time=0.5)
    start = start_of(model, slow)
    noise = GaussianNoise(drivers=5, steps=1, t1=0.5, seed=1)
    step = solve_path(slow, start, noise)[:, 0]
    (drawn,) = noise.stream(0, EPISODES)
    assert torch.allclose(step, slow.step(start, 0, drawn / 0.5**0.5), atol=1e-12)
    stationary = as_system(
        model,
        actions=actions,
        observations=observations,
        relaxation_time=0.5,
        variance="stationary",
    )
    assert torch.allclose(stationary.g(ZERO, start), 2**0.5 * slow.g(ZERO, start))


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
@pytest.mark.parametrize(("norm", "activation"), STYLES)
def test_derivatives_of_the_step_agree_with_central_differences(latent, norm, activation):
    model = make_model(latent, norm=norm, activation=activation)
    actions, observations = inputs()
    weight = randn(model.rssm.features_size, A, seed=9)
    for system in (
        as_system(model, actions=actions, observations=observations),
        as_system(model, policy=lambda x: torch.tanh(x @ weight)),
    ):
        states = random_state(model.rssm, system.episodes)
        start = system.start(flat(states))

        def both(y, system=system):
            return system.f(ZERO, y), system.g(ZERO, y)

        jacobian = torch.func.vmap(torch.func.jacrev(lambda y: both(y[None])[0][0]))(start)
        step = 1e-5
        for j in range(system.state_size):
            unit = step * torch.eye(system.state_size, dtype=start.dtype)[j]
            slope = (both(start + unit)[0] - both(start - unit)[0]) / (2 * step)
            assert torch.allclose(jacobian[:, :, j], slope, atol=1e-7)
        # Second derivatives are taken of a recorded graph, in which norms are written out.
        recorded = record(lambda y, both=both: both(y), (start,))
        check_derivatives("the step", recorded, (start,))


def test_a_policy_beyond_the_range_of_actions_has_no_derivative_there():
    model = make_model("gaussian")
    system = as_system(model, policy=lambda x: 3 + x[:, :A])
    state = system.start(flat(random_state(model.rssm, 1)))
    fixed = as_system(model, actions=torch.ones(1, A))
    assert torch.equal(system.f(ZERO, state), fixed.f(ZERO, state))
    tangent = torch.ones_like(state)
    slopes = [
        torch.func.jvp(lambda y, s=s: s.f(ZERO, y), (state,), (tangent,))[1]
        for s in (system, fixed)
    ]
    assert torch.equal(*slopes)


def test_each_row_takes_the_inputs_of_its_episode():
    model = make_model("gaussian")
    actions, observations = inputs()
    whole = as_system(model, actions=actions, observations=observations)
    start = start_of(model, whole, repeats=2)
    assert start[:, -1].tolist() == [0, 0, 1, 1, 2, 2]
    time = torch.tensor(2.0 - 1e-9, dtype=torch.float64)  # a whole time, to rounding
    assert torch.equal(whole.f(time, start), whole.f(torch.full_like(time, 2.0), start))
    unit = torch.zeros_like(start)
    unit[:, -1] = 1
    slopes = torch.func.jvp(lambda y: y + whole.f(time, y), (start,), (unit,))[1]
    assert not slopes.any()  # the step has no derivative by the number of the episode
    for e in range(EPISODES):
        alone = as_system(model, actions=actions[e], observations=observations[e])
        rows = start[2 * e : 2 * e + 2]
        assert torch.allclose(whole.f(time, rows)[:, :-1], alone.f(time, rows[:, :-1]), atol=1e-14)
        assert torch.allclose(whole.g(time, rows)[:, :-1], alone.g(time, rows[:, :-1]), atol=1e-14)


def test_one_hot_latents_are_replaced_by_a_gaussian_of_their_mean_and_covariance():
    model = make_model("categorical")
    actions, observations = inputs()
    system = as_system(model, actions=actions, observations=observations)
    assert system.label == "surrogate: Gaussian of the same mean and covariance"
    mean, factor = system.law(ZERO, start_of(model, system))
    latent = system.model.latent
    covariance = (factor @ factor.mT)[:, latent, latent]
    pi = mean[:, latent]
    slow = torch.zeros_like(covariance)
    for s in range(3):
        part = slice(4 * s, 4 * s + 4)
        for b in range(EPISODES):
            p = pi[b, part]
            slow[b, part, part] = torch.diag(p) - torch.outer(p, p)
    assert torch.allclose(covariance, slow, atol=1e-15)
    state = random_state(model.rssm, EPISODES)
    deter = model.rssm.deterministic(state, actions[:, 0])
    stats = model.rssm.posterior(deter, model.encoder(observations[:, 0]))
    assert torch.allclose(pi, stats.exp().flatten(1)) and not factor[:, : latent.start].any()


@pytest.mark.parametrize(("cell", "norm"), [("gru", "layer"), ("block_gru", "rms")])
def test_the_expansion_holds_on_a_recurrent_state_space_model(cell, norm):
    rssm = replace(GAUSSIAN, cell=cell, gaussian_size=3)
    model = make_model("gaussian", rssm=rssm, norm=norm, activation="silu")
    actions, observations = inputs()
    system = as_system(model, actions=actions[0, :3], observations=observations[0, :3])
    latent = system.model.latent

    def shift(t, y):
        return torch.nn.functional.pad(torch.tanh(y[:, latent]), (latent.start, 0))

    def diffusion(t, y):
        return 0.5 * system.g(t, y)

    result = expand(
        system,
        Perturbation(drift=shift, diffusion=diffusion),
        lambda y: (y**2).sum(1),
        randn(1, 19),
        t1=3,
        steps=3,
        increments="enumerate",
    )
    order = result.order()
    assert 2.7 < order.slope < 3.3 and order.verdict.outcome == "holds"
    assert all(abs(result.terms[name].value) > 1e-4 for name in ("P", "Q", "S", "Q_drift"))


class ForeignGRU(nn.Module):
    """A world model in plain torch: h' = GRU(h, [z, a]), z' = W h' + s ξ; encoder of h', o'."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.cell, self.prior = nn.GRUCell(2 + A, 6), nn.Linear(6, 2)
            self.encoder = nn.Linear(6 + D, 4)
        self.double().requires_grad_(False)

    def step(self, state, action, noise):
        h, z = state[:, :6], state[:, 6:]
        h = self.cell(torch.cat([z, action], 1), h)
        return torch.cat([h, self.prior(h) + 0.3 * torch.cos(h[:, :2]) * noise], 1)

    def encode(self, state, observation):
        mean, free = self.encoder(torch.cat([state[:, :6], observation], 1)).chunk(2, 1)
        return mean, torch.nn.functional.softplus(free)


def test_a_world_model_in_plain_torch_comes_in_by_its_step_and_its_encoder():
    gru = ForeignGRU()
    model = StepModel(gru.step, state_size=8, noise_size=2, encoder=gru.encode, latent=slice(6, 8))
    actions, observations = inputs()
    state = randn(EPISODES, 8)
    noise = GaussianNoise(drivers=2, steps=STEPS, t1=STEPS, seed=1)
    for seen in (None, observations):
        system = as_system(model, actions=actions, observations=seen)
        end = solve_path(system, system.start(state), noise)[:, 0, :-1]
        slow = state
        for n, drawn in enumerate(noise.stream(0, EPISODES)):
            slow = gru.step(slow, actions[:, n], drawn)
            if seen is not None:
                mean, std = gru.encode(slow, seen[:, n])
                slow = torch.cat([slow[:, :6], mean + std * drawn], 1)
        assert torch.allclose(end, slow, atol=1e-12)


def test_noise_that_enters_other_than_linearly_is_refused():
    model = StepModel(lambda x, a, v: x + a + v**2, state_size=A, noise_size=A)
    with pytest.raises(ValueError, match="not linear in its noise"):
        as_system(model, actions=torch.ones(2, A))


def test_a_model_in_float64_is_made_of_a_copy():
    model = make_model("gaussian").float()
    as_system(model, actions=torch.ones(2, A))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert all(weight.requires_grad for weight in model.parameters())
    assert not any(weight.requires_grad for weight in RSSMModel(model).world_model.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "neither of actions and policy"),
        ({"actions": torch.ones(2, A), "policy": lambda x: x}, "both of actions and policy"),
        ({"actions": [[1.0] * A]}, "actions is a list: expected a tensor"),
        (
            {"actions": torch.ones(2, A), "observations": [[1.0] * D]},
            "observations is a list: expected a tensor",
        ),
        ({"actions": torch.ones(A)}, r"actions have shape \(3,\)"),
        ({"actions": torch.ones(2, A + 1)}, "does not take these inputs"),
        (
            {"actions": torch.ones(2, A), "observations": torch.ones(3, D)},
            r"observations have \(T, E\) = \(3, 1\), actions \(2, 1\)",
        ),
        ({"actions": torch.ones(2, A), "observations": torch.ones(2, D + 1)}, "observations"),
        ({"actions": torch.ones(2, A), "relaxation_time": 0.0}, "relaxation_time=0.0"),
        ({"actions": torch.ones(2, A), "variance": "stationery"}, "did you mean 'stationary'"),
        ({"actions": torch.ones(2, A), "error_drivers": -1}, "error_drivers=-1"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        as_system(make_model("gaussian"), **given)


def test_what_is_no_world_model_is_refused():
    with pytest.raises(ValueError, match=r"world_model=GRUCell: .* sdewm.StepModel of a step"):
        as_system(nn.GRUCell(2, 2), actions=torch.ones(2, A))


def test_states_that_do_not_fit_are_refused():
    system = as_system(make_model("gaussian"), actions=inputs()[0])
    with pytest.raises(ValueError, match=r"states=\(2, 21\): expected \(E, D\) = \(3, 21\)"):
        system.start(torch.zeros(2, 21))
    state = State(torch.zeros(1, 16), torch.zeros(1, 5))
    assert flat(state).shape == (1, 21)

"""Enclosed rollouts of the shipped models and of others: bounds, refusals, audits."""

import numpy as np
import pytest
import torch
from torch import nn

import sdewm
from paper_checks.cases.trained_models import WITH, WITHOUT, trained_run
from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.certificates.network_system import NetworkSystem
from sdewm.latent_sde.losses import value
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.model.rssm import RSSMConfig
from sdewm.model.world_model import WorldModel, WorldModelConfig
from sdewm.sde.examples import OrnsteinUhlenbeck
from sdewm.theory.flow import path_problem
from sdewm.theory.flow.rollout_divergence import rollout_divergence
from sdewm.theory.flow.rollout_enclosure import Violations, enclose_rollouts

STEPS, START = 6, 5


def shipped(name, episode=0):
    """A shipped model from a posterior state of an episode, under the actions that follow."""
    run = trained_run(name)
    episodes = run.episodes(START + STEPS + 2, 2, 0)
    states = clean_paths(run.model, episodes.first_rows(START + 1), 0).states
    actions = episodes.previous_actions[episode, START + 1 : START + 1 + STEPS]
    return sdewm.as_system(run.model, actions=actions), states[episode, START]


def latent_directions(system):
    """The unit vectors of z."""
    return torch.eye(system.model.state_size).double()[:, system.model.latent]


@pytest.fixture(scope="module", params=[WITHOUT, WITH])
def case(request):
    """A shipped model with an error of 0.03 in z on two paths."""
    system, start = shipped(request.param)
    directions = latent_directions(system)
    return (
        system,
        start,
        sdewm.enclose_rollouts(system, start, 0.03, directions, steps=STEPS, paths=2),
    )


def test_bounds_of_a_trained_model_are_certificates_close_to_an_attack(case):
    _, _, tube = case
    attacked = tube.attack()
    assert tube.abstains == ()
    assert tube.violations(attacked).count == 0
    ratio = tube.bounds / attacked
    assert 1.0 <= ratio.min() <= ratio.max() < 1.05


def test_half_of_the_bound_is_violated_by_the_attack(case):
    """The control of the audit."""
    _, _, tube = case
    assert tube.violations(2.0 * tube.attack()) == Violations(2, 2, 1.0)


def test_measured_divergence_on_the_same_noise_is_below_the_mean_bound(case):
    system, start, tube = case
    error = 0.03 * latent_directions(system)[:, 3]
    measured = rollout_divergence(system, start, error, t1=STEPS, steps=STEPS, paths=2, seed=0)
    for name in tube:
        assert (measured[name].values <= tube[name].values).all()
    size = measured["mean"].values[1]
    assert size == pytest.approx(float(distances(tube, error)[:, 1].mean()), rel=1e-6)


def distances(tube, error):
    """|X_k(e) − X_k(0)|, (P, N + 1), with the steps of the result."""
    found = []
    for i in range(len(tube.bounds)):
        problem = tube._problem.of(slice(i, i + 1))
        x, step = torch.cat([problem.start, problem.start + error]), problem.step
        row = [float((x[1] - x[0]).norm())]
        for n in range(tube.bounds.shape[1] - 1):
            x = step(n, x)
            row.append(float((x[1] - x[0]).norm()))
        found.append(row)
    return torch.tensor(found, dtype=torch.float64)


def test_errors_in_the_whole_state_and_an_ellipsoid_are_enclosed():
    system, start = shipped(WITHOUT, episode=1)
    size = system.model.state_size
    covariance = torch.randn(size, 5, generator=torch.Generator().manual_seed(0)).double()
    for directions, radius in ((None, 0.01), (covariance / covariance.norm(), 0.05)):
        tube = enclose_rollouts(system, start, radius, directions, steps=4, paths=1)
        attacked = tube.attack()
        assert tube.violations(attacked).count == 0
        assert (tube.bounds / attacked).max() < 1.2


def test_an_error_of_the_observation_is_enclosed_through_the_encoder():
    run = trained_run(WITHOUT)
    episodes = run.episodes(START + STEPS + 2, 2, 0)
    state = clean_paths(run.model, episodes.first_rows(START + 1), 0).states[0, START]
    rows = slice(START + 1, START + 1 + STEPS)
    system = sdewm.as_system(run.model, actions=episodes.previous_actions[0, rows])
    seen = episodes.observations[0, START + 1]
    tube = enclose_rollouts(system, state, 1e-4, steps=4, paths=1, observation=seen)
    attacked = tube.attack()
    assert tube.bounds[0, 0] == 0.0 == attacked[0, 0]
    assert tube.violations(attacked).count == 0
    assert (tube.bounds[0, 1:] / attacked[0, 1:]).max() < 1.3
    # The attacked distance is that of the model's own filter and imagination.
    moved = torch.stack([seen.double(), seen.double() + 1e-4 * tube.directions[:, 1]])
    noise = tube.noise[0, :, : run.model.noise_size]
    act = episodes.previous_actions[0, rows].double()
    x = run.model.sample(
        state.expand(2, -1), act[:1].expand(2, -1), run.model.embed(moved), noise[:1].expand(2, -1)
    )[0]
    for n in range(1, 4):
        x = run.model.sample(x, act[n : n + 1].expand(2, -1), None, noise[n : n + 1].expand(2, -1))[
            0
        ]
    assert float((x[1] - x[0]).norm()) <= attacked[0, 4] * (1 + 1e-9)


def test_an_observation_needs_a_world_model_with_recorded_actions():
    case, seen = OrnsteinUhlenbeck(), torch.zeros(3)
    with pytest.raises(ValueError, match="observation: expected a world model"):
        enclose_rollouts(case, case.x0, 0.1, steps=2, paths=1, observation=seen)
    system, start = shipped(WITHOUT)
    with pytest.raises(ValueError, match="observation has shape .1, 5."):
        enclose_rollouts(system, start, 0.1, steps=2, paths=1, observation=torch.zeros(1, 5))


def test_means_are_labelled_as_sampled_with_a_t_interval(case):
    _, _, tube = case
    assert tube.kind == "certificate per path, mean over sampled paths"
    curve, (low, high) = tube["mean"], tube.interval("mean")
    assert curve.values == pytest.approx(tube.bounds.mean(0).numpy())
    spread = tube.bounds.std(0, correction=1).numpy() / np.sqrt(2)
    assert (high - low) == pytest.approx(2 * 12.7062 * spread, rel=1e-5, abs=1e-12)
    assert tube["sup"].values == pytest.approx(tube.bounds.cummax(1).values.mean(0).numpy())
    assert len(tube) == 4
    with pytest.raises(ValueError, match="name='median'"):
        tube["median"]


def test_states_of_another_size_are_refused():
    model = sdewm.StepModel(lambda x, a, v: x + a, state_size=2, noise_size=1)
    one = sdewm.as_system(model, actions=torch.zeros(3, 2))
    several = sdewm.as_system(model, actions=torch.zeros(4, 3, 2))
    for system, size, said in ((one, 3, "expected 2"), (several, 2, "expected 3, .* episode")):
        x0 = torch.zeros(size).double()
        with pytest.raises(ValueError, match=f"a state has {size} numbers: {said}"):
            enclose_rollouts(system, x0, 0.1, steps=2)
        with pytest.raises(ValueError, match=f"a state has {size} numbers: {said}"):
            system.f(torch.zeros(()), x0[None])


def test_a_readout_gets_the_states_of_the_system_with_the_episode():
    model = sdewm.StepModel(lambda x, a, v: torch.tanh(x + a), state_size=2, noise_size=1)
    actions = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0)).double()
    system = sdewm.as_system(model, actions=actions)
    rows = system.start(torch.tensor([[0.2, -0.1]]).double().expand(3, -1))
    settings = {"steps": 2, "paths": 3, "slabs": 2}
    whole = enclose_rollouts(
        system, rows, 0.1, readout=lambda y: torch.exp(y.sum(1)), **settings
    ).readout
    model_only = enclose_rollouts(
        system, rows, 0.1, readout=lambda y: torch.exp(y[:, :2].sum(1)), **settings
    ).readout
    assert torch.allclose(whole, model_only * torch.arange(3)[:, None].exp(), rtol=2e-3)
    number = enclose_rollouts(
        system, rows, 0.1, readout=lambda y: 0 * y[:, 0] + y[:, 2], **settings
    )
    assert (number.readout < 1e-12).all()


def test_an_episode_is_the_nearest_whole_number():
    model = sdewm.StepModel(lambda x, a, v: x * a, state_size=1, noise_size=1)
    actions = torch.tensor([1.0, 5.0])[:, None, None].expand(2, 3, 1)
    system = sdewm.as_system(model, actions=actions)
    for number, factor in ((0.1, 1.0), (0.9, 5.0)):
        tube = enclose_rollouts(system, torch.tensor([0.2, number]).double(), 0.1, steps=1, paths=1)
        assert tube.bounds[0, 1] == pytest.approx(0.1 * factor, rel=1e-9)


def test_what_is_asked_of_a_result_is_checked(case):
    _, _, tube = case
    for call, said in (
        (lambda: tube.violations("x"), "measured=str: expected a tensor"),
        (lambda: tube.violations(None), "measured=NoneType: expected a tensor"),
        (lambda: tube.attack(seed=-1), "seed=-1"),
        (lambda: tube.attack(seed=1.5), "seed=1.5"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_a_single_path_has_no_standard_error():
    case = OrnsteinUhlenbeck()
    tube = enclose_rollouts(case, case.x0, 0.1, steps=2, paths=1, step_size=0.1)
    assert np.isnan(tube["mean"].standard_errors).all()


def test_abstentions_have_path_step_and_reason_and_an_infinite_mean():
    """x' = x + x² Δ leaves every bound in finite time; a path that is measured later has none."""

    class Explosive:
        noise_type, sde_type = "additive", "ito"

        def f(self, t, y):
            return y * y

        def g(self, t, y):
            return 0.0 * y.unsqueeze(-1) + torch.tensor(0.1, dtype=torch.float64)

    start = torch.tensor([1.0], dtype=torch.float64)
    tube = enclose_rollouts(Explosive(), start, 0.5, steps=12, paths=2, step_size=0.2)
    assert [one.path for one in tube.abstains] == [0, 1]
    step = min(one.step for one in tube.abstains)
    assert all(one.reason for one in tube.abstains)
    assert np.isfinite(tube["mean"].values[:step]).all()
    assert np.isinf(tube["mean"].values[step:]).all()
    assert tube.violations(tube.attack().nan_to_num(nan=0.0)).count == 0


def test_a_general_system_is_enclosed_by_its_own_steps():
    case = RecurrentSystem.like_trained(hidden=8, latent=2)
    tube = enclose_rollouts(case, case.x0, 0.01, steps=6, paths=2, step_size=0.5)
    assert tube.violations(tube.attack()).count == 0
    assert (tube.bounds / tube.attack()).max() < 1.05


def own_model(**changes):
    """An RSSM that is not ours: nn.GRUCell blocks, root-mean-square norm, a Gaussian head."""
    torch.manual_seed(1)
    cells = [nn.GRUCell(4, 5).double() for _ in range(2)]
    norm, head = nn.RMSNorm(10, eps=1e-4).double(), nn.Linear(10, 6).double()

    def step(x, a, v):
        h, z = x[:, :10], torch.cat([x[:, 10:], a], 1)
        parts = [cell(z, part) for cell, part in zip(cells, h.chunk(2, -1), strict=True)]
        h = torch.cat(parts, -1)
        mean, free = head(norm(h)).chunk(2, -1)
        z = mean + (torch.nn.functional.softplus(free) + 0.1) * v
        return torch.cat([h, changes.get("last", lambda z: z)(z)], -1)

    for module in (*cells, norm, head):
        module.requires_grad_(False)
    return sdewm.StepModel(step, state_size=13, noise_size=3)


def test_a_model_that_is_not_ours_is_enclosed():
    system = sdewm.as_system(own_model(), actions=torch.rand(5, 1))
    start = 0.5 * torch.randn(13, generator=torch.Generator().manual_seed(2)).double()
    tube = enclose_rollouts(system, start, 0.003, steps=5, paths=2)
    attacked = tube.attack()
    assert tube.violations(attacked).count == 0
    assert (tube.bounds / attacked).max() < 1.1


def ascended(tube, points=40, ascents=8):
    """The largest |X_k(e) − X_k(0)| on the way of gradient ascents from random e, all paths."""
    paths, steps = len(tube.bounds), tube.bounds.shape[1] - 1
    problem, directions = tube._problem, tube.radius * tube.directions
    generator, worst = torch.Generator().manual_seed(1), torch.zeros_like(tube.bounds)
    e = torch.randn(paths, points, directions.shape[1], generator=generator).double()
    e = e / e.norm(dim=-1, keepdim=True)
    for _ in range(ascents):
        e.requires_grad_()
        moved = problem.start[:, None] + e @ directions.T
        x, clean, found = moved.flatten(0, 1), problem.start, []
        for n in range(steps + 1):
            found.append((x.unflatten(0, (paths, points)) - clean[:, None]).norm(dim=-1))
            if n < steps:
                x, clean = problem.step(n, x), problem.step(n, clean)
        worst = torch.maximum(worst, torch.stack(found, -1).detach().amax(1))
        (slope,) = torch.autograd.grad(found[-1].sum(), e)
        e = slope / slope.norm(dim=-1, keepdim=True)
    return worst


@pytest.mark.parametrize("radius", [0.003, 0.03, 0.1])
def test_a_hundred_audited_starts_of_a_model_that_is_not_ours_have_no_violation(radius):
    system = sdewm.as_system(own_model(), actions=torch.rand(5, 1))
    starts = 0.5 * torch.randn(100, 13, generator=torch.Generator().manual_seed(2)).double()
    tube = enclose_rollouts(system, starts, radius, steps=2, paths=100)
    attacked = ascended(tube)
    found = tube.violations(attacked)
    assert (found.count, found.trials) == (0, 100)
    assert found.probability == pytest.approx(1 - 0.05**0.01)
    assert not tube.abstains
    assert (tube.bounds / attacked).median() < 1.1
    # The control: bounds of a ball that is smaller by a tenth.
    assert tube.violations(attacked / 0.9).count == 100


def test_a_model_with_a_layer_without_an_enclosure_is_refused_by_its_name():
    model = own_model(last=lambda z: z + 0.0 * torch.sin(z.detach()))
    system = sdewm.as_system(model, actions=torch.rand(5, 1))
    with pytest.raises(ValueError, match="sin is not supported"):
        enclose_rollouts(system, torch.zeros(13), 0.01, steps=2, paths=1)


def one_hot_system():
    rssm = RSSMConfig(cell="gru", deter=8, hidden=8, groups=2, classes=3)
    config = WorldModelConfig(rssm=rssm, norm="layer", units=8, vector_layers=1)
    model = WorldModel(config, (3,), 1, torch.Generator().manual_seed(0))
    return sdewm.as_system(model, actions=torch.rand(5, 1))


def test_one_hot_latents_are_refused():
    with pytest.raises(ValueError, match="one-hot"):
        enclose_rollouts(one_hot_system(), torch.zeros(14), 0.01, steps=2, paths=1)


def test_a_closed_loop_and_several_episodes_are_enclosed():
    model = sdewm.StepModel(
        lambda x, a, v: torch.tanh(x + 0.3 * a) + 0.1 * v, state_size=2, noise_size=2
    )
    start = torch.tensor([0.2, -0.1]).double()
    closed = sdewm.as_system(model, policy=lambda x: -x.clamp(-1, 1))
    tube = enclose_rollouts(closed, start, 0.1, steps=4, paths=2)
    assert tube.violations(tube.attack()).count == 0
    actions = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0)).double()
    system = sdewm.as_system(model, actions=actions)
    rows = system.start(start.expand(3, -1))
    tube = enclose_rollouts(system, rows, 0.1, steps=4, paths=3)
    assert tube.directions.shape == (2, 2)
    for episode in range(3):
        alone = sdewm.as_system(model, actions=actions[episode])
        bound = enclose_rollouts(alone, rows[:, :2], 0.1, steps=4, paths=3).bounds[episode]
        assert torch.equal(tube.bounds[episode], bound)


BAD = {
    "radius": ({"radius": 0.0}, "radius=0.0: expected a number above 0"),
    "steps": ({"steps": 0}, "steps=0"),
    "paths": ({"paths": 0}, "paths=0"),
    "order": ({"order": "third"}, "order='third'"),
    "step size": ({"step_size": -1.0}, "step_size=-1.0"),
    "directions": ({"directions": torch.ones(3, 1)}, "directions is .3, 1.: expected"),
    "no columns": ({"directions": torch.ones(1, 0)}, "p = 0 columns"),
    "many columns": ({"directions": torch.ones(1, 129)}, "p = 129 columns"),
    "infinite": ({"directions": torch.full((1, 1), torch.inf)}, "not finite"),
    "complex": ({"directions": torch.ones(1, 1) * 1j}, "complex64.*dense tensor of real numbers"),
    "sparse": ({"directions": torch.eye(1).to_sparse()}, "sparse.*dense tensor of real numbers"),
    "start": ({"x0": torch.zeros(1, 1, 1)}, "x0 has shape"),
    "whole numbers": ({"x0": torch.zeros(1).long()}, "x0=torch.int64: expected a floating point"),
    "readout": ({"readout": 3}, "readout=3: expected a function of states"),
    "observation": ({"observation": [1.0]}, "observation=list: expected a tensor"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments_are_refused_before_any_work(name):
    changes, message = BAD[name]
    case = OrnsteinUhlenbeck()
    given = {"x0": case.x0, "radius": 0.1, "steps": 2, "paths": 1} | changes
    with pytest.raises(ValueError, match=message):
        enclose_rollouts(case, **given)


def test_inputs_of_a_model_are_checked():
    model = own_model()
    actions = torch.rand(5, 1)
    slow = sdewm.as_system(model, actions=actions, relaxation_time=2.0)
    with pytest.raises(ValueError, match="own steps"):
        enclose_rollouts(slow, torch.zeros(13), 0.1, steps=2, paths=1)
    with pytest.raises(ValueError, match="steps=6: the system has inputs for 5 steps"):
        enclose_rollouts(
            sdewm.as_system(model, actions=actions), torch.zeros(13), 0.1, steps=6, paths=1
        )


def test_memory_is_refused_before_the_work(monkeypatch):
    case = OrnsteinUhlenbeck()
    monkeypatch.setattr(path_problem, "MOST_BYTES", 1 << 10)
    with pytest.raises(ValueError, match="the sets would take about"):
        enclose_rollouts(case, case.x0, 0.1, steps=2, paths=1)


def test_violations_count_rollouts_and_bound_their_probability():
    case = OrnsteinUhlenbeck()
    tube = enclose_rollouts(case, case.x0, 0.1, steps=2, paths=3, step_size=0.1)
    measured = tube.bounds.repeat(20, 1, 1)
    found = tube.violations(measured)
    assert (found.count, found.trials) == (0, 60)
    assert found.probability == pytest.approx(1 - 0.05 ** (1 / 60))
    measured[4, 1, 2] *= 1.001
    measured[5, 1, 0] = torch.nan
    assert tube.violations(measured.numpy()).count == 2
    with pytest.raises(ValueError, match="measured has shape"):
        tube.violations(measured[..., :2])


READOUTS = {
    "critic": lambda system: value(system),
    "decoder": lambda system: system.model.decoder.predict,
}


@pytest.mark.parametrize("name", READOUTS)
def test_what_a_head_reads_from_the_rollouts_is_bounded_closely(name):
    """Against the first order's best error, which a gradient through the rollout gives."""
    system, start = shipped("agent")
    readout = READOUTS[name](system)
    directions = latent_directions(system)
    tube = enclose_rollouts(system, start, 0.01, directions, steps=STEPS, paths=1, readout=readout)
    problem = tube._problem
    clean = moved(problem.step, readout, start)
    e = torch.zeros(directions.shape[1], dtype=torch.float64, requires_grad=True)
    read = moved(problem.step, readout, start + 0.01 * directions @ e)
    for k in (0, 1, 3, STEPS):
        # The direction of the largest component, both ways.
        (slope,) = torch.autograd.grad(read[k].flatten()[0], e, retain_graph=True)
        found = [
            moved(problem.step, readout, start + sign * 0.01 * directions @ slope / slope.norm())[k]
            for sign in (-1.0, 1.0)
        ]
        worst = max(float((one - clean[k]).detach().norm()) for one in found)
        bound = float(tube.readout[0, k])
        assert worst <= bound
        assert bound < (1.2 if name == "critic" else 2.0) * worst
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        drawn = torch.randn(directions.shape[1], generator=rng, dtype=torch.float64)
        other = moved(problem.step, readout, start + 0.01 * directions @ drawn / drawn.norm())
        gaps = torch.stack([(a - b).norm() for a, b in zip(other, clean, strict=True)])
        assert (gaps.detach() <= tube.readout[0]).all()


def moved(step, readout, state):
    """What is read at each step of a rollout."""
    x, found = state[None], []
    for n in range(STEPS + 1):
        found.append(readout(x))
        x = step(n, x) if n < STEPS else x
    return found


def test_a_readout_is_enclosed_after_an_observation_as_well():
    system, start = shipped("agent")
    seen = trained_run("agent").episodes(START + STEPS + 2, 2, 0).observations[0, START + 1]
    tube = enclose_rollouts(
        system, start, 1e-4, steps=3, paths=1, observation=seen.double(), readout=value(system)
    )
    assert tube.readout[0, 0] == 0.0
    assert torch.isfinite(tube.readout).all()
    assert tube.readout[0, 1] > 0.0


def test_slabs_improve_the_bounds_of_a_trained_model():
    system, start = shipped(WITH)
    directions = latent_directions(system)
    whole, cut = (
        enclose_rollouts(system, start, 0.3, directions, steps=STEPS, paths=1, slabs=slabs)
        for slabs in (1, 6)
    )
    attacked = cut.attack()
    assert (attacked <= cut.bounds).all()
    assert (cut.bounds <= whole.bounds).all()
    assert cut.bounds[0, -1] < 0.85 * whole.bounds[0, -1]
    assert cut.slabs == 6


def test_paths_enclosed_together_have_the_bounds_of_each():
    system, start = shipped(WITHOUT)
    directions = latent_directions(system)
    together = enclose_rollouts(system, start, 0.05, directions, steps=4, paths=5, seed=3)
    for i in range(5):
        own = together._problem.of(slice(i, i + 1))
        asked = path_problem.Request(0.05 * directions[None], 4, 2)
        (alone,) = own.enclosed(asked)
        assert torch.allclose(alone.bounds, together.bounds[i], rtol=1e-6)


class Mixing(OrnsteinUhlenbeck):
    """A system that keeps its rows on the second axis for a while."""

    def f(self, t, y):
        return super().f(t, y).T.tanh().T


def test_a_step_that_moves_its_rows_is_enclosed_one_path_at_a_time():
    case = Mixing()
    found = enclose_rollouts(case, case.x0, 0.1, steps=3, paths=3, step_size=0.1, slabs=2)
    assert (found.attack() <= found.bounds).all()
    assert not found.abstains


def test_the_number_of_slabs_is_checked():
    case = OrnsteinUhlenbeck()
    for slabs in (0, 257, 1.5):
        with pytest.raises(ValueError, match="slabs"):
            enclose_rollouts(case, case.x0, 0.1, steps=1, paths=1, slabs=slabs)


def test_an_attack_on_a_model_that_has_changed_is_refused():
    """After its weights were tripled the attack found 0.15 and more where the bound was 0.1."""
    weight = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    weight.weight.data = 0.5 * torch.eye(2, dtype=torch.float64)
    system = NetworkSystem(weight.requires_grad_(False), 0.3, torch.ones(2, dtype=torch.float64))
    tube = enclose_rollouts(system, system.x0, 0.1, steps=3, paths=2, step_size=0.5)
    assert tube.violations(tube.attack()).count == 0
    weight.weight.data *= 3.0
    with pytest.raises(ValueError, match="the step gives other numbers .*enclose_rollouts again"):
        tube.attack()
    weight.weight.data /= 3.0
    tube.attack()

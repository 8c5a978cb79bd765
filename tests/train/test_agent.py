"""Whole updates: determinism, restoring, what moves, stored latents, and learning."""

from dataclasses import replace

import pytest
import torch

from sdewm.jacobian.penalty_config import PenaltyConfig
from sdewm.model.rssm import State
from sdewm.model.world_model import ReplayRows
from sdewm.train.latent_storage import unpack_stoch
from tests.train.small_agent import GAUSSIAN, SMALL, make_agent, make_batch, same, weights_of

PENALISED = replace(SMALL, jacobian=PenaltyConfig(weight=0.01, fraction=0.5, policy="included"))
CONFIGS = {"v3": SMALL, "v2": GAUSSIAN, "penalised": PENALISED}
configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def run(agent, updates, start=0):
    """Metrics of several updates, each on a batch of its own."""
    return [
        agent.update(make_batch(agent.config, seed=seed))[0]
        for seed in range(start, start + updates)
    ]


def equal_metrics(one, two):
    return all(
        [*a] == [*b] and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(one, two, strict=True)
    )


@configs
def test_equal_seeds_give_bitwise_equal_updates(config):
    agents = [make_agent(config), make_agent(config), make_agent(config, seed=1)]
    metrics = [run(agent, 3) for agent in agents]
    assert equal_metrics(*metrics[:2]) and not equal_metrics(*metrics[1:])
    assert same(weights_of(agents[0].world_model), agents[1].world_model)
    names = {f"loss/{name}" for name in ("dyn", "rep", "actor", "critic", "total")}
    assert names < {*metrics[0][0]}
    assert ("loss/jacobian" in metrics[0][0]) == (config is PENALISED)
    assert all(value.isfinite() and value.dim() == 0 for value in metrics[0][0].values())


@pytest.mark.parametrize("cell", ["block_gru", "gru"])
@pytest.mark.parametrize("config", [SMALL, GAUSSIAN, PENALISED], ids=CONFIGS)
def test_bfloat16_works_with_every_cell_and_is_close_to_float32(config, cell):
    model = replace(config.model, rssm=replace(config.model.rssm, cell=cell, blocks=4))
    agents = [
        make_agent(config, model=model, precision=precision)
        for precision in ("float32", "bfloat16")
    ]
    exact, rounded = (run(agent, 2) for agent in agents)
    assert all(weight.dtype == torch.float32 for weight in agents[1].world_model.parameters())
    assert [*exact[0]] == [*rounded[0]]
    found, expected = (metrics[0]["loss/reconstruction"] for metrics in (rounded, exact))
    assert 0 < abs(float(found - expected)) < 0.02 * float(expected)


@configs
def test_a_restored_agent_goes_on_bitwise_the_same(config):
    agent = make_agent(config)
    run(agent, 3)
    agent.policy_generator.manual_seed(99)
    state = agent.state_dict()
    fresh = make_agent(config, seed=5)  # other weights and generators
    fresh.load_state_dict(state)
    assert fresh.updates == 3
    continued, restored = run(agent, 2, 3), run(fresh, 2, 3)
    assert equal_metrics(continued, restored)
    parts = [(a.world_model, a.behaviour) for a in (agent, fresh)]
    assert same(weights_of(*parts[0]), *parts[1])
    states = [a.state_dict() for a in (agent, fresh)]
    for name in ("noise_generator", "policy_generator"):
        assert torch.equal(states[0][name], states[1][name])
    assert {*state["behaviour"]} >= {"returns.low", "returns.high"}
    forgetful = make_agent(config, seed=5)
    forgetful.load_state_dict(state | {"optimiser": {}})
    assert not equal_metrics(continued, run(forgetful, 2, 3))


def test_a_model_that_no_memory_holds_is_named():
    rssm = replace(SMALL.model.rssm, deter=10**10)
    with pytest.raises(ValueError, match="its weights do not fit into memory"):
        make_agent(replace(SMALL, model=replace(SMALL.model, rssm=rssm)))


@configs
def test_an_update_moves_every_part(config):
    agent = make_agent(config)
    parts = {"encoder", "rssm", "decoder", "reward"}
    modules = {name: getattr(agent.world_model, name) for name in parts}
    modules |= {"actor": agent.behaviour.actor, "critic": agent.behaviour.critic}
    before = {name: weights_of(module) for name, module in modules.items()}
    run(agent, 3)
    for name, module in modules.items():
        assert not same(before[name], module), name
    assert all(weight.isfinite().all() for weight in weights_of(*modules.values()))


@configs
def test_an_update_of_the_world_model_leaves_actor_and_critic(config):
    agent = make_agent(config)
    run(agent, 1)
    behaviour, model = weights_of(agent.behaviour), weights_of(agent.world_model)
    returns = agent.behaviour.returns.high.clone()
    metrics, _ = agent.update_world_model(make_batch(config))
    assert same(behaviour, agent.behaviour) and not same(model, agent.world_model)
    assert torch.equal(returns, agent.behaviour.returns.high)
    assert "loss/actor" not in metrics and "loss/dyn" in metrics
    agent.update(make_batch(config))
    assert not same(behaviour, agent.behaviour)


@configs
def test_frozen_views_see_every_update_and_every_load(config):
    agent, x = make_agent(config), torch.randn(2, make_agent(config).world_model.rssm.features_size)
    other = make_agent(config, seed=3)
    for change in (lambda: run(agent, 2), lambda: agent.load_state_dict(other.state_dict())):
        before = agent.frozen_critic(x)
        change()
        assert same(weights_of(agent.world_model), agent.frozen_model)
        assert same(weights_of(agent.behaviour.critic), agent.frozen_critic)
        assert not torch.equal(before, agent.frozen_critic(x))
        views = (agent.frozen_model, agent.frozen_critic)
        assert not any(w.requires_grad for view in views for w in view.parameters())


def gradients(agent, batch, wanted):
    """Gradient sums by part of one loss of the behaviour."""
    rows, initial = agent._split_context(batch)
    noise = agent._draw_noise(rows.observation)
    _, _, seen = agent.model_losses(rows, initial, noise)
    losses, _, _ = agent.behaviour_losses(rows, seen, noise)
    losses[wanted].backward()
    parts = {
        "model": agent.world_model,
        "actor": agent.behaviour.actor,
        "critic": agent.behaviour.critic,
    }
    return {
        name
        for name, part in parts.items()
        if any(w.grad is not None and w.grad.abs().sum() > 0 for w in part.parameters())
    }


@pytest.mark.parametrize("objective", ["reinforce", "dynamics"])
def test_losses_of_the_behaviour_reach_their_own_parts(objective):
    config = replace(SMALL, behaviour=replace(SMALL.behaviour, actor_gradient=objective))
    expected = {
        "actor": {"actor"},
        "entropy": {"actor"},
        "critic": {"critic"},
        "slow": {"critic"},
        "replay_critic": {"critic", "model"},
    }
    for name, parts in expected.items():
        agent = make_agent(config)
        run(agent, 3)  # reward and value heads are zero at first
        assert gradients(agent, make_batch(config), name) == parts, name


@pytest.mark.parametrize("every", [1, 2])
def test_imagination_starts_at_posterior_states_with_their_own_continuation(every):
    behaviour = replace(SMALL.behaviour, imagination_stride=every, replay_critic_weight=0.0)
    agent = make_agent(replace(SMALL, context=0, behaviour=behaviour))
    batch = make_batch(agent.config, firsts=((0, 3), (1, 5)))  # rows (0, 2) and (1, 4) are terminal
    rows = ReplayRows.of(batch)
    noise = agent._draw_noise(rows.observation)
    _, _, seen = agent.model_losses(rows, None, noise)
    found = {}
    agent.behaviour.losses = lambda model, critic, imagined, continues: (
        found.update(features=imagined.features, continues=continues) or ({}, torch.zeros(1))
    )
    agent.behaviour_losses(rows, seen, noise)
    assert torch.equal(found["features"][0], seen.state.features[:, ::every].flatten(0, 1))
    assert torch.equal(found["continues"], 1.0 - rows.is_terminal[:, ::every].flatten().float())
    assert found["continues"].sum() == len(found["continues"]) - 2
    assert not found["features"].requires_grad


def test_slow_critic_and_normaliser_follow_the_updates():
    agent = make_agent()
    slow = weights_of(agent.behaviour.slow_critic)
    agent.update(make_batch())
    fast = weights_of(agent.behaviour.critic)
    for now, before, target in zip(
        weights_of(agent.behaviour.slow_critic), slow, fast, strict=True
    ):
        assert torch.allclose(now, before + 0.02 * (target - before), rtol=1e-5, atol=1e-8)
    lazy = make_agent(GAUSSIAN, behaviour=replace(GAUSSIAN.behaviour, slow_rate=1.0, slow_every=3))
    start = weights_of(lazy.behaviour.slow_critic)
    run(lazy, 2)
    assert same(start, lazy.behaviour.slow_critic)
    run(lazy, 1)
    assert same(weights_of(lazy.behaviour.critic), lazy.behaviour.slow_critic)


def observed(agent, batch):
    rows, initial = agent._split_context(batch)
    noise = agent._draw_noise(rows.observation)
    return agent.model_losses(rows, initial, noise)[2], noise


def test_refreshed_latents_are_the_posterior_states_of_their_rows():
    agent, batch = make_agent(), make_batch()
    generator = agent.noise_generator.get_state()
    seen, _ = observed(agent, batch)
    agent.noise_generator.set_state(generator)
    _, refreshed = agent.update(batch)
    assert {*refreshed} == {*agent.latent_fields}
    for name, field in agent.latent_fields.items():
        assert refreshed[name].shape == batch[name].shape and refreshed[name].dtype == field.dtype
        assert torch.equal(refreshed[name][:, 0], batch[name][:, 0])  # the context row stays
        assert not refreshed[name].requires_grad
    assert torch.allclose(refreshed["deter"][:, 1:].float(), seen.state.deter, atol=1e-3)
    stoch = unpack_stoch(refreshed["stoch"][:, 1:], SMALL.model.rssm)
    assert torch.allclose(stoch, seen.state.stoch, atol=1e-6)
    assert make_agent(GAUSSIAN).update(make_batch(GAUSSIAN))[1] == {}


def test_a_sequence_without_stored_latents_starts_from_the_zero_state():
    agent, batch = make_agent(), make_batch(firsts=())
    blank = {name: torch.zeros_like(batch[name]) for name in agent.latent_fields}
    _, initial = agent._split_context(batch | blank)
    zero = agent.world_model.rssm.initial(len(initial.deter))
    assert torch.equal(initial.deter, zero.deter) and torch.equal(initial.stoch, zero.stoch)
    stored = {**blank, "deter": torch.ones_like(blank["deter"])}
    _, kept = agent._split_context(batch | stored)
    assert kept.stoch.sum() == len(kept.stoch) * agent.config.model.rssm.groups


def test_a_sequence_started_from_stored_latents_continues_the_sequence():
    """Rows 3 … of a batch, from the latents stored with row 2, are rows 3 … of the whole."""
    agent, batch = make_agent(), make_batch(firsts=())
    seen, noise = observed(agent, batch)
    rssm = agent.config.model.rssm
    refreshed = agent._refreshed(batch, seen, noise)
    cut = {name: field[:, 2:] for name, field in (batch | refreshed).items()}
    rows, initial = agent._split_context(cut)
    assert initial.deter.dtype == torch.float32 and initial.stoch.shape[-1] == 4 * rssm.classes
    later = agent.world_model.observe(rows, noise.posterior[:, 2:], initial).state
    assert torch.allclose(later.deter, seen.state.deter[:, 2:], atol=2e-3)  # stored in half
    fresh = agent.world_model.observe(rows, noise.posterior[:, 2:]).state
    assert not torch.allclose(fresh.deter, seen.state.deter[:, 2:], atol=2e-3)
    shifted = State(initial.deter, unpack_stoch(cut["stoch"][:, 1], rssm))
    wrong = agent.world_model.observe(rows, noise.posterior[:, 2:], shifted).state
    assert not torch.allclose(wrong.deter, seen.state.deter[:, 2:], atol=2e-3)


def test_open_loop_is_in_observation_units_and_the_same_at_every_call():
    agent = make_agent(GAUSSIAN)
    batch = make_batch(GAUSSIAN)
    before = agent.noise_generator.get_state()
    one, two = agent.open_loop(batch, 2), agent.open_loop(batch, 2)
    assert torch.equal(one["model"], two["model"]) and torch.equal(
        one["truth"], batch["observation"]
    )
    assert one["model"].shape == one["truth"].shape and not one["model"].requires_grad
    assert torch.equal(before, agent.noise_generator.get_state())


def test_figures_of_the_jacobian_come_at_logged_updates():
    agent = make_agent(log_every_updates=2)
    first, second = run(agent, 2)
    assert not any(name.startswith("jacobian/") for name in first)
    assert second["jacobian/frobenius_mean"] > 0 and agent.updates == 2


@pytest.mark.parametrize("config", [SMALL, GAUSSIAN], ids=["v3", "v2"])
def test_runs_of_other_weights_share_every_other_random_number(config):
    found = []
    for weight in (0.0, 1e-30):
        agent = make_agent(config, jacobian=PenaltyConfig(weight=weight, fraction=0.5))
        run(agent, 12)
        found.append(weights_of(agent.world_model, agent.behaviour))
        found[-1].append(agent.policy("sample").generator.get_state())
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_penalty_lowers_the_jacobian():
    norms = {}
    for weight in (0.0, 10.0):
        agent = make_agent(
            replace(SMALL, context=0), jacobian=PenaltyConfig(weight=weight), log_every_updates=60
        )
        batch = make_batch(agent.config)
        for _ in range(60):
            metrics, _ = agent.update_world_model(batch)
        norms[weight] = metrics["jacobian/frobenius_mean"].item()
    assert norms[10.0] < 0.8 * norms[0.0]


@configs
def test_the_world_model_learns_one_batch_by_heart(config):
    agent, batch = make_agent(config), make_batch(config)
    losses = [agent.update_world_model(batch)[0] for _ in range(60)]
    for name in ("loss/reconstruction", "loss/reward"):
        assert losses[-1][name] < 0.7 * losses[0][name], name


def test_bfloat16_keeps_weights_and_losses_in_float32():
    agent = make_agent(precision="bfloat16")
    metrics = run(agent, 2)[-1]
    assert all(value.isfinite() for value in metrics.values())
    assert all(weight.dtype == torch.float32 for weight in weights_of(agent.world_model))
    exact = run(make_agent(), 2)[-1]
    assert metrics["loss/total"] != exact["loss/total"]
    assert torch.isclose(metrics["loss/total"], exact["loss/total"], rtol=0.1)


def test_a_penalty_with_the_policy_included_trains_the_dynamics_alone():
    agent = make_agent(PENALISED)
    rows, initial = agent._split_context(make_batch(PENALISED))
    noise = agent._draw_noise(rows.observation)
    agent.model_losses(rows, initial, noise)[0]["jacobian"].backward()
    assert any(weight.grad is not None for weight in agent.world_model.parameters())
    assert all(weight.grad is None for weight in agent.behaviour.parameters())


def test_compiled_updates_are_ordinary_updates(monkeypatch):
    """The compiler itself takes a minute here: test_scan.py and `make bench` run it."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **how: asked.append(how) or function)
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    config = replace(SMALL, jacobian=replace(SMALL.jacobian, weight=0.1))
    plain, fast = make_agent(config), make_agent(config)
    fast.compile()
    for seed in range(3):
        ours, theirs = (agent.update(make_batch(config, seed=seed))[0] for agent in (fast, plain))
        assert set(ours) == set(theirs)
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-6)
    assert len(asked) == 4 and fast.scan and fast.world_model.rssm.scan

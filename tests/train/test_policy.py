"""Acting: the state is filtered along the rows, and actions depend on what is seen."""

import numpy as np
import pytest
import torch

from sdewm.model.rssm import RSSMConfig, State
from sdewm.train.latent_storage import pack_stoch, unpack_stoch
from tests.train.small_agent import ACTIONS, GAUSSIAN, OBSERVATIONS, SMALL, make_agent

N = 3


def lively(config=SMALL):
    """An agent whose policy is far from constant."""
    agent = make_agent(config)
    with torch.no_grad():
        for weight in agent.behaviour.actor.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    return agent


def make_rows(step, first=False, seed=0):
    source = np.random.default_rng([seed, step])
    action = source.uniform(-1, 1, (N, ACTIONS)).astype(np.float32)
    return {
        "observation": source.normal(size=(N, OBSERVATIONS)).astype(np.float32),
        "previous_action": np.zeros_like(action) if first else action,
        "reward": np.zeros(N, np.float32),
        "is_first": np.full(N, first),
        "is_last": np.zeros(N, bool),
        "is_terminal": np.zeros(N, bool),
    }


def act_along(policy, rows):
    state, actions = policy.start(N), []
    for row in rows:
        action, state, _ = policy(row, state)
        actions.append(action)
    return np.stack(actions), state


ROWS = [make_rows(step, first=step == 0) for step in range(5)]


@pytest.mark.parametrize("config", [SMALL, GAUSSIAN])
def test_the_state_follows_the_filter_of_training(config):
    agent = lively(config)
    policy = agent.policy("sample")
    before = agent.policy_generator.get_state()
    _, state = act_along(policy, ROWS)
    noise = torch.Generator().set_state(before)
    rssm, slow = agent.world_model.rssm, agent.world_model.rssm.initial(N)
    for row in ROWS:
        drawn = rssm.latent.draw_noise((N,), noise)
        slow = rssm.observe_step(
            slow,
            torch.as_tensor(row["previous_action"]),
            torch.as_tensor(row["is_first"]),
            agent.world_model.encoder(torch.as_tensor(row["observation"])),
            drawn,
        )
        agent.behaviour.actor.draw_noise((N,), noise)
    assert torch.equal(state["deter"], slow.deter) and torch.equal(state["stoch"], slow.stoch)


def test_mean_actions_are_the_actors_mean_at_the_filtered_state():
    agent = lively()
    actions, state = act_along(agent.policy("mean"), ROWS)
    features = State(**state).features
    with torch.no_grad():
        assert np.array_equal(actions[-1], agent.behaviour.actor(features).mean.numpy())


@pytest.mark.parametrize("config", [SMALL, GAUSSIAN])
def test_mean_mode_is_the_same_twice_and_leaves_training_alone(config):
    agent = lively(config)
    before = [g.get_state() for g in (agent.policy_generator, agent.noise_generator)]
    one, _ = act_along(agent.policy("mean"), ROWS)
    two, _ = act_along(agent.policy("mean"), ROWS)
    assert np.array_equal(one, two)
    after = [g.get_state() for g in (agent.policy_generator, agent.noise_generator)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    sampled = [act_along(agent.policy("sample"), ROWS)[0] for _ in range(2)]
    assert not np.array_equal(*sampled)


@pytest.mark.parametrize("mode", ["sample", "mean"])
@pytest.mark.parametrize("config", [SMALL, GAUSSIAN])
def test_actions_depend_on_the_observation(config, mode):
    actions = []
    for seed in (0, 1):
        other = [dict(row) for row in ROWS]
        other[2]["observation"] = make_rows(2, seed=seed)["observation"]
        agent = lively(config)  # equal noise
        actions.append(act_along(agent.policy(mode), other)[0])
    assert np.array_equal(actions[0][:2], actions[1][:2])
    moved = np.abs(actions[0][2] - actions[1][2]).max(-1) > 1e-4
    assert moved.all() if config is GAUSSIAN else moved.any()  # draws of classes may agree


def test_actions_remember_earlier_observations_until_a_first_row():
    changed = [dict(row) for row in ROWS]
    changed[0] = make_rows(0, first=True, seed=9)
    actions = [act_along(lively().policy("mean"), rows)[0] for rows in (ROWS, changed)]
    assert (np.abs(actions[0][1:] - actions[1][1:]).max((1, 2)) > 1e-6).all()
    reset = [dict(row) for row in ROWS], [dict(row) for row in changed]
    for rows in reset:
        rows[3] = rows[3] | {"is_first": np.array([True, False, True])}
    one, two = (act_along(lively().policy("mean"), rows)[0] for rows in reset)
    assert np.array_equal(one[3:, [0, 2]], two[3:, [0, 2]])
    assert not np.array_equal(one[3:, 1], two[3:, 1])


def test_actions_stay_in_the_box():
    agent = lively()
    with torch.no_grad():
        agent.behaviour.actor.layers[-1].bias.fill_(5.0)
    actions, _ = act_along(agent.policy("sample"), ROWS)
    assert actions.dtype == np.float32 and actions.shape == (5, N, ACTIONS)
    assert np.abs(actions).max() == 1.0  # mean near 1 with a std of 1: some are cut


def test_latents_are_stored_with_their_rows_when_sequences_start_from_them():
    agent = lively()
    _, state, extras = agent.policy("sample")(ROWS[0], agent.policy("sample").start(N))
    assert {*extras} == {*agent.latent_fields} == {"deter", "stoch"}
    for name, field in agent.latent_fields.items():
        assert extras[name].shape == (N, *field.shape) and extras[name].dtype == field.dtype
        assert field.mutable
    assert torch.allclose(extras["deter"].float(), state["deter"], atol=1e-3)
    assert torch.equal(unpack_stoch(extras["stoch"], SMALL.model.rssm), state["stoch"])
    assert agent.policy("mean")(ROWS[0], state)[2] == {}
    without = lively(GAUSSIAN)
    assert (
        without.latent_fields == {}
        and without.policy("sample")(ROWS[0], without.policy("sample").start(N))[2] == {}
    )


@pytest.mark.parametrize(
    "config", [RSSMConfig(groups=3, classes=256), RSSMConfig(latent="gaussian", gaussian_size=5)]
)
def test_stored_samples_come_back_as_they_were(config):
    generator = torch.Generator().manual_seed(0)
    if config.latent == "gaussian":
        stoch = torch.randn(2, 4, 5, generator=generator)
    else:
        classes = torch.randint(0, 256, (2, 4, 3), generator=generator)
        classes[0, 0] = torch.tensor([0, 255, 128])
        stoch = torch.nn.functional.one_hot(classes, 256).float().flatten(-2)
    kept = pack_stoch(stoch, config)
    assert torch.equal(unpack_stoch(kept, config), stoch)
    assert kept.element_size() * kept.nelement() <= stoch.element_size() * stoch.nelement()

"""Rows of a policy in environments: aligned, counted, resumed bitwise; complete episodes."""

import functools

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from sdewm.data.rollout import Collector, RandomPolicy, run_episodes
from sdewm.data.vector import EpisodeVector, make_vector
from sdewm.data.wrappers import episode_seed
from tests.data.toy_env import make_counter, make_fragile

FIELDS = {"observation", "previous_action", "reward", "is_first", "is_last", "is_terminal"}
BOX = Box(-1.0, 1.0, (1,), np.float32)


def counters(envs=3, length=3):
    functions = [functools.partial(make_counter, index, 0, length) for index in range(envs)]
    return EpisodeVector(functions, workers=False, seed=0, name="counter")


def collect(collector, steps):
    """Rows stacked over time: fields (steps, N, …)."""
    rows = [collector.step() for _ in range(steps)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


class Counting:
    """Acts t/100 at its t-th call in an episode, a little more in later environments.

    Adds what it saw and the action that it chose to the rows.
    """

    def start(self, envs):
        return {"t": torch.zeros(envs)}

    def __call__(self, rows, state):
        first = torch.as_tensor(rows["is_first"])
        t = torch.where(first, torch.zeros(()), state["t"]) + 1
        actions = (t.numpy() / 100 + np.arange(len(t)) / 10)[:, None].astype(np.float32)
        extras = {"saw": rows["observation"].copy(), "chose": actions}
        return actions, {"t": t}, extras


def misaligned(rows):
    """What is wrong with stacked rows of `counters` under `Counting`, worked out by hand."""
    wrong = []
    for index in range(rows["reward"].shape[1]):
        episode, steps = 0, 0
        for t in range(len(rows["reward"])):
            row = {name: value[t, index] for name, value in rows.items()}
            seed = episode_seed(0, index, episode)
            action = 0.0 if steps == 0 else steps / 100 + index / 10
            over = steps >= 3 + seed % 2
            expected = {
                "observation": [seed % 1000, steps, np.float32(action)],
                "previous_action": [np.float32(action)],
                "reward": 0.0 if steps == 0 else 10 * steps + action,
                "is_first": steps == 0,
                "is_last": over,
                "is_terminal": over and seed % 2 == 0,
                "saw": [seed % 1000, steps, np.float32(action)],
                "chose": [(steps + 1) / 100 + index / 10],
            }
            wrong += [
                (t, index, name)
                for name, value in expected.items()
                if not np.allclose(row[name], value, rtol=1e-6, atol=1e-6)
            ]
            episode, steps = (episode + 1, 0) if over else (episode, steps + 1)
    return wrong


def test_every_row_is_the_one_worked_out_by_hand():
    rows = collect(Collector(counters(), Counting(), 1), 40)
    assert set(rows) == FIELDS | {"saw", "chose"}
    assert misaligned(rows) == []
    assert rows["is_terminal"].any() and (rows["is_last"] & ~rows["is_terminal"]).any()
    for name in FIELDS | {"saw", "chose"}:  # the comparison sees a shift of any field by one row
        shifted = {**rows, name: np.roll(rows[name], 1, axis=0)}
        assert {wrong[2] for wrong in misaligned(shifted)} == {name}


def test_dtypes_are_those_of_the_replay():
    rows = Collector(counters(), Counting(), 1).step()
    kinds = {name: str(rows[name].dtype) for name in FIELDS}
    assert {kinds.pop(name) for name in ("is_first", "is_last", "is_terminal")} == {"bool"}
    assert set(kinds.values()) == {"float32"}


def test_steps_frames_and_episodes_are_counted():
    collector = Collector(counters(), Counting(), 4)
    rows, pending = collect(collector, 25), collector._rows
    first = np.concatenate([rows["is_first"][1:], pending["is_first"][None]])
    reward = np.concatenate([rows["reward"][1:], pending["reward"][None]])
    last = np.concatenate([rows["is_last"][1:], pending["is_last"][None]])
    assert collector.policy_steps == (~first).sum() < 75
    assert collector.env_frames == 4 * collector.policy_steps
    finished = collector.finished
    assert collector.episodes == len(finished) == last.sum() > 9
    assert collector.finished == []
    for gain, length in finished:
        index = next(
            i
            for i in range(3)
            if gain
            == pytest.approx(sum(10 * s + s / 100 + i / 10 for s in range(1, length + 1)), rel=1e-6)
        )
        assert index in range(3) and length in (3, 4)
    in_progress = collector._returns[~last[-1]].sum()
    assert sum(gain for gain, _ in finished) + in_progress == pytest.approx(reward.sum(), rel=1e-6)


def test_actions_are_clipped_and_the_row_has_what_was_carried_out():
    class Wild(Counting):
        def __call__(self, rows, state):
            actions, state, extras = super().__call__(rows, state)
            return np.full_like(actions, 7.0), state, extras

    rows = collect(Collector(counters(), Wild(), 1), 3)
    assert rows["previous_action"][1:].tolist() == [[[1.0]] * 3] * 2
    assert (rows["observation"][1:, :, 2] == 1).all()


def test_an_exchanged_policy_acts_at_once_and_setting_the_same_one_changes_nothing():
    collector, policy = Collector(counters(), RandomPolicy(BOX, seed=0), 1), Counting()
    collector.step()
    collector.policy = policy
    collector.step()
    collector.policy = policy
    assert collector._state["t"].tolist() == [1, 1, 1]
    assert collector.step()["previous_action"][:, 0] == pytest.approx([0.01, 0.11, 0.21])


def test_random_actions_come_from_the_seed_and_the_call():
    def actions(seed):
        return collect(Collector(counters(), RandomPolicy(BOX, seed), 1), 300)["previous_action"]

    drawn = actions(0)
    assert np.array_equal(drawn, actions(0)) and not np.array_equal(drawn, actions(1))
    free = drawn[drawn != 0]
    assert abs(free.mean()) < 0.1 and free.std() == pytest.approx(3**-0.5, abs=0.03)
    assert len(np.unique(free)) > 0.99 * free.size


def make(name, obs, workers=False):
    return make_vector(
        name, envs=2, workers=workers, obs=obs, action_repeat=2, render="fast", seed=0
    )


def same(rows, others):
    return set(rows) == set(others) and all(np.array_equal(rows[n], others[n]) for n in rows)


@pytest.mark.parametrize(
    ("name", "obs"),
    [
        ("own:cartpole_pixels", "pixels"),
        ("dmc:cartpole_swingup", "proprio"),
        ("dmc:walker_walk", "proprio"),
        ("dmc:quadruped_walk", "proprio"),
    ],
)
def test_a_loaded_collector_goes_on_bitwise(name, obs):
    vector = make(name, obs)
    policy = RandomPolicy(vector.single_action_space, seed=3)
    collector = Collector(vector, policy, 2)
    collect(collector, 12)
    state = collector.state_dict()
    expected = collect(collector, 12)
    other = Collector(make(name, obs), policy, 2)
    collect(other, 5)
    other.load_state_dict(state)
    assert other.policy_steps == 24
    assert same(collect(other, 12), expected)
    # It is the loading that does it, and an action that is off by little is refused.
    fresh = Collector(make(name, obs), policy, 2)
    assert not same(collect(fresh, 12), expected)
    state["positions"]["actions"][3] *= np.float32(0.99)
    with pytest.raises(ValueError, match="environment 0 replayed its episode"):
        fresh.load_state_dict(state)


@pytest.mark.parametrize("steps", range(12))
def test_loading_is_right_at_every_point_of_an_episode(steps):
    collector = Collector(counters(), Counting(), 1)
    collect(collector, steps) if steps else None
    state = collector.state_dict()
    other = Collector(counters(), Counting(), 1)
    collect(other, 4)
    other.load_state_dict(state)
    assert same(collect(other, 20), collect(collector, 20))
    assert other.finished == collector.finished
    assert other.policy_steps == collector.policy_steps and other.episodes == collector.episodes


def test_the_state_is_a_copy():
    collector = Collector(counters(), Counting(), 1)
    collect(collector, 4)
    state = collector.state_dict()
    kept = {name: value.copy() for name, value in state["rows"].items()}
    moved = state["policy_state"]["t"].clone()
    collect(collector, 4)
    assert same(kept, state["rows"]) and torch.equal(moved, state["policy_state"]["t"])


def test_states_that_do_not_fit_are_refused():
    state = Collector(counters(), Counting(), 1).state_dict()
    with pytest.raises(ValueError, match="rows of the saved state"):
        Collector(counters(envs=2), Counting(), 1).load_state_dict(state)
    with pytest.raises(ValueError, match=r"saved \['t'\]; expected \['calls'\]"):
        Collector(counters(), RandomPolicy(BOX, 0), 1).load_state_dict(state)


@pytest.mark.parametrize(("envs", "episodes"), [(3, 7), (3, 3), (4, 2), (1, 4)])
def test_the_first_episodes_are_run_evenly_and_completely(envs, episodes):
    vector, done = counters(envs), []
    found = run_episodes(vector, Counting(), episodes, progress=done.append)
    places = [(episode.number, episode.env) for episode in found]
    assert places == [divmod(place, envs) for place in range(episodes)]
    assert done == sorted(done) and done[0] == 0 and done[-1] == episodes
    assert len(done) > max(episode.length for episode in found)  # at every step, not episode
    for episode in found:
        rows, seed = episode.rows, episode_seed(0, episode.env, episode.number)
        assert set(rows) == FIELDS | {"saw", "chose"}
        assert (rows["observation"][:, 0] == seed % 1000).all()
        assert rows["observation"][:, 1].tolist() == list(range(episode.length + 1))
        assert episode.length == 3 + seed % 2
        assert rows["is_first"].tolist() == [True] + [False] * episode.length
        assert rows["is_last"].tolist() == [False] * episode.length + [True]
        assert rows["is_terminal"][-1] == (seed % 2 == 0)
        expected = sum(10 * s + s / 100 + episode.env / 10 for s in range(1, episode.length + 1))
        assert episode.total_reward == pytest.approx(expected, rel=1e-6)


def test_the_same_episodes_are_run_at_every_call():
    vector = make("own:cartpole_pixels", "proprio")
    policy = RandomPolicy(vector.single_action_space, 0)
    first, again = (run_episodes(vector, policy, 2) for _ in range(2))
    assert all(same(a.rows, b.rows) for a, b in zip(first, again, strict=True))
    assert not same(first[0].rows, first[1].rows)
    assert [episode.length for episode in first] == [500, 500]


def test_a_number_of_episodes_is_checked():
    with pytest.raises(ValueError, match="episodes=0"):
        run_episodes(counters(), Counting(), 0)


def test_a_death_gives_a_first_row_and_no_policy_step(capfd):
    class Killer(Counting):
        calls = 0

        def __call__(self, rows, state):
            actions, state, extras = super().__call__(rows, state)
            self.calls += 1
            if self.calls == 3:
                actions[1] = 1.0
            return actions, state, extras

    functions = [functools.partial(make_fragile, index) for index in range(3)]
    vector = EpisodeVector(functions, workers=True, seed=0, name="fragile")
    try:
        collector = Collector(vector, Killer(), 1)
        rows = collect(collector, 5)
    finally:
        vector.close()
    assert rows["is_first"][:, 1].tolist() == [True, False, False, True, False]
    assert rows["reward"][3, 1] == 0 and rows["previous_action"][3, 1] == 0
    assert rows["chose"][3, 1] == pytest.approx(0.11)  # the policy was told to forget
    assert np.argwhere(rows["is_last"][:4]).tolist() == [[2, 1]]  # what follows is another episode
    assert not rows["is_terminal"].any()
    assert not rows["is_first"][1:5, [0, 2]].any()
    assert collector.policy_steps == 14
    assert "exit code -9" in capfd.readouterr().err

"""Discrete actions as one-hots: what the environment receives, and what is refused."""

import re

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from sdewm.data.one_hot import OneHotActions, OneHotSpace, action_groups
from sdewm.data.rollout import RandomPolicy, run_episodes
from sdewm.data.vector import EpisodeVector
from sdewm.data.wrappers import SeededEpisodes


class Echo(gymnasium.Env):
    """Tells the action it received; episodes of four steps."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float32)

    def __init__(self, space):
        self.action_space = space
        self.received = []

    def _row(self):
        last = np.ravel(self.received[-1]) if self.received else [-1.0]
        return np.resize(np.array(last, np.float32), 3)

    def reset(self, *, seed=None, options=None):
        self.received = []
        return self._row(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.received.append(action)
        return self._row(), 1.0, len(self.received) == 4, False, {}


def test_a_class_becomes_the_number_of_the_environment():
    env = OneHotActions(Echo(Discrete(3, start=-1)))
    env.reset()
    for index, number in ((0, -1), (2, 1)):
        env.step(np.eye(3, dtype=np.float32)[index])
        assert env.unwrapped.received[-1] == number


@pytest.mark.parametrize(
    ("indices", "cause"),
    [
        ([[1, 0], [1, -1]], "indices: -1 is no class; expected numbers from 0, below (2, 3)."),
        ([[2, 0]], "indices: 2 is no class; expected numbers from 0, below (2, 3)."),
        ([[1.0, 0.0]], "indices: dtype float64; expected whole numbers."),
        ([[True, False]], "indices: dtype bool; expected whole numbers."),
    ],
)
def test_indices_that_are_no_classes_are_refused(indices, cause):
    with pytest.raises(ValueError, match=re.escape(cause)):
        OneHotSpace((2, 3)).from_indices(np.array(indices))


def test_groups_of_a_multi_discrete_are_one_behind_the_other():
    env = OneHotActions(Echo(MultiDiscrete([2, 3], start=[0, 5])))
    assert env.action_space.groups == (2, 3) and env.action_space.shape == (5,)
    env.reset()
    env.step(np.array([0, 1, 0, 0, 1], np.float32))
    assert env.unwrapped.received[-1].tolist() == [1, 7]


@pytest.mark.parametrize("action", [[0, 0, 0, 1, 0], [1, 1, 1, 0, 0], [0.9, 0.1, 1, 0, 0]])
def test_what_is_not_one_hot_is_refused_and_not_contained(action):
    env = OneHotActions(Echo(MultiDiscrete([2, 3])))
    env.reset()
    given = np.array(action, np.float32)
    assert given not in env.action_space
    with pytest.raises(ValueError, match=r"one 1, else zeros, in each group of \(2, 3\)"):
        env.step(given)


@pytest.mark.parametrize("space", [MultiBinary(2), MultiDiscrete([[2, 2]]), Box(0, 1, (2,))])
def test_other_action_spaces_are_refused(space):
    with pytest.raises(ValueError, match="expected Discrete or a flat MultiDiscrete"):
        OneHotActions(Echo(space))


def test_samples_are_contained_and_spaces_differ_by_their_groups():
    space = OneHotSpace((2, 3), seed=0)
    assert all(space.sample() in space for _ in range(20))
    assert space == OneHotSpace((2, 3)) and space != OneHotSpace((3, 2))
    assert (action_groups(space), action_groups(Box(-1, 1, (5,)))) == ((2, 3), ())


def test_random_actions_are_uniform_over_the_classes_of_each_group():
    policy, count = RandomPolicy(OneHotSpace((2, 4)), seed=1), 20_000
    drawn = policy.actions(count, call=0)
    chances = np.array([1 / 2] * 2 + [1 / 4] * 4)
    z = (drawn.mean(0) - chances) / np.sqrt(chances * (1 - chances) / count)
    assert np.abs(z).max() < 4
    assert (policy.actions(5, 1) == policy.actions(5, 1)).all()
    assert (policy.actions(5, 1) != policy.actions(5, 2)).any()


def echoes(index):
    return SeededEpisodes(OneHotActions(Echo(MultiDiscrete([2, 3]))), 0, index)


def make_echo(index):
    return lambda: echoes(index)


def test_rows_hold_the_one_hot_that_led_to_them_and_zero_at_first():
    vector = EpisodeVector([make_echo(0), make_echo(1)], workers=False, seed=0, name="echo")
    space = vector.single_action_space
    for episode in run_episodes(vector, RandomPolicy(space, 0), 2):
        previous, seen = episode.rows["previous_action"], episode.rows["observation"]
        assert not previous[0].any() and len(previous) == 5
        assert all(action in space for action in previous[1:])
        assert (space.to_indices(previous[1:]) == seen[1:, :2]).all()
    vector.close()


def test_a_position_is_restored_from_its_one_hots():
    first = EpisodeVector([make_echo(0)], workers=False, seed=0, name="echo")
    first.reset()
    policy = RandomPolicy(first.single_action_space, 3)
    for call in range(3):
        row = first.step(policy.actions(1, call))[0]
    second = EpisodeVector([make_echo(0)], workers=False, seed=0, name="echo")
    ((observation, reward),) = second.restore(first.positions)
    assert (observation == row[0]).all() and reward == 1.0

"""Wrappers: repeats, stretched actions, numbered episodes and their replay."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from sdewm.data.wrappers import (
    ActionRepeat,
    Pixels,
    Position,
    SeededEpisodes,
    UnitActions,
    episode_seed,
    pack_positions,
    unpack_positions,
)
from tests.data.toy_env import Counter, make_counter


class Bounded(Counter):
    """Records the actions that it gets; bounds as given."""

    def __init__(self, low, high, dtype=np.float32):
        super().__init__(length=100)
        self.action_space = Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
        self.got = []

    def step(self, action):
        self.got.append(np.array(action))
        return super().step(action)


def test_repeated_rewards_are_summed_and_the_last_observation_returned():
    env = ActionRepeat(Counter(length=8), 3)
    env.reset(seed=0)
    observation, reward, terminated, truncated, _ = env.step(np.array([0.5], np.float32))
    assert observation.tolist() == [0.0, 3.0, 0.5]
    assert reward == 10 + 20 + 30 + 3 * 0.5
    assert not terminated and not truncated


@pytest.mark.parametrize("seed", [2, 3])
def test_repeating_stops_where_the_episode_ends(seed):
    env, length = ActionRepeat(Counter(length=4), 3), 4 + seed % 2
    env.reset(seed=seed)
    env.step(np.zeros(1))
    observation, reward, terminated, truncated, _ = env.step(np.zeros(1))
    assert observation[1] == length
    assert reward == sum(10 * step for step in range(4, length + 1))
    assert (terminated, truncated) == (seed == 2, seed == 3)


def test_actions_are_stretched_to_the_bounds():
    base = Bounded([-0.8, 0.0], [1.1, 4.0], np.float64)
    env = UnitActions(base)
    assert env.action_space == Box(-1.0, 1.0, (2,), np.float32)
    env.reset(seed=0)
    for action in ([-1, -1], [1, 1], [0, 0.5]):
        env.step(np.array(action, np.float32))
    np.testing.assert_allclose(base.got, [[-0.8, 0], [1.1, 4], [0.15, 3]])
    assert base.got[0].dtype == np.float64


def test_actions_of_bounds_one_go_through_bitwise():
    base = Bounded([-1.0, -1.0], [1.0, 1.0])
    env, actions = UnitActions(base), np.random.default_rng(0).uniform(-1, 1, (20, 2))
    env.reset(seed=0)
    for action in actions.astype(np.float32):
        env.step(action)
    assert np.array_equal(base.got, actions.astype(np.float32))


def test_actions_of_whole_numbers_are_the_nearest_and_return_from_the_unit_interval():
    for low, high in ((0, 3), (-1, 1), (0, 255)):
        base = Bounded([low], [high], np.int64)
        env = UnitActions(base)
        env.reset(seed=0)
        for number in range(low, high + 1):  # as an import scales them
            env.step(np.array([2 * (number - low) / (high - low) - 1], np.float32))
        assert [int(x[0]) for x in base.got] == [*range(low, high + 1)]
    base.got.clear()
    for action in (-0.999, 0.999):
        env.step(np.array([action], np.float32))
    assert [int(x[0]) for x in base.got] == [0, 255]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (Discrete(3), "one-dimensional Box"),
        (Box(-1, 1, (2, 2)), "one-dimensional Box"),
        (Box(-np.inf, np.inf, (2,)), "finite bounds"),
        (Box(-1, np.inf, (2,)), "finite bounds"),
    ],
)
def test_other_actions_are_refused_with_the_reason(space, reason):
    env = Counter()
    env.action_space = space
    with pytest.raises(ValueError, match=reason):
        UnitActions(env)


def test_every_episode_has_a_seed_of_its_own():
    seeds = [episode_seed(s, i, k) for s in range(5) for i in range(8) for k in range(25)]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**31
    assert episode_seed(1, 2, 3) == episode_seed(1, 2, 3)


def test_resets_go_through_the_numbered_episodes():
    env = make_counter(index=1, seed=7)
    expected = [episode_seed(7, 1, k) % 1000 for k in range(4)]
    assert [env.reset()[0][0] for _ in range(4)] == expected
    assert env.reset(options={"episode": 2})[0][0] == expected[2]
    assert env.reset()[0][0] == expected[3]
    assert env.reset(seed=9)[0][0] == episode_seed(9, 1, 0) % 1000
    assert env.reset()[0][0] == episode_seed(9, 1, 1) % 1000


def test_a_step_after_the_end_starts_the_next_episode():
    env = make_counter(index=0)
    env.reset()
    while not env.over:
        *_, info = env.step(np.zeros(1))
        assert info == {}
    observation, reward, terminated, truncated, info = env.step(np.ones(1))
    assert observation.tolist() == [episode_seed(0, 0, 1) % 1000, 0, 0]
    assert (reward, terminated, truncated, info) == (0.0, False, False, {"is_first": True})


def test_a_position_is_recovered_on_its_own():
    env, actions = make_counter(index=2, length=9), np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    for _ in range(4):
        env.reset()
    for action in actions:
        observation, reward, *_ = env.step(action)
    positions = [Position(0, 0, actions, False), Position(0, 0, actions, False)]
    other = make_counter(index=2, length=9)
    found = other.restore([*positions, Position(0, 3, actions, False)])
    assert found is not None and np.array_equal(found[0], observation) and found[1] == reward
    for action in actions[:2]:
        assert np.array_equal(env.step(action)[0], other.step(action)[0])
    # The number of the episode matters: that of another one is told apart.
    wrong = make_counter(index=2, length=9).restore([*positions, Position(0, 2, actions, False)])
    assert not np.array_equal(wrong[0], observation)


def test_a_finished_episode_is_not_played_again():
    env = make_counter(index=0)
    env.env = None  # nothing may be stepped
    assert env.restore([Position(0, 4, np.zeros((3, 1), np.float32), True)]) is None
    assert env.over and env.episode == 4


def test_actions_that_reach_the_end_of_the_episode_or_beyond_are_refused():
    env = make_counter(index=0)
    env.reset()
    while not env.over:
        env.step(np.zeros(1))
    for steps in (env.steps, 9):
        position = Position(0, 0, np.zeros((steps, 1), np.float32), False)
        with pytest.raises(ValueError, match="not the recorded one"):
            make_counter(index=0).restore([position])
    before = Position(0, 0, np.zeros((env.steps - 1, 1), np.float32), False)
    assert make_counter(index=0).restore([before]) is not None


class Broken(Counter):
    def __init__(self, observation, reward):
        super().__init__()
        self.values = observation, reward

    def step(self, action):
        return np.full(3, self.values[0], np.float32), self.values[1], False, False, {}


@pytest.mark.parametrize("values", [(np.nan, 0.0), (np.inf, 0.0), (0.0, np.nan)])
def test_numbers_that_are_not_finite_are_refused_with_the_place(values):
    env = SeededEpisodes(UnitActions(Broken(*values)), 0, 0)
    env.reset()
    with pytest.raises(ValueError, match="episode 0, step 1 of environment 0"):
        env.step(np.zeros(1))


def test_frames_are_drawn_only_for_rows_that_come_out():
    drawn = []

    def draw():
        drawn.append(len(drawn))
        return np.full((64, 64, 3), len(drawn), np.uint8)

    env = Pixels(SeededEpisodes(UnitActions(ActionRepeat(Counter(50), 4)), 0, 0), draw)
    assert env.reset()[0][0, 0, 0] == 1
    for _ in range(5):
        frame = env.step(np.zeros(1, np.float32))[0]
    assert len(drawn) == 6 and frame[0, 0, 0] == 6
    env.get_wrapper_attr("restore")([Position(0, 0, np.zeros((9, 1), np.float32), False)])
    assert len(drawn) == 6
    assert isinstance(env, gymnasium.Env) and env.observation_space.shape == (64, 64, 3)


def test_positions_survive_packing():
    rng = np.random.default_rng(0)
    positions = [
        Position(seed, episode, rng.uniform(-1, 1, (taken, 2)).astype(np.float32), over)
        for seed, episode, taken, over in [(3, 0, 4, False), (4, 7, 0, True), (5, 2, 1, False)]
    ]
    back = unpack_positions(pack_positions(positions))
    for old, new in zip(positions, back, strict=True):
        assert (old.seed, old.episode, old.over) == (new.seed, new.episode, new.over)
        assert np.array_equal(old.actions, new.actions)

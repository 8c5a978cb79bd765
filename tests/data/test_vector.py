"""Parallel environments: the same rows with and without workers; death of a worker; restoring."""

import functools
import os
import signal

import numpy as np
import pytest

from sdewm.data.vector import EpisodeVector, make_vector
from tests.data.opengl_here import needs_opengl
from tests.data.toy_env import make_counter, make_fragile


def make(env="own:cartpole_pixels", *, envs=2, workers=False, obs="proprio", seed=0):
    return make_vector(
        env, envs=envs, workers=workers, obs=obs, action_repeat=2, render="fast", seed=seed
    )


def counters(envs=3, workers=False, length=3):
    functions = [functools.partial(make_counter, index, 0, length) for index in range(envs)]
    return EpisodeVector(functions, workers=workers, seed=0, name="counter")


def fragile(envs=3, workers=True):
    functions = [functools.partial(make_fragile, index) for index in range(envs)]
    return EpisodeVector(functions, workers=workers, seed=0, name="fragile")


def play(vector, steps, seed=0, start=True):
    """Observations, rewards, both ends and is_first of random actions, as arrays (steps, N, …)."""
    rng, rows = np.random.default_rng(seed), []
    if start:
        vector.reset()
    for _ in range(steps):
        actions = rng.uniform(-0.8, 0.8, vector.action_space.shape).astype(np.float32)
        *row, infos = vector.step(actions)
        rows.append((*row, infos.get("is_first", np.zeros(vector.num_envs, bool))))
    return [np.stack(parts) for parts in zip(*rows, strict=True)]


def same(rows, others, envs=slice(None)):
    return all(np.array_equal(a[:, envs], b[:, envs]) for a, b in zip(rows, others, strict=True))


def test_a_last_row_is_followed_by_a_first_row_without_reward():
    vector = counters()
    observation, reward, terminated, truncated, first = play(vector, 30)
    over = terminated | truncated
    assert over.any() and np.array_equal(first[1:], over[:-1])
    assert (reward[first] == 0).all() and (observation[first][:, 1:] == 0).all()
    assert (reward[~first] > 5).all()
    assert terminated.any() and truncated.any() and not (terminated & truncated).any()
    vector.close()


@pytest.mark.parametrize("obs", ["proprio", "pixels"])
def test_workers_give_the_same_rows(obs):
    alone, parallel = make(obs=obs), make(obs=obs, workers=True)
    try:
        assert same(play(alone, 20), play(parallel, 20))
        assert parallel.restarts == 0
        assert not same(play(alone, 20), play(make(obs=obs, seed=1), 20))
    finally:
        parallel.close()


@pytest.mark.parametrize("workers", [False, True])
def test_positions_are_restored_within_and_at_the_end_of_episodes(workers):
    vector, other = counters(workers=workers), counters(workers=workers)
    try:
        for steps in (0, 2, 4, 5, 11):
            play(vector, steps)
            play(other, 3)  # stands somewhere else, perhaps at the end of an episode
            other.restore(vector.positions)
            assert same(play(vector, 15, 1, start=False), play(other, 15, 1, start=False))
    finally:
        vector.close()
        other.close()


def test_a_missing_action_is_seen():
    vector, other = counters(length=9), counters(length=9)
    play(vector, 4)
    positions = vector.positions
    object.__setattr__(positions[1], "actions", positions[1].actions[:-1])
    other.restore(positions)
    rows, others = (play(one, 5, 1, start=False) for one in (vector, other))
    assert same(rows, others, [0, 2]) and not same(rows, others, [1])


SLOW = pytest.mark.slow  # new processes that import dm_control


@pytest.mark.parametrize(
    "name",
    [
        "cartpole_swingup",
        pytest.param("walker_walk", marks=SLOW),
        pytest.param("quadruped_walk", marks=SLOW),
    ],
)
def test_a_simulator_is_restored_bitwise_in_new_workers(name):
    vector, workers = make(f"dmc:{name}"), make(f"dmc:{name}", workers=True)
    try:
        play(vector, 12)
        workers.restore(vector.positions)
        assert same(play(vector, 8, 1, start=False), play(workers, 8, 1, start=False))
    finally:
        workers.close()


@needs_opengl
@SLOW
def test_frames_drawn_by_workers_are_the_same():
    vector, workers = (make("dmc:cartpole_swingup", obs="pixels", workers=w) for w in (False, True))
    try:
        assert same(play(vector, 5), play(workers, 5))
    finally:
        workers.close()
        vector.close()


@pytest.mark.parametrize(
    "name", ["own:cartpole_pixels", pytest.param("dmc:walker_walk", marks=SLOW)]
)
def test_a_killed_worker_is_reported_and_only_its_environment_starts_anew(name, capfd):
    vector, reference = make(name, envs=3, workers=True), make(name, envs=3)
    try:
        assert same(play(vector, 6), play(reference, 6))
        os.kill(vector.unwrapped.processes[1].pid, signal.SIGKILL)
        rows = play(vector, 6, 1, start=False)
        expected = play(reference, 6, 1, start=False)
    finally:
        vector.close()
    assert same(rows, expected, [0, 2])  # bitwise, over the death of their neighbour
    assert rows[4][:, 1].tolist() == [True] + [False] * 5  # is_first
    assert rows[1][0, 1] == 0
    assert not same(rows, expected, [1])
    # It is episode 1 of environment 1.
    fresh = make(name, envs=3)
    fresh.reset()
    assert np.array_equal(rows[0][0, 1], fresh.reset()[0][1])
    assert vector.restarts == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning:")]
    assert len(lines) == 1
    for part in (f"worker 1 of {name}", "exit code -9", "episode 0", "6 policy_steps"):
        assert part in lines[0]


def test_an_exception_in_a_worker_is_reported_and_the_run_goes_on(capfd):
    vector = fragile()
    try:
        vector.reset()
        vector.step(np.zeros((3, 1)))
        *_, infos = vector.step(np.array([[0.0], [0.0], [-1.0]]))
        assert infos["is_first"].tolist() == [False, False, True]
        assert vector.positions[0].actions.shape == (2, 1)
        assert [position.episode for position in vector.positions] == [0, 0, 1]
        vector.step(np.zeros((3, 1)))
    finally:
        vector.close()
    assert "raised ArithmeticError: the simulation diverged" in capfd.readouterr().err


def test_two_deaths_in_one_step_and_one_at_a_reset(capfd):
    vector = fragile()
    try:
        vector.reset()
        *_, infos = vector.step(np.array([[1.0], [0.0], [1.0]]))
        assert infos["is_first"].tolist() == [True, False, True]
        assert vector.restarts == 2
        os.kill(vector.unwrapped.processes[0].pid, signal.SIGKILL)
        _, infos = vector.reset()
        assert infos["is_first"].all()
        assert vector.restarts == 3
    finally:
        vector.close()
    assert capfd.readouterr().err.count("warning: worker") == 3


def test_a_worker_that_always_dies_ends_the_run_with_the_reason():
    vector = fragile(envs=2)
    vector.reset()
    with pytest.raises(ChildProcessError, match="worker 1 of fragile raised ArithmeticError"):
        for _ in range(10):
            vector.step(np.array([[0.0], [-1.0]]))
    assert vector.restarts == 3
    vector.close()


def test_without_workers_an_exception_is_an_exception():
    vector = fragile(workers=False)
    vector.reset()
    with pytest.raises(ArithmeticError):
        vector.step(np.full((3, 1), -1.0))


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.full((2, 1), np.nan), np.full((2, 1), 1.1)])
def test_wrong_actions_are_refused_before_they_are_sent(wrong):
    vector = make()
    vector.reset()
    with pytest.raises(ValueError, match="actions"):
        vector.step(wrong)


def test_wrong_numbers_of_environments_are_refused():
    with pytest.raises(ValueError, match="envs=0"):
        make(envs=0)
    with pytest.raises(ValueError, match="expected 2, one per environment"):
        make().restore(make(envs=3).positions)


def test_seeds_and_numbers_of_episodes_go_through_reset():
    vector = counters(envs=2)
    first, _ = vector.reset()
    second, _ = vector.reset()
    assert np.array_equal(vector.reset(options={"episode": 1})[0], second)
    assert not np.array_equal(first, second)
    seeded, _ = vector.reset(seed=5)
    other = counters(envs=2)
    other.restore(vector.positions)
    assert [position.seed for position in other.positions] == [5, 6]
    assert np.array_equal(other.reset(options={"episode": 0})[0], seeded)

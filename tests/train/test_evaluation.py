"""Evaluation episodes are the same ones whatever runs them."""

import numpy as np
import pytest
import torch

from sdewm.data.rollout import run_episodes
from sdewm.perturbations.acting import PerturbedPolicy
from sdewm.perturbations.parsing import parse_perturbations
from sdewm.train.evaluation import EVALUATION_SEED, evaluate
from sdewm.train.sources import configured_vector
from tests.train.fake_agent import small_config


class Balancing:
    """Pushes a pole of CartPole-v1 to the side to which it falls, without any noise."""

    def start(self, envs):
        return {"nothing": torch.zeros(envs)}

    def __call__(self, rows, state):
        right = rows["observation"][:, 2] > 0
        return np.stack([~right, right], 1).astype(np.float32), state, {}


def config_of(envs):
    return small_config(env="gym:CartPole-v1", action_repeat=1, time_limit=200, envs=envs)


def episodes_of(envs, word="noise:0", seed=EVALUATION_SEED):
    """Five episodes: with 2 or 3 environments, some of them run one more than the others."""
    acting = PerturbedPolicy(Balancing(), parse_perturbations(word)[0], "task")
    return evaluate(acting, config_of(envs), episodes=5, seed=seed)


def same(one, other):
    return all(np.array_equal(one.rows[name], other.rows[name]) for name in one.rows)


@pytest.mark.parametrize("word", ["noise:0", "noise:0.2", "mask-held:0.4"])
@pytest.mark.parametrize("envs", [2, 3])
def test_an_episode_does_not_depend_on_the_number_of_environments(envs, word):
    """Equal to the last row: so are the first state and every draw of the perturbation."""
    alone, found = episodes_of(1, word), episodes_of(envs, word)
    assert all(same(*both) for both in zip(alone, found, strict=True))
    assert len({one.length for one in alone}) > 1  # episodes that end at different times
    assert not any(same(alone[0], one) for one in found[1:])


def test_other_seeds_draws_and_sequences_are_seen():
    alone = episodes_of(1)
    others = (
        episodes_of(2, seed=7),
        episodes_of(2, "noise:0.2"),
        run_episodes(configured_vector(config_of(2), 2, EVALUATION_SEED), Balancing(), 5),
    )
    for other in others:
        assert not all(same(*both) for both in zip(alone, other, strict=True))

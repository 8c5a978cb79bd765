"""A policy behind a perturbation: equal draws for all policies, the identity at 0, true moments."""

import numpy as np
import pytest
import torch

from sdewm.perturbations.acting import PerturbedPolicy
from sdewm.perturbations.draws import Realised, draw_seed
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.perturbations.parsing import parse_perturbations

VECTOR = np.linspace(-1, 1, 400, dtype=np.float32).reshape(2, 200)
IMAGE = np.random.default_rng(0).integers(60, 190, (2, 64, 64, 3)).astype(np.uint8)


class Remembering:
    """A policy that keeps what it sees."""

    def __init__(self):
        self.seen = []

    def start(self, envs):
        return {"calls": torch.zeros(envs)}

    def __call__(self, rows, state):
        self.seen.append(rows["observation"].copy())
        assert set(state) == {"calls"}
        return np.zeros((len(rows["reward"]), 1)), {"calls": state["calls"] + 1}, {"kept": 1}


def seen_by(perturbation, observation=VECTOR, firsts=(0,), steps=4, task="task"):
    """What the policy sees at each step; the episodes of both environments start at `firsts`."""
    policy = Remembering()
    acting = PerturbedPolicy(policy, perturbation, task)
    state = acting.start(len(observation))
    for step in range(steps):
        rows = {
            "observation": observation,
            "reward": np.zeros(len(observation)),
            "is_first": np.full(len(observation), step in firsts),
        }
        _, state, extras = acting(rows, state)
        assert extras == {"kept": 1}
    return np.stack(policy.seen), acting.realised.summary()


def test_strength_0_is_the_identity_to_the_bit():
    for word in ("noise:0", "mask:0", "shift:0", "noise-held:0"):
        seen, moments = seen_by(parse_perturbations(word)[0])
        assert np.array_equal(seen, np.stack([VECTOR] * 4)) and set(moments.values()) == {0.0}


def test_draws_are_new_at_every_step_or_held_for_an_episode():
    every, _ = seen_by(ObservationPerturbation("noise", 0.1), firsts=(0, 2))
    held, _ = seen_by(ObservationPerturbation("noise", 0.1, held=True), firsts=(0, 2))
    assert not np.array_equal(every[0], every[1])
    assert np.array_equal(held[0], held[1]) and np.array_equal(held[2], held[3])
    assert not np.array_equal(held[1], held[2])  # another episode
    assert not np.array_equal(every[0, 0] - VECTOR[0], every[0, 1] - VECTOR[1])  # another one too
    turned, _ = seen_by(ObservationPerturbation("rotation", 30.0), IMAGE, firsts=(0, 2))
    assert np.array_equal(turned[0], turned[1]) and not np.array_equal(turned[1], turned[2])


def test_every_policy_meets_the_same_draws_and_other_tasks_others():
    one, other = ObservationPerturbation("noise", 0.1), ObservationPerturbation("noise", 0.2)
    assert np.array_equal(seen_by(one)[0], seen_by(one)[0])
    assert not np.array_equal(seen_by(one)[0], seen_by(one, task="elsewhere")[0])
    scaled = (seen_by(other)[0] - VECTOR) / 2  # draws differ with the strength, too
    assert not np.allclose(scaled, seen_by(one)[0] - VECTOR, atol=1e-3)
    assert draw_seed("a", 1) != draw_seed("a", 2) and 0 <= draw_seed("a") < 2**63


@pytest.mark.parametrize(
    ("name", "strength", "observation", "mean", "std", "share"),
    [
        ("noise", 0.3, VECTOR, 0.0, 0.3, 1.0),
        ("shift", 0.25, VECTOR, 0.25, 0.0, 1.0),
        ("mask", 0.4, VECTOR, 0.0, 0.4**0.5 * 0.5787, 0.4),
        ("noise", 0.05, IMAGE, 0.0, (0.05**2 + 1 / (12 * 255**2)) ** 0.5, 0.97),
        ("brightness", 0.1, IMAGE, 0.1, 0.0, 1.0),
        ("occlusion", 0.25, IMAGE, -0.25 * 124.5 / 255, None, 0.25),
    ],
)
def test_the_change_has_the_moments_it_is_said_to_have(
    name, strength, observation, mean, std, share
):
    """Images are rounded to whole numbers, noise of .05 stays clear of 0 and 255."""
    _, moments = seen_by(ObservationPerturbation(name, strength), observation, steps=12)
    assert moments["realised_mean"] == pytest.approx(mean, abs=0.012)
    if std is not None:
        assert moments["realised_std"] == pytest.approx(std, rel=0.03, abs=2e-3)
    assert moments["realised_share"] == pytest.approx(share, abs=0.03)


def test_moments_are_those_of_numpy_and_do_not_wrap_around():
    found = Realised()
    clean, seen = np.array([250, 0, 10], np.uint8), np.array([5, 255, 10], np.uint8)
    found.add(clean, seen)
    change = np.array([-245.0, 255.0, 0.0]) / 255
    assert found.summary() == pytest.approx(
        {"realised_mean": change.mean(), "realised_std": change.std(), "realised_share": 2 / 3}
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("noise", "expected NAME:STRENGTH"),
        ("noise:", "expected NAME:STRENGTH"),
        ("noise:0.1,x", "'x' is no number"),
        ("nois:0.1", "did you mean 'noise'?"),
        ("mask:2", "mask takes a number from 0 to 1"),
        ("shift-held:1", "'shift-held' is not allowed; did you mean 'shift'?"),
        ("noise:nan", "strength"),
    ],
)
def test_wrong_words_are_named(word, said):
    with pytest.raises(ValueError) as problem:
        parse_perturbations(word)
    assert said in str(problem.value)

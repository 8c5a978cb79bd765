"""A run with discrete actions from its start to every command that takes a run."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from sdewm.cli import main
from sdewm.data.dataset import read_dataset
from sdewm.data.one_hot import OneHotSpace
from sdewm.train.agent import Agent
from sdewm.train.saved_agent import saved_agent
from tests.train.small_agent import OBSERVATIONS, SMALL

BOX = Box(-1, 1, (OBSERVATIONS,))
WORDS = (
    "--preset tiny --env gym:Acrobot-v1 --time-limit 30 --action-repeat 1 --env-frames 300 "
    "--prefill-policy-steps 200 --train-ratio 16 --batch-size 4 --batch-length 8 "
    "--eval-every-env-frames 100000 --eval-episodes 2 --no-pictures"
).split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("discrete") / "run"
    assert main(["train", *WORDS, "--run", str(place)]) == 0
    return place


@pytest.fixture(scope="module")
def recorded(run):
    data = run.parent / "data"
    words = ["record", str(data), "--from-run", str(run), "--episodes", "6"]
    assert main(words) == 0
    return data


def test_recorded_actions_are_one_hot_with_zero_at_first(recorded):
    dataset, space = read_dataset(recorded), OneHotSpace((3,))
    assert dataset.action_groups == (3,) and dataset.facts["time_limit"] == 30
    taken = []
    for episode in dataset:
        actions = episode["previous_action"].numpy()
        assert len(actions) == 31 and not actions[0].any()
        assert all(action in space for action in actions[1:])
        taken.append(actions[1:])
    assert (np.concatenate(taken).sum(0) > 0).all()  # the policy of few updates takes every action


def test_a_world_model_trained_on_the_recording_acts_in_the_same_space(recorded, tmp_path):
    words = "--preset tiny --world-model-only --updates 3 --batch-size 4 --batch-length 8".split()
    model = tmp_path / "model"
    assert main(["train", *words, "--data", str(recorded), "--run", str(model)]) == 0
    saved = saved_agent(model)
    assert saved.agent.behaviour.actor.groups == (3,) and saved.config.time_limit == 30


def test_evaluations_under_perturbations_attacks_and_filters_run(run, capsys):
    perturb = ["--perturb", "noise:0.1", "latent-noise:0.5", "fgsm-value:0.05"]
    assert main(["evaluate", str(run), "--episodes", "2", *perturb]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {row[0] for row in rows} >= {"none", "noise:0.1", "latent-noise:0.5", "fgsm-value:0.05"}
    other = ["--policy", str(run), "--perturb", "noise:0.1"]
    assert main(["evaluate", str(run), "--episodes", "2", *other]) == 0
    assert main(["evaluate", str(run), "--episodes", "2", "--perturb", "actuator:0.5"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "perturbation='actuator:0.5' is for dmc: environments" in said


def test_analyses_use_the_recorded_actions_and_say_what_they_leave_out(
    run, recorded, tmp_path, capsys
):
    small = (
        "--only stability --stability.episodes 2 --stability.start 3 --stability.steps 4 "
        "--stability.discard 1 --stability.every 20"
    ).split()
    words = ["analyse", str(run), "--data", str(recorded), "--out", str(tmp_path), *small]
    assert main(words) == 0
    said = capsys.readouterr()
    note = "Left out: policy in the loop, because its actions are one-hot"
    assert len(re.findall(note, said.out)) == 1
    assert "recorded actions" in said.out and said.out.count("policy in the loop") == 1


def test_the_policy_samples_by_its_probabilities_and_takes_the_likeliest_in_evaluations():
    agent = Agent(SMALL, BOX, OneHotSpace((2, 3)))
    with torch.no_grad():
        for weight in agent.behaviour.actor.parameters():
            weight += 0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    count = 4000
    rows = {
        "observation": np.ones((count, OBSERVATIONS), np.float32),
        "previous_action": np.zeros((count, 5), np.float32),
        "reward": np.zeros(count, np.float32),
        "is_first": np.ones(count, bool),
    }
    laws = []
    agent.behaviour.actor.register_forward_hook(lambda _, __, law: laws.append(law))
    for mode in ("sample", "mean"):
        policy = agent.policy(mode)
        actions, _, _ = policy(rows, policy.start(count))
        chances = laws[-1].mean.double().numpy()
        assert all(action in OneHotSpace((2, 3)) for action in actions[:20])
        if mode == "mean":
            best = OneHotSpace((2, 3)).to_indices(chances)
            assert (OneHotSpace((2, 3)).to_indices(actions) == best).all()
        else:
            spread = np.sqrt((chances * (1 - chances)).sum(0))
            assert np.abs((actions - chances).sum(0) / spread).max() < 4


def test_a_penalty_through_discrete_actions_is_refused():
    penalty = dataclasses.replace(SMALL.jacobian, weight=0.1, policy="included")
    config = dataclasses.replace(SMALL, jacobian=penalty)
    with pytest.raises(ValueError, match="jacobian.policy='included': expected 'fixed'"):
        Agent(config, BOX, OneHotSpace((3,)))

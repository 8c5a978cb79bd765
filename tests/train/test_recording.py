"""Recordings say what they are and can be interrupted."""

import pytest
import torch

from sdewm.train import recording
from sdewm.train.recording import FIELDS, record_dataset
from tests.child_process import ROOT
from tests.train.fake_agent import ENV, FakePolicy, small_config


def record(directory, episodes=5, stop=None):
    config = small_config()

    class Agent:
        network = staticmethod(lambda observation: observation[:, :1])
        generator = torch.Generator()

    def make_policy(seed):
        Agent.generator.manual_seed(seed)
        return FakePolicy(Agent, "sample")

    def progress(done):
        if done == stop:
            raise KeyboardInterrupt

    return record_dataset(
        directory,
        make_policy,
        config,
        episodes=episodes,
        seed=3,
        policy_name="fake",
        progress=progress,
    )


def test_an_interrupted_recording_becomes_the_uninterrupted_one(tmp_path):
    expected = list(record(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "broken", stop=4)
    found = list(record(tmp_path / "broken"))
    assert len(found) == len(expected) == 5
    for one, two in zip(found, expected, strict=True):
        assert set(one) == set(FIELDS)
        assert all(torch.equal(one[name], two[name]) for name in FIELDS)
    starts = {tuple(episode["observation"][0].tolist()) for episode in expected}
    assert len(starts) == 5


def test_a_recording_is_not_continued_as_another(tmp_path):
    facts = record(tmp_path / "data", episodes=2).facts
    assert (facts["env"], facts["policy"], facts["seed"]) == (ENV, "fake", 3)
    assert {"command", "commit", "action_repeat", "obs"} <= set(facts)
    with pytest.raises(ValueError, match="complete recording"):
        record(tmp_path / "data", episodes=2)


def test_mean_actions_are_recorded_with_latents_of_the_round(tmp_path, monkeypatch):
    """Noise of the latents that every round repeats would make episodes alike."""
    made = {}

    def keep(directory, make_policy, *given, **named):
        made[directory] = make_policy

    monkeypatch.setattr(recording, "record_dataset", keep)
    run = ROOT / "paper_checks" / "small_models" / "agent"
    for mode in ("mean", "sample"):
        recording.record_run(tmp_path / mode, run, episodes=2, seed=0, mode=mode)
        draw = [
            torch.randn(4, generator=made[tmp_path / mode](seed).generator) for seed in (5, 5, 6)
        ]
        assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])

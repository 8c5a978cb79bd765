"""Recordings say what they are and can be interrupted."""

import pytest
import torch

from sdewm.train.recording import FIELDS, record_dataset
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

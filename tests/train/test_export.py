"""A copy of a run that keeps the weights alone: used as the run is, never resumed."""

from dataclasses import replace

import pytest
import torch

from sdewm.cli import main
from sdewm.train.agent import Agent
from sdewm.train.checkpoint import Checkpoints, kept_weights, tensors_of
from sdewm.train.export import learnt_networks, weights_copy
from sdewm.train.run_directory import create_run, read_run
from sdewm.train.saved_agent import saved_agent
from sdewm.train.sources import check_environment
from tests.train.small_agent import GAUSSIAN

CONFIG = replace(GAUSSIAN, env="own:cartpole_pixels", obs="proprio", action_repeat=10)
COUNTERS = {"env_frames": 50, "policy_steps": 5, "updates": 7}


def make_run(folder, data=None):
    agent = Agent(CONFIG, *check_environment(CONFIG))
    with torch.no_grad():
        for weight in [*agent.world_model.parameters(), *agent.behaviour.parameters()]:
            weight.normal_(generator=torch.Generator().manual_seed(weight.numel()))
    create_run(folder, CONFIG, data)
    state = {"agent": agent.state_dict(), "counters": COUNTERS, "seconds": 1.0}
    Checkpoints(folder / "checkpoints").save(7, state)
    return agent


def test_a_copy_has_the_networks_and_little_else(tmp_path):
    agent, run, copy = make_run(tmp_path / "run"), tmp_path / "run", tmp_path / "copy"
    weights_copy(run, copy)
    saved = saved_agent(copy)
    assert saved.config == CONFIG and saved.counters == COUNTERS and saved.changed is None
    for part in ("world_model", "behaviour"):
        for name, tensor in getattr(agent, part).state_dict().items():
            assert torch.equal(getattr(saved.agent, part).state_dict()[name], tensor), name
    state = Checkpoints(copy / "checkpoints").load()
    assert {name.split("/")[1] for name, _ in tensors_of(state)} == {"world_model", "behaviour"}
    with pytest.raises(ValueError, match="is not an empty directory|already holds a run"):
        weights_copy(run, copy)


def test_a_copy_is_not_resumed_and_says_why(tmp_path, capsys):
    make_run(tmp_path / "run")
    weights_copy(tmp_path / "run", tmp_path / "copy")
    assert main(["resume", str(tmp_path / "copy")]) == 2
    assert "holds only weights" in capsys.readouterr().err
    assert not (tmp_path / "copy" / "lock").exists()


def test_of_a_world_model_alone_the_behaviour_is_left_out(tmp_path):
    agent = make_run(tmp_path / "run", data=tmp_path / "data")
    weights_copy(tmp_path / "run", tmp_path / "copy")
    saved = Checkpoints(tmp_path / "copy" / "checkpoints").load()
    assert [*saved["agent"]] == ["world_model"]
    assert str(tmp_path) not in (tmp_path / "copy" / "manifest.json").read_text("utf-8")
    assert read_run(tmp_path / "copy").data is not None
    found = saved_agent(tmp_path / "copy").agent
    weights = found.world_model.state_dict()
    assert all(torch.equal(weights[n], t) for n, t in agent.world_model.state_dict().items())


def test_kept_weights_are_those_of_their_update_and_unknown_ones_are_named(tmp_path):
    agent, run = make_run(tmp_path / "run"), tmp_path / "run"
    for updates in (10, 20):
        with torch.no_grad():
            for weight in agent.world_model.parameters():
                weight.fill_(updates)
        learnt = learnt_networks(agent.networks(), behaviour=True)
        counters = COUNTERS | {"updates": updates}
        kept_weights(run, updates).save(updates, {"agent": learnt, "counters": counters})
    for updates in (10, 20):
        saved = saved_agent(run, updates)
        assert saved.counters["updates"] == updates
        assert all(bool((w == updates).all()) for w in saved.agent.world_model.parameters())
    assert saved_agent(run).counters == COUNTERS
    with pytest.raises(ValueError, match=r"updates=15: run=.* has kept .* after \[10, 20\]"):
        saved_agent(run, 15)

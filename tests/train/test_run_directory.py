"""A run's directory: saved first, never overwritten, trained by one process."""

import json
import os
from dataclasses import replace

import pytest
import torch

from sdewm.base.records import ROOT
from sdewm.train import trainer
from sdewm.train.run_directory import (
    config_changes,
    create_run,
    load_agent,
    locked,
    read_run,
)
from sdewm.train.trainer import Trainer
from tests.train.fake_agent import FakeAgent, small_config

MODELS = ROOT / "paper_checks" / "small_models"


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(trainer, "Agent", FakeAgent)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path):
    run = tmp_path / "run"
    facts = create_run(run, small_config())
    with locked(run), pytest.raises(ValueError, match=f"trained by process {os.getpid()}"):
        Trainer(run, facts).train()
    with pytest.raises(
        ValueError, match=f"already holds a run: resume it with `sdewm resume {run}`"
    ):
        create_run(run, small_config())
    with pytest.raises(ValueError, match="not an empty directory"):
        create_run(tmp_path, small_config())
    with pytest.raises(ValueError, match="holds no run"):
        read_run(tmp_path)


def test_the_configuration_comes_back_from_its_file(tmp_path):
    config = small_config(train_ratio=32.0)
    create_run(tmp_path / "run", config)
    read = read_run(tmp_path / "run")
    assert read.config == config and read.data is None and read.manifest["seed"] == 0
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"batch_size"', '"batch_sise"'))
    with pytest.raises(ValueError, match="field='batch_sise'.*did you mean 'batch_size'"):
        read_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        ("model_lr", "model_rate", "field of optimiser='model_rate' .* did you mean 'model_lr'"),
        ("eps", "guard", "field of optimiser='guard' is not allowed; Allowed: 'eps'"),
        (
            "image_encoder",
            "image_layers",
            "did you mean 'image_encoder'\\? Allowed: 'image_encoder'",
        ),
        ("fraction", "share", "field of jacobian='share' is not allowed; Allowed: 'fraction'"),
    ],
)
def test_a_configuration_with_an_old_name_is_refused(now, before, said, tmp_path):
    create_run(tmp_path / "run", small_config())
    path = tmp_path / "run" / "config.json"
    text = path.read_text()
    assert text.count(f'"{now}"') == 1
    path.write_text(text.replace(f'"{now}"', f'"{before}"'))
    with pytest.raises(ValueError, match=said):
        read_run(tmp_path / "run")


def test_a_checkpoint_of_other_sizes_is_refused_with_the_reason(tmp_path):
    class Agent:
        def __init__(self, size):
            self.network = torch.nn.Linear(2, size)

        def load_state_dict(self, state):
            self.network.load_state_dict(state)

    saved = Agent(3).network.state_dict()
    agent = Agent(3)
    load_agent(agent.load_state_dict, saved, tmp_path)
    assert torch.equal(agent.network.weight, saved["weight"])
    with pytest.raises(ValueError, match=r"config\.json, which must have been edited.*weight"):
        load_agent(Agent(4).load_state_dict, saved, tmp_path)


def test_runs_of_versions_without_the_new_fields_are_read_and_nothing_has_changed(tmp_path):
    config = small_config()
    create_run(tmp_path / "run", config)
    path = tmp_path / "run" / "config.json"
    old = json.loads(path.read_text())
    for name in ("env_kwargs", "time_limit"):
        del old[name]
    path.write_text(json.dumps(old))
    assert read_run(tmp_path / "run").config == config
    assert config_changes(old, config) == []
    other = replace(config, time_limit=9, env_kwargs={"g": 2})
    assert sorted(config_changes(old, other)) == [
        "env_kwargs.g: absent -> 2",
        "time_limit: None -> 9",
    ]
    del old["seed"]
    path.write_text(json.dumps(old))
    with pytest.raises(ValueError, match="seed is missing"):
        read_run(tmp_path / "run")


@pytest.mark.parametrize("run", sorted(MODELS.glob("*/config.json")))
def test_every_shipped_run_is_readable(run):
    assert read_run(run.parent).config.time_limit is None

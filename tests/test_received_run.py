"""A run directory received from others executes nothing."""

import json

import pytest

from sdewm.cli import main
from sdewm.train import run_directory
from sdewm.train.run_directory import create_run
from tests.train.fake_agent import small_config

ENV = "gym:received_module:Received-v0"


@pytest.fixture
def received(tmp_path, monkeypatch):
    """A run whose environment's module leaves a file where it is imported."""
    (tmp_path / "received_module.py").write_text(
        f"from pathlib import Path; Path({str(tmp_path)!r}, 'executed').touch()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(run_directory, "_ALLOWED", set())
    create_run(tmp_path / "run", small_config())
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "env": ENV}))
    (tmp_path / "run" / "checkpoints").mkdir()
    return tmp_path


COMMANDS = {
    "resume": ["resume", "{run}"],
    "evaluate": ["evaluate", "{run}"],
    "record": ["record", "{run}-data", "--from-run", "{run}", "--episodes", "1"],
    "analyse": ["analyse", "{run}"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("typed", [[], ["--env", "gym:other_module:Received-v0"]])
def test_a_module_that_only_the_run_names_is_not_imported(name, typed, received, capsys):
    words = [word.replace("{run}", str(received / "run")) for word in COMMANDS[name]]
    assert main([*words, *typed]) == 2
    said = capsys.readouterr().err
    assert f"--env {ENV}" in said and "'received_module'" in said and len(said.splitlines()) == 1
    assert not (received / "executed").exists()


def test_a_module_that_is_typed_is_imported(received, capsys):
    assert main(["resume", str(received / "run"), "--env", ENV]) == 2
    assert "Received" in capsys.readouterr().err and (received / "executed").exists()

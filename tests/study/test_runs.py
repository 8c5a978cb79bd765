"""Runs of a study have the settings of their cells, or it does not go on."""

from dataclasses import replace
from pathlib import Path

import pytest

from sdewm.cli import main
from sdewm.commands import study_cell
from sdewm.commands.train import train_arguments
from sdewm.study.rows import Place
from sdewm.study.runs import require_declared_runs
from sdewm.study.study_file import read_study
from sdewm.train import run_directory
from sdewm.train.presets import PRESETS
from sdewm.train.run_directory import create_run, read_run
from sdewm.train.sources import as_recorded
from tests.study.declared import AGENTS, TEXT, written


def begin(study, place, cell):
    """The directory of a run as the command of the cell makes it."""
    given = train_arguments(study.words(cell, place.run(cell))[1:])
    config = given.config if given.data is None else as_recorded(given.config, given.data, ())
    create_run(place.run(cell), config, given.data)


@pytest.mark.parametrize("text", [TEXT, AGENTS], ids=["world models", "agents"])
def test_runs_of_another_version_of_the_preset_are_not_gone_on_with(
    text, tmp_path, monkeypatch, capsys
):
    file = written(tmp_path, text)
    study = read_study(file)
    place = Place(tmp_path / "out", study.digest, file)
    for cell in study.cells[:2]:
        begin(study, place, cell)
    require_declared_runs(study, place)
    tiny = PRESETS["tiny"]
    changed = replace(tiny, optimiser=replace(tiny.optimiser, model_lr=2e-3))
    monkeypatch.setitem(PRESETS, "tiny", changed)
    assert read_study(file).digest == study.digest  # that of the declaration alone
    assert main(["study", str(file), "--out", str(place.folder)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "baseline-seed0' was begun with other settings" in said
    assert "give now (optimiser.model_lr: 0.002 -> 0.001)" in said
    assert main(["study", str(file), "--out", str(place.folder), "--plan"]) == 0
    assert "it would not start here: run=" in capsys.readouterr().out


def test_a_begun_run_of_a_declared_module_goes_on_in_another_process(tmp_path, monkeypatch):
    text = AGENTS.replace("own:cartpole_pixels", "gym:tests.data.drift:Drift-v0")
    file = written(tmp_path, text)
    study = read_study(file)
    place = Place(tmp_path / "out", study.digest, file)
    begin(study, place, study.cells[0])
    monkeypatch.setattr(run_directory, "_ALLOWED", set())
    with pytest.raises(ValueError, match="which would run code of the module"):
        read_run(place.run(study.cells[0]))
    seen = []
    monkeypatch.setattr(
        study_cell, "resume", lambda words: seen.append(read_run(Path(*words))) or 7
    )
    assert study_cell.main([str(file), str(place.folder), "baseline", "0"]) == 7
    assert len(seen) == 1

"""Runs of the learning curves: begun, gone on with, skipped, drawn; here of no or a fake agent."""

import importlib.util
import json
import signal
import sys

import pytest

from sdewm.base.records import read_table
from tests.child_process import ROOT, started, wait_until
from tests.plots.committed import load

SCRIPT = ROOT / "analysis" / "sweep_learning.py"
FAKE = ROOT / "tests" / "train" / "fake_agent.py"
SHORT = ("--prefill-policy-steps", "20", "--eval-episodes", "1", "--no-pictures")

specification = importlib.util.spec_from_file_location("sweep_learning", SCRIPT)
assert specification is not None and specification.loader is not None
sweep = importlib.util.module_from_spec(specification)
sys.modules["sweep_learning"] = sweep  # its dataclasses look themselves up
specification.loader.exec_module(sweep)


# In the place of sdewm: a run that is at its end at once, unless its name is in FAILING.
STUB = """
import json, os, sys
from pathlib import Path
words, run = sys.argv[1:], Path(sys.argv[-1])
if os.environ.get("FAILING", "none") in run.name:
    sys.exit(3)
print("stub", words[0])
given = dict(zip(words[1::2], words[2::2]))
if words[0] == "train":
    run.mkdir(parents=True)
    facts = {"command": "sdewm " + " ".join(words), "commit": "0", "gpu": "none"}
    facts |= {"processor": "x", "cores": 1}
    config = {"preset": given["--preset"], "env": given["--env"], "obs": given["--obs"]}
    config |= {"seed": int(given["--seed"]), "device": "cpu"}
    (run / "manifest.json").write_text(json.dumps(facts))
    (run / "config.json").write_text(json.dumps(config))
rows = [{"manifest": {}}, {"env_frames": 200, "by": "train", "mean_return": 1.0}]
rows.append({"env_frames": 400, "by": "train", "mean_return": 2.0})
(run / "evaluation.jsonl").write_text("".join(json.dumps(row) + chr(10) for row in rows))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two seeds of one short task in a folder of the test."""
    task = sweep.Task("own:cartpole_pixels", "proprio", 400)
    monkeypatch.setattr(sweep, "TASKS", (task,))
    monkeypatch.setattr(sweep, "SEEDS", (0, 1))
    monkeypatch.setattr(sweep, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(sweep, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(sweep, "RANDOM_EPISODES", 1)
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.setattr(sweep, "TRAINER", (sys.executable, str(tmp_path / "stub.py")))
    return tmp_path


@pytest.fixture
def drawn_here(monkeypatch):
    """The figure's script is called in this process."""
    script, start = load("fig_learning_curves"), sweep.subprocess.run

    def run(words, **options):
        if not str(words[1]).endswith("fig_learning_curves.py"):
            return start(words, **options)
        return script.main(words[2:])

    monkeypatch.setattr(sweep.subprocess, "run", run)


def returns(place):
    rows, _ = read_table(place / "figures" / "data" / "fig_learning_curves.csv")
    return {(row["env"], row["obs"], row["seed"]): row["return"] for row in rows}


@pytest.mark.slow
def test_runs_are_trained_by_the_command_line_and_then_skipped(place, monkeypatch, capfd):
    task = sweep.Task("own:cartpole_pixels", "proprio", 400, (*SHORT, "--action-repeat", "10"))
    monkeypatch.setattr(sweep, "TASKS", (task,))
    monkeypatch.setattr(sweep, "TRAINER", (sys.executable, str(FAKE)))
    assert sweep.main(["--jobs", "2"]) == 0
    names = ["cartpole_pixels-proprio-seed0", "cartpole_pixels-proprio-seed1"]
    made = sorted(path.name for path in (place / "runs").iterdir())
    assert made == [*names, "random.csv"]
    assert set(returns(place)) == {("own:cartpole_pixels", "proprio", seed) for seed in (0, 1)}
    printed = capfd.readouterr().err
    assert "2 runs to train, 2 at a time" in printed and "[2/2]" in printed
    assert f"{names[1]} | Finished" in printed
    monkeypatch.setattr(sweep, "draw", lambda runs, out: None)
    assert sweep.main([]) == 0
    assert "0 runs to train" in capfd.readouterr().err


def test_what_was_begun_goes_on_and_what_is_not_asked_for_is_left(place, monkeypatch, capfd):
    monkeypatch.setattr(sweep, "draw", lambda runs, out: None)
    assert sweep.main(["--only", "seed1"]) == 0
    run = place / "runs" / "cartpole_pixels-proprio-seed1"
    assert f"{run.name} | stub train" in capfd.readouterr().err
    rows = (run / "evaluation.jsonl").read_text().splitlines()
    (run / "evaluation.jsonl").write_text("\n".join(rows[:2]) + "\n")  # as if stopped at 200
    assert sweep.main(["--only", "seed1"]) == 0
    printed = capfd.readouterr().err
    assert f"{run.name} | stub resume" in printed and "seed0 |" not in printed
    assert sweep.main(["--only", "seed1"]) == 0
    assert "0 runs to train" in capfd.readouterr().err


def test_finished_runs_are_drawn_also_if_one_failed_and_other_curves_stay(
    place, drawn_here, monkeypatch, capfd
):
    monkeypatch.setenv("FAILING", "seed0")
    assert sweep.main([]) == 1
    assert "failed: cartpole_pixels-proprio-seed0" in capfd.readouterr().err
    assert set(returns(place)) == {("own:cartpole_pixels", "proprio", 1)}
    rows, _ = read_table(place / "figures" / "data" / "fig_learning_curves.csv")
    chance = [row for row in rows if row["label"] == "random"]
    assert [row["env_frames"] for row in chance] == [0, 400]
    assert chance[0]["return"] == chance[1]["return"] and 0 < chance[0]["return"] < 200
    assert (place / "figures" / "fig_learning_curves.pdf").exists()
    table = place / "figures" / "data" / "fig_learning_curves.csv"
    table.write_text(table.read_text().replace("own:cartpole_pixels,", "dmc:walker_walk,"))
    monkeypatch.delenv("FAILING")
    assert sweep.main([]) == 0
    assert "random actions: 1 episodes for each of 2 runs" in capfd.readouterr().err
    assert sweep.main([]) == 0
    assert "random actions" not in capfd.readouterr().err  # they are in the table
    curves = {("own:cartpole_pixels", "proprio", seed) for seed in (0, 1)}
    assert set(returns(place)) == curves | {("dmc:walker_walk", "proprio", 1)}


def test_a_run_of_other_settings_is_refused(place, capsys):
    run = place / "runs" / "cartpole_pixels-proprio-seed0"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    command = "python sdewm/cli.py train --preset tiny --env-frames 7"
    (run / "manifest.json").write_text(json.dumps({"command": command}))
    with pytest.raises(SystemExit) as stop:
        sweep.main([])
    assert stop.value.code == 2
    assert "was started with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--only", "pixles"], "--only pixles: no such run; did you mean cartpole_pixels"),
        (["--jobs", "0"], "--jobs=0"),
        (["--env-frames", "-5"], "--env-frames=-5"),
    ],
)
def test_a_typing_error_stops_before_any_work(place, words, text, capsys):
    with pytest.raises(SystemExit) as stop:
        sweep.main(words)
    assert stop.value.code == 2
    assert text in capsys.readouterr().err
    assert not (place / "runs").exists()


def test_a_trial_has_a_folder_of_its_own(place):
    runs, out = sweep.all_runs(60)
    assert {run.directory.parent for run in runs} == {place / "runs-60"}
    assert out == place / "runs-60" / "figures"
    assert all("60" in run.words for run in runs)


def test_the_settings_are_those_of_commands_that_can_be_given():
    from sdewm.train.presets import PRESETS

    assert sweep.PRESET in PRESETS
    for run in sweep.all_runs(None)[0]:
        assert run.task.env_frames > 2 * PRESETS[sweep.PRESET].prefill_policy_steps
        assert run.words[-1].startswith("runs/bench-learning/")


INTERRUPTED = """
import sys
sys.path.insert(0, {analysis!r})
import sweep_learning as sweep
from pathlib import Path
sweep.TASKS = (sweep.Task("own:cartpole_pixels", "proprio", 10**9, {flags!r}),)  # for days
sweep.SEEDS, sweep.RUNS = (0,), Path({runs!r})
sweep.TRAINER = (sys.executable, {fake!r})
sys.exit(sweep.main([]))
"""


@pytest.mark.slow
def test_an_interruption_saves_and_ends_all(place):
    runs = place / "runs"
    code = INTERRUPTED.format(
        analysis=str(SCRIPT.parent), flags=SHORT, runs=str(runs), fake=str(FAKE)
    )
    run = runs / "cartpole_pixels-proprio-seed0"
    with started(sys.executable, "-c", code) as process:
        wait_until((run / "metrics.jsonl").exists, process)
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert process.returncode == 130, errors
    assert "repeat the same command to resume" in errors
    assert list((run / "checkpoints").glob("*/COMPLETE"))

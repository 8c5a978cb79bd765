"""`sdewm analyse` as a user would try it, on a shipped model with few episodes."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from sdewm.base.records import ROOT, read_table
from sdewm.cli import main
from sdewm.commands import analyse
from sdewm.report import analyses
from sdewm.report.analyses import ANALYSES
from sdewm.train.checkpoint import Checkpoints

MODELS = ROOT / "paper_checks" / "small_models"
RUN, DATA = str(MODELS / "agent"), str(MODELS / "episodes")
ERROR = "--error.episodes 3 --error.steps 8 --error.draws 2".split()
STABILITY = (
    "--stability.episodes 3 --stability.steps 4 --stability.discard 1 --stability.start 3".split()
)


def run(capsys, *words):
    code = main(["analyse", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def save_nothing(drawing, out, stem):
    Image.new("RGB", (2, 2)).save(out / f"{stem}.png")
    return []


def test_tables_and_figures_are_written_and_reused_by_the_next_call(tmp_path, capsys, monkeypatch):
    words = [RUN, "--data", DATA, "--out", tmp_path, *ERROR, *STABILITY]
    code, out, _ = run(capsys, *words, "--only", "error")
    assert code == 0 and "error (measured" in out
    stem = ANALYSES["error"].stem
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    assert files == {f"{stem}.png", f"{stem}.pdf", f"data/{stem}.csv", "report.html"}
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f'<figure id="{stem}">' in page and ANALYSES["error"].question in page
    rows, facts = read_table(tmp_path / "data" / f"{stem}.csv")
    assert {row["panel"] for row in rows} == {"noise", "mask", "shift"}
    assert facts["draws"] == "2" and facts["run"] == "agent" and facts["noise"] == "exact"
    before = (tmp_path / "data" / f"{stem}.csv").read_bytes()
    drawn = []

    def save(drawing, out, stem):
        drawn.append(stem)
        return save_nothing(drawing, out, stem)

    monkeypatch.setattr(analyses, "save_figure", save)
    code, out, _ = run(capsys, *words, "--only", "error", "stability")
    assert code == 0 and "error (cached" in out and "stability (measured" in out
    assert drawn == [stem, ANALYSES["stability"].stem]
    assert (tmp_path / "data" / f"{stem}.csv").read_bytes() == before
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.index(stem) < page.index(ANALYSES["stability"].stem)
    code, out, _ = run(capsys, *words, "--error.draws", "3", "--only", "error")
    assert code == 0 and "error (measured" in out


WRONG = {
    "no run": ((ROOT / "tests", "--data", DATA), "holds no run"),
    "no data": ((RUN, "--data", ROOT / "tests"), "holds no dataset"),
    "name": ((RUN, "--data", DATA, "--only", "stabilty"), "did you mean 'stability'"),
    "no name": ((RUN, "--data", DATA, "--only"), "--only: expected names after it, of error"),
    "perturbation": (
        (RUN, "--data", DATA, "--only", "expansion", "--expansion.perturbation", "nois"),
        "did you mean 'noise'",
    ),
    "strength": (
        (RUN, "--data", DATA, "--only", "expansion", "--expansion.strength", "-1"),
        "strength=-1",
    ),
    "long": ((RUN, "--data", DATA, "--only", "stability", "--stability.steps", "600"), "621 rows"),
    "few": (
        (RUN, "--data", DATA, "--only", "open_loop", "--open-loop.episodes", "6"),
        "episodes=6: expected a whole number of at least 16. Change its settings (typed: "
        "--open-loop.*)",
    ),
    "few recorded": (
        (RUN, "--record", "3", "--only", "open_loop"),
        "3 episodes of at least 70 rows: expected at least 16 episodes. Record at least 16 "
        "(--record 16), or leave it out (typed: --only).",
    ),
    "before recording": ((RUN, "--only", "error", "--error.steps", "0"), "steps=0"),
    "no episodes": ((RUN, "--record", "1", "--only", "error"), "--record=1"),
    "discard": (
        (
            RUN,
            "--data",
            DATA,
            "--only",
            "stability",
            "--stability.steps",
            "5",
            "--stability.discard",
            "5",
        ),
        "discard=5: expected a whole number of at least 0 and at most 4",
    ),
    "a later analysis": (
        (RUN, "--data", DATA, *ERROR, "--only", "error", "stability", "--stability.every", "0"),
        "every=0",
    ),
    "seed": ((RUN, "--data", DATA, "--seed", "-1"), "--seed=-1"),
    "a single episode": (
        (RUN, "--data", DATA, "--stability.episodes", "1"),
        "episodes=1: expected a whole number of at least 2",
    ),
}


@pytest.fixture
def no_recording(monkeypatch):
    """In the place of recording, the shipped episodes are copied; returns the folders."""
    recorded = []

    def record(data, run, *, episodes, seed, progress):
        shutil.copytree(DATA, data)
        recorded.append(data)

    monkeypatch.setattr(analyse, "record_run", record)
    return recorded


def test_episodes_are_recorded_anew_when_the_run_has_gone_on(
    tmp_path, capsys, monkeypatch, no_recording
):
    monkeypatch.setattr(analyses, "save_figure", save_nothing)
    place = tmp_path / "run"
    shutil.copytree(RUN, place)
    words = [place, "--record", "3", *ERROR, "--only", "error"]
    assert "error (measured" in run(capsys, *words)[1]
    code, out, err = run(capsys, *words)
    assert code == 0 and "error (cached" in out and "recording" not in err
    assert len(no_recording) == 1
    checkpoints = Checkpoints(place / "checkpoints")
    state = checkpoints.load()
    state["agent"]["behaviour"]["actor.layers.0.0.bias"] += 0.1
    state["counters"]["updates"] += 50
    checkpoints.save(state["counters"]["updates"], state)
    code, out, err = run(capsys, *words)
    assert code == 0 and "error (measured" in out
    assert f"recording 3 episodes of {place} at {state['counters']['updates']} updates" in err
    first, second = no_recording
    assert first != second and first.exists()  # what was recorded stays
    table = place / "analysis" / "data" / f"{ANALYSES['error'].stem}.csv"
    assert read_table(table)[1]["data"] == second.name


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.usefixtures("no_recording")
def test_what_cannot_be_analysed_is_refused_and_nothing_is_written(case, tmp_path, capsys):
    words, text = WRONG[case]
    code, _, err = run(capsys, *words, "--out", tmp_path / "out")
    assert code == 2 and text in " ".join(err.split())
    assert not (tmp_path / "out").exists() and not (Path(RUN) / "analysis").exists()


def test_episodes_of_another_environment_are_refused(tmp_path, capsys):
    words = ["record", str(tmp_path / "data"), "--env", "own:cartpole_pixels", "--episodes", "1"]
    assert main([*words, "--action-repeat", "10"]) == 0
    code, _, err = run(capsys, RUN, "--data", tmp_path / "data")
    assert code == 2 and "expected episodes of the run's environment" in err

"""`sdewm analyse` as a user would try it, on a shipped model with few episodes."""

import pytest
from PIL import Image

from sdewm.base.records import ROOT, read_table
from sdewm.cli import main
from sdewm.report import analyses
from sdewm.report.analyses import ANALYSES

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
        Image.new("RGB", (2, 2)).save(out / f"{stem}.png")
        return []

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
        "6 episodes",
    ),
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


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_analysed_is_refused_and_nothing_is_written(case, tmp_path, capsys):
    words, text = WRONG[case]
    code, _, err = run(capsys, *words, "--out", tmp_path / "out")
    assert code == 2 and text in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_episodes_of_another_environment_are_refused(tmp_path, capsys):
    words = ["record", str(tmp_path / "data"), "--env", "own:cartpole_pixels", "--episodes", "1"]
    assert main([*words, "--action-repeat", "10"]) == 0
    code, _, err = run(capsys, RUN, "--data", tmp_path / "data")
    assert code == 2 and "expected episodes of the run's environment" in err

"""`sdewm evaluate --perturb` on the shipped agent."""

import json

import numpy as np
import pytest

from sdewm.cli import main
from sdewm.robustness.statistics import compare
from tests.robustness.short_runs import short_copy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return short_copy("agent", tmp_path_factory.mktemp("perturbed") / "run")


def rows_of(run):
    rows = [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]
    return {row["perturbation"]: row for row in rows if row["by"] == "evaluate --perturb"}


def test_rows_stand_beside_the_same_episodes_unperturbed(run, capsys):
    words = ["evaluate", str(run), "--episodes", "2", "--perturb", "noise:0,0.4", "mask-held:0.5"]
    assert main(words) == 0
    said, rows = capsys.readouterr().out, rows_of(run)
    assert [*rows] == ["none", "noise floor", "noise:0", "noise:0.4", "mask-held:0.5"]
    plain = rows["none"]
    assert rows["noise:0"]["returns"] == plain["returns"] and rows["noise:0"]["difference"] == 0.0
    assert rows["noise floor"]["returns"] != plain["returns"]
    for name in ("noise:0.4", "mask-held:0.5"):
        row, against = rows[name], compare(rows[name]["returns"], plain["returns"])
        assert row["difference"] == pytest.approx(against.difference.estimate)
        assert row["retention"] == pytest.approx(
            np.mean(row["returns"]) / np.mean(plain["returns"])
        )
        assert name in said
    assert rows["noise:0.4"]["realised_std"] == pytest.approx(0.4, rel=0.05)
    assert rows["mask-held:0.5"]["realised_share"] > 0.1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--perturb", "rotation:20"], "perturbation='rotation' is for images, not for vectors"),
        (
            ["--perturb", "noise:0.1", "--episodes", "1"],
            "episodes=1: expected a whole number of at least 2",
        ),
        (["--perturb", "noise"], "expected NAME:STRENGTH"),
        (["--perturb"], "--perturb=(): expected perturbations"),
        (["--perturb", "noise:1", "mask:0.5", "noise:1.0"], "perturb names noise:1 twice"),
    ],
)
def test_wrong_words_are_refused_before_an_episode(run, words, said, capsys):
    before = (run / "evaluation.jsonl").read_bytes()
    assert main(["evaluate", str(run), *words]) == 2
    assert said in capsys.readouterr().err
    assert (run / "evaluation.jsonl").read_bytes() == before

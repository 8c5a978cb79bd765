"""`sdewm evaluate --perturb` on the shipped agent."""

import json
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdewm.cli import main
from sdewm.perturbations.parsing import parse_perturbations
from sdewm.robustness import evaluation
from sdewm.robustness.evaluation import perturbed_returns
from sdewm.robustness.statistics import compare
from sdewm.train.saved_agent import saved_agent
from tests.child_process import started, wait_until
from tests.robustness.short_runs import SHIPPED, short_copy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return short_copy("agent", tmp_path_factory.mktemp("perturbed") / "run")


def rows_of(run):
    rows = [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]
    return {row["perturbation"]: row for row in rows if row["by"] == "evaluate --perturb"}


def labels_of(run):
    rows = [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]
    return [row["perturbation"] for row in rows if row["by"] == "evaluate --perturb"]


def test_rows_that_are_done_outlast_a_signal(tmp_path):
    """Of two runs, with more rows than any machine has done before the signal comes."""
    first, second = (short_copy("agent", tmp_path / name) for name in ("first", "second"))
    labels = [f"noise:{place / 100:g}" for place in range(1, 100)]
    words = ["evaluate", first, second, "--episodes", "2", "--perturb", *labels]
    with started(sys.executable, "-m", "sdewm.cli", *words) as process:
        wait_until(lambda: len(labels_of(first)) > 2, process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    done = labels_of(first)
    assert process.returncode == 143, err
    assert done == ["none", "noise floor", *labels][: len(done)] and 2 < len(done) < 101
    assert [line.split()[0] for line in out.splitlines() if line.startswith("noise:")] == done[2:]
    missing = labels[len(done) - 2 :]
    assert f"missing are {', '.join(missing)} of {first}; none, noise floor, " in err
    assert f"of {second}. " in err and f"--perturb {' '.join(labels)} only" in err
    assert labels_of(second) == [] and "over 2 runs" not in out


def test_each_row_is_kept_before_the_next_one_begins(run, monkeypatch):
    """Without any signal: the third row fails, the two before it are there, and are printed."""
    before, calls = len(labels_of(run)), []

    def failing(*given, **named):
        calls.append(len(labels_of(run)) - before)
        if len(calls) == 3:
            raise OSError("the third")
        return plain(*given, **named)

    plain = evaluation.evaluate
    monkeypatch.setattr(evaluation, "evaluate", failing)
    assert main(["evaluate", str(run), "--episodes", "2", "--perturb", "noise:0.1"]) == 1
    assert calls == [0, 1, 2] and labels_of(run)[before:] == ["none", "noise floor"]


def test_a_row_with_another_episode_is_not_paired(run, monkeypatch, capsys):
    """Where a worker dies, the next episode takes the place of the one that it had."""
    before, calls = len(labels_of(run)), []

    def losing(*given, **named):
        found = plain(*given, **named)
        calls.append(found)
        return found if len(calls) < 3 else [found[1], replace(found[1], number=2)]

    plain = evaluation.evaluate
    monkeypatch.setattr(evaluation, "evaluate", losing)
    assert main(["evaluate", str(run), "--episodes", "2", "--perturb", "noise:0.1"]) == 1
    assert "perturbation='noise:0.1': its episodes are [1, 2]" in capsys.readouterr().err
    assert labels_of(run)[before:] == ["none", "noise floor"]


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
        (["--perturb", "noise:0.1,0.10000001"], "perturb names noise:0.1 twice"),
        (["--perturb", "paper", "gravity:0.5"], "perturb names gravity:0.5 twice"),
        (
            ["--perturb", "noise:0.1", "latent-drift:0.1", "--policy", "RUN"],
            "perturbation='latent-drift:0.1' needs the run's own policy",
        ),
    ],
)
def test_wrong_words_are_refused_before_an_episode(run, words, said, capsys):
    before = (run / "evaluation.jsonl").read_bytes()
    assert (
        main(["evaluate", *(str(run) if word == "RUN" else word for word in ("RUN", *words))]) == 2
    )
    assert said in capsys.readouterr().err
    assert (run / "evaluation.jsonl").read_bytes() == before


class Began(Exception):
    """An episode began."""


@pytest.fixture
def no_episodes(monkeypatch):
    def refuse(*given, **named):
        raise Began

    monkeypatch.setattr(evaluation, "evaluate", refuse)


@pytest.mark.parametrize(
    ("config", "word", "said"),
    [
        ({"env": "gym:CartPole-v1"}, "gravity:0.5", "not for env='gym:CartPole-v1'"),
        ({"env": "gym:CartPole-v1"}, "delay:2", "is for dmc: environments"),
        ({"obs": "both"}, "noise:0.1", "not for both at once (obs='both')"),
        ({"obs": "both"}, "brightness:0.1", "dynamics (dmc:) and latents"),
        ({"obs": "both"}, "fgsm-value:0.1", "not for both at once (obs='both')"),
        ({}, "brightness:0.1", "is for images, not for vectors"),
        ({"obs": "pixels"}, "shift:0.1", "is for vectors, not for images"),
        ({"obs": "both"}, "gravity:0.5", None),
        ({"obs": "both"}, "latent-noise:0.5", None),
        ({"env": "gym:CartPole-v1"}, "fgsm-value:0.5", None),
        ({"obs": "pixels"}, "brightness:0.1", None),
        ({"obs": "pixels"}, "pgd-value:0.0039", "0 or at least 1/255"),
        ({"obs": "pixels"}, "pgd-value:0,0.004", None),
        ({}, "pgd-value:0.0039", None),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_episode(config, word, said, no_episodes):
    saved = saved_agent(SHIPPED / "agent")
    saved = replace(saved, config=replace(saved.config, **config))
    perturbations = parse_perturbations("latent-scale:0.1") + parse_perturbations(word)
    with pytest.raises(Began if said is None else ValueError) as problem:
        perturbed_returns(saved, perturbations, episodes=2, seed=0)
    assert said is None or said in str(problem.value)


def test_areas_and_the_least_of_them_are_printed_of_families_of_strengths(run, monkeypatch, capsys):
    """Mean returns 100, then 100 − slope·strength; of gravity only one strength is positive."""
    returns = iter([100, 90, 95, 90, 50, 0, 80, 80])

    def told(*given, **named):
        mean = float(next(returns))
        return [
            SimpleNamespace(total_reward=mean + part, env=0, number=number)
            for number, part in enumerate((-5.0, 5.0))
        ]

    monkeypatch.setattr(evaluation, "evaluate", told)
    monkeypatch.setattr(evaluation, "perturbed", lambda *given: (None, None, None))
    monkeypatch.setattr(evaluation.LatentSpread, "deviation", torch.zeros(1))
    families = ["noise:0.1,0.2", "mask:0.5,1", "gravity:-0.5,0.5"]
    words = ["evaluate", str(run), "--episodes", "2", "--perturb"]
    assert main([*words, *families]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["perturbation", "up", "to", "area", "interval"] in lines
    [noise] = [line for line in lines if line[0] == "noise" and line[1] != "floor"]
    [mask] = [line for line in lines if line[0] == "mask"]
    assert noise[1:3] == ["0.2", "0.95"] and mask[1:3] == ["1", "0.5"]
    assert lines[-1] == "least area, each over its own strengths: mask".split()
    assert not [line for line in lines if line[0] == "gravity"]
    returns = iter([100, 90, 95, 90])  # negative control: single strengths have no area
    assert main([*words, "noise:0.1", "mask:0.5"]) == 0
    assert "area" not in capsys.readouterr().out
    returns = iter([4, 4, 3, 2])  # of episodes −1 and 9: a bootstrap draw has a mean below 0
    assert main([*words, "noise:0.1,0.2"]) == 0
    said = capsys.readouterr().out
    assert "no area under the returns: returns: the unperturbed mean is -1" in said


def test_what_paper_leaves_out_is_said_before_the_first_episode(run, no_episodes, capsys):
    for words, said in ((["paper"], "of paper, rotation:20, rotation:30 are left out"), ([], "")):
        with pytest.raises(Began):
            main(["evaluate", str(run), "--perturb", "latent-scale:1", *words])
        note = capsys.readouterr().err
        assert said in note and note.count("\n") == bool(words)


def test_returns_below_zero_have_no_retention():
    """Their ratio would rise as the policy gets worse: 150 % kept of a return of −100."""
    for plain, expected in ((-100.0, None), (0.0, None), (100.0, 1.5)):
        given = np.array([plain - 1, plain + 1])
        row = evaluation._row("noise:1", 1.5 * given, given)
        assert row["retention"] == (None if expected is None else pytest.approx(expected))
        assert row["difference"] == pytest.approx(0.5 * plain)

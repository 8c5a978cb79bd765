"""Learning curves are read from runs and tables, and compared with the published ones."""

import importlib.util
import json
from pathlib import Path

import pytest

from sdewm.base.records import read_table

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "analysis" / "fig_learning_curves.py"
STEM = "fig_learning_curves"
CART = {"preset": "tiny", "env": "dmc:cartpole_swingup", "obs": "proprio", "device": "cpu"}

specification = importlib.util.spec_from_file_location(STEM, SCRIPT)
assert specification is not None and specification.loader is not None
script = importlib.util.module_from_spec(specification)
specification.loader.exec_module(script)


def make_run(directory, *, seed=0, evaluations=(), metrics=(), commit="0123456", **config):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(CART | {"seed": seed} | config))
    facts = {"command": f"sdewm train --seed {seed}", "commit": commit, "gpu": "H200"}
    facts |= {"processor": "x86_64", "cores": 2}
    (directory / "manifest.json").write_text(json.dumps(facts))
    for name, rows in (("evaluation.jsonl", evaluations), ("metrics.jsonl", metrics)):
        lines = [{"manifest": {}}, *rows]
        (directory / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(directory)


def evaluations(slope, last=60_000, by="train"):
    return [
        {"env_frames": frames, "by": by, "mean_return": slope * frames / 1000}
        for frames in range(20_000, last + 1, 20_000)
    ]


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(tmp_path / "runs" / f"seed{seed}", seed=seed, evaluations=evaluations(5.0 + seed))
        for seed in range(3)
    ]


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        script.main([*map(str, words)])
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_published_rows_are_those_known_of_the_source():
    rows, facts = read_table(script.PUBLISHED)
    assert script.PUBLISHED.stat().st_size < 200_000
    assert "danijar/dreamerv3" in facts["DreamerV3"] and "danijar/dreamerv2" in facts["DreamerV2"]
    curves = script.curves_of(rows, "method")
    assert len(curves) == 16
    proprio = curves["DreamerV3", "dmc:cartpole_swingup", "proprio"]
    means = {frames: mean for frames, mean, _ in script.mean_scores(proprio)}
    assert means[100_000] == pytest.approx(478, abs=1)
    assert means[250_000] == pytest.approx(817, abs=1)
    pixels = curves["DreamerV3", "dmc:walker_walk", "pixels"]
    means = {frames: mean for frames, mean, _ in script.mean_scores(pixels)}
    assert means[500_000] == pytest.approx(940, abs=5)


def test_a_table_is_written_from_which_the_same_figure_is_drawn_without_the_runs(
    runs, tmp_path, capsys
):
    out = tmp_path / "out"
    script.main([*runs, "--out", str(out)])
    shown = capsys.readouterr().out
    png = (out / f"{STEM}.png").read_bytes()
    for run in (tmp_path / "runs").rglob("*.json*"):
        run.unlink()
    script.main(["--out", str(out)])
    assert capsys.readouterr().out == shown
    assert (out / f"{STEM}.png").read_bytes() == png
    rows, facts = read_table(out / "data" / f"{STEM}.csv")
    assert list(rows[0]) == script.COLUMNS
    assert {"command", "commit", "torch"} <= set(facts)
    assert len(rows) == 9
    assert rows[0]["hardware"] == "x86_64, 2 cores"
    assert rows[0]["command"] == "sdewm train --seed 0"


def test_text_that_looks_like_a_number_stays_as_it_was(tmp_path):
    run = make_run(tmp_path / "run", evaluations=evaluations(5.0), commit="0012e34")
    script.main([f"0.010={run}", "--out", str(tmp_path)])
    table = tmp_path / "data" / f"{STEM}.csv"
    script.main(["--out", str(tmp_path)])
    assert table.read_text().splitlines()[-1].startswith("0.010,dmc:cartpole_swingup,")
    assert ",0012e34," in table.read_text()


def test_a_run_replaces_the_same_seed_of_a_table_and_the_others_stay(runs, tmp_path):
    table = tmp_path / "data" / f"{STEM}.csv"
    script.main([*runs, "--out", str(tmp_path)])
    better = make_run(tmp_path / "better", seed=1, evaluations=evaluations(9.0))
    script.main([str(table), better, "--out", str(tmp_path)])
    rows, _ = read_table(table)
    ends = {row["seed"]: row["return"] for row in rows if row["env_frames"] == 60_000}
    assert ends == {0: 300.0, 1: 540.0, 2: 420.0}


def test_the_mean_is_taken_where_all_seeds_are():
    points = {0: ([10.0, 20.0, 30.0], [1.0, 2.0, 3.0]), 1: ([15.0, 25.0], [4.0, 8.0])}
    curve = list(script.mean_scores(points))
    assert [frames for frames, *_ in curve] == [15.0, 20.0, 25.0]
    assert [mean for _, mean, _ in curve] == pytest.approx([2.75, 4.0, 5.25])
    assert curve[1][2] == pytest.approx(8**0.5)  # of 2 and 6, divisor n − 1


def test_the_returns_are_compared_with_the_published_ones_at_the_same_frames(
    runs, tmp_path, capsys
):
    script.main([*runs, "--out", str(tmp_path)])
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split()[:5] == ["cartpole_swingup,", "proprio", "tiny", "3", "60000"]
    assert "360 ± 60" in line
    x, y = [50_000, 75_000], []
    for frames in x:
        rows, _ = read_table(script.PUBLISHED)
        proprio = script.curves_of(rows, "method")["DreamerV3", CART["env"], "proprio"]
        y.append(next(mean for at, mean, _ in script.mean_scores(proprio) if at == frames))
    assert f"DreamerV3 {y[0] + 0.4 * (y[1] - y[0]):.0f} ±" in line


def test_a_run_without_evaluations_shows_its_training_episodes_by_bins_of_frames(tmp_path):
    metrics = [
        {"env_frames": 4_000, "episodes": 1, "episode_return": 10.0},
        {"env_frames": 10_000, "episodes": 3, "episode_return": 30.0},
        {"env_frames": 12_000, "episodes": 0, "episode_return": None},
        {"env_frames": 13_000, "episodes": 1, "episode_return": 50.0},
    ]
    run = make_run(tmp_path / "run", metrics=metrics, evaluations=evaluations(9.0, by="evaluate"))
    rows = script.read_run(Path(run), "")
    assert [(row["env_frames"], row["return"]) for row in rows] == [(10_000, 25.0), (20_000, 50.0)]
    assert {row["protocol"] for row in rows} == {"training"}


def test_returns_of_two_protocols_are_no_curve(tmp_path, capsys):
    """Seed 1 has no evaluation yet: its training episodes are another quantity."""
    metrics = [{"env_frames": 20_000, "episodes": 1, "episode_return": 10.0}]
    whole = make_run(tmp_path / "whole", evaluations=evaluations(5.0))
    begun = make_run(tmp_path / "begun", seed=1, metrics=metrics)
    out = ("--out", tmp_path / "out")
    said = refusal(capsys, whole, begun, *out)
    assert "has returns of evaluation episodes, mean action and, of seed 1, of training" in said
    script.main([whole, f"begun={begun}", *map(str, out)])


def test_without_runs_and_table_it_says_what_to_give(tmp_path, capsys):
    text = refusal(capsys, "--out", tmp_path)
    assert "no runs given" in text and "give at least one run directory" in text


def test_sources_that_cannot_be_drawn_are_named(runs, tmp_path, capsys):
    out = ("--out", tmp_path / "out")
    assert "is not a run directory" in refusal(capsys, tmp_path / "none", *out)
    assert "none.csv: no such table" in refusal(capsys, tmp_path / "none.csv", *out)
    assert "expected rows with the columns label" in refusal(capsys, script.PUBLISHED, *out)
    empty = make_run(tmp_path / "empty")
    assert "no evaluation and no finished episode" in refusal(capsys, empty, *out)
    again = make_run(tmp_path / "again", evaluations=evaluations(1.0))
    text = refusal(capsys, *runs, again, *out)
    assert "are both seed 0 of 'tiny' on dmc:cartpole_swingup from proprio" in text
    assert f"NAME={again}" in text
    assert not (tmp_path / "out").exists()
    script.main([*runs, f"other={again}", *map(str, out)])
    assert (tmp_path / "out" / f"{STEM}.pdf").exists()


def test_a_run_on_a_gpu_names_it(tmp_path):
    run = make_run(tmp_path / "run", evaluations=evaluations(1.0), device="cuda")
    assert script.read_run(Path(run), "")[0]["hardware"] == "H200; x86_64, 2 cores"


def test_on_the_discrete_task_every_seed_ends_above_400_and_falls_back_before():
    """What the README says of the committed curves of CartPole."""
    rows, _ = read_table(ROOT / "figures" / "data" / f"{STEM}.csv")
    own = [r for r in rows if (r["env"], r["protocol"]) == ("gym:CartPole-v1", "evaluation")]
    assert {row["seed"] for row in own} == {0, 1, 2}
    last = [row["return"] for row in own if row["env_frames"] == 30_000]
    assert len(last) == 3
    assert min(last) > 400
    for seed in range(3):
        curve = [row["return"] for row in own if row["seed"] == seed]
        assert min(curve[curve.index(max(curve)) :]) < 300

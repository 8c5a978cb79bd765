"""The analyses of a model one by one: their numbers, figures, summaries and scripts."""

import importlib.util
from functools import partial
from pathlib import Path

import pytest
import torch

import sdewm
from sdewm.base.records import ROOT, read_table, write_table
from sdewm.cli import main
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import RSSMModel
from sdewm.plots.jacobian_weight_plots import effects_of_penalty, seed_interval
from sdewm.plots.panels import lay_out
from sdewm.plots.representation_error_plots import CHANGES, error_sizes, loss_changes
from sdewm.report import divergence, expansion, open_loop, representation_error
from sdewm.report.analyses import ANALYSES
from sdewm.report.trained_run import load_trained_run
from sdewm.scripts import model_figure
from sdewm.theory.bounds.rollout_bounds import DEFAULT_GRADES
from tests.model.small_models import A, D, make_model, randn

MODELS = ROOT / "paper_checks" / "small_models"
RUN, DATA = str(MODELS / "agent"), str(MODELS / "episodes")
SCRIPTS = {part.stem: part for part in ANALYSES.values()}
TINY = {
    "error": "--error.episodes 4 --error.steps 8 --error.draws 2",
    "expansion": "--expansion.episodes 2 --expansion.start 3 --expansion.horizon 2 "
    "--expansion.copies 1 --expansion.paths 2",
    "divergence": "--divergence.episodes 2 --divergence.start 3 --divergence.horizon 2 "
    "--divergence.copies 2 --divergence.paths 1",
    "open_loop": "--open-loop.episodes 16 --open-loop.context 3 --open-loop.horizon 4 "
    "--open-loop.samples 9",
    "stability": "--stability.episodes 2 --stability.start 3 --stability.steps 4 "
    "--stability.discard 1 --stability.every 20",
}


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "analysis" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_of_a_shipped_run_gives_table_figure_and_summary(
    name, tmp_path, capsys, monkeypatch
):
    losses = expansion.losses(load_trained_run(Path(RUN), Path(DATA)).subject)
    some = {"reward error": losses["reward error"]}
    monkeypatch.setattr(expansion, "losses", lambda trained: some)
    few = partial(open_loop.open_loop_rows, resamples=40)
    monkeypatch.setattr(open_loop, "open_loop_rows", few)
    run = str(MODELS / "weight0-seed0") if name == "divergence" else RUN
    words = ["analyse", run, "--data", DATA, "--only", name, "--out", str(tmp_path)]
    assert main([*words, *TINY[name].split()]) == 0
    stem = ANALYSES[name].stem
    assert (tmp_path / f"{stem}.png").stat().st_size > 10_000
    rows, facts = read_table(tmp_path / "data" / f"{stem}.csv")
    assert len(rows) > 5 and {"command", "commit", "seed", "data_policy", "updates"} <= set(facts)
    if name != "open_loop":  # whose intervals are bootstrapped
        assert {row["episodes"] for row in rows} == {int(TINY[name].split()[1])}
    assert f"{name} (measured" in capsys.readouterr().out
    drawn = []
    monkeypatch.setattr(model_figure, "save_figure", lambda *given: drawn.append(given[2]) or [])
    loaded(stem).main(["--out", str(tmp_path)])  # the script draws the same table anew
    again = capsys.readouterr().out
    assert drawn == [stem]
    assert ANALYSES[name].summary(rows) in again


def test_the_summary_says_what_few_episodes_cannot_show():
    rows, _ = read_table(ROOT / "figures" / "data" / "fig_representation_error.csv")
    for episodes, told in ((3, "p_value of 3 episodes is about 0.25 at least"), (8, "")):
        text = representation_error.summary([{**row, "episodes": episodes} for row in rows])
        assert told in text and ("at least" in text) == bool(told)
        assert "they may leave [0, 1], and are nan where" in text


def test_bounds_that_take_long_can_be_left_out():
    subject = load_trained_run(MODELS / "agent", Path(DATA)).subject
    few = {"episodes": 2, "start": 3, "horizon": 2, "copies": 2, "paths": 1}
    settings = divergence.Settings(**few, strength=0.01, slow_bounds=False)
    rows = divergence.rows(subject, settings, seed=0)
    series = {row["series"] for row in rows if row["kind"] == "mean"}
    assert series == {"measured", "prediction", *DEFAULT_GRADES} - {"block"}  # multiplicative noise
    kinds = {row["kind"] for row in rows}
    assert "bias" in kinds and "value change" not in kinds
    assert "enclosure" not in divergence.summary(rows)
    lay_out(divergence.ANALYSIS.figure(rows))


@pytest.mark.parametrize("stem", SCRIPTS)
def test_a_table_that_is_drawn_again_is_not_one_of_other_settings(stem, tmp_path, capsys):
    """Without a run the table that is there would be drawn, whatever the seed says."""
    table = tmp_path / "data" / f"{stem}.csv"
    table.parent.mkdir()
    table.write_text("# seed: 0\nvalue\n1.0\n")
    with pytest.raises(SystemExit) as stopped:
        loaded(stem).main(["--seed", "5", "--out", str(tmp_path)])
    assert stopped.value.code == 2 and "is drawn as it is" in capsys.readouterr().err


@pytest.mark.parametrize("stem", SCRIPTS)
def test_a_script_refuses_with_a_sentence(stem, tmp_path, capsys):
    script = loaded(stem)
    for words, text in (
        (["no-run"], "expected RUN and --data"),
        (["--data", "no-data"], "expected RUN and --data"),
        ([], "expected RUN and --data"),
        (["no-run", "--data", DATA], "holds no run"),
        ([RUN, "--data", "no-data"], "holds no dataset"),
        ([RUN, "--data", DATA, "--seed", "-1"], "--seed=-1"),
    ):
        with pytest.raises(SystemExit) as stopped:
            script.main([*words, "--out", str(tmp_path)])
        assert stopped.value.code == 2 and text in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_rows_of_the_error_hold_both_parts_in_units_of_the_posterior():
    episodes = Episodes(randn(6, 4, D), torch.zeros(6, 4, A), torch.zeros(6, 4))
    model = RSSMModel(make_model("gaussian"))
    rows = representation_error.measured_rows(model, episodes, draws=8, seed=0)
    assert len(rows) == sum(len(strengths) for strengths in representation_error.VECTORS.values())
    noise = {row["strength"]: row for row in rows if row["panel"] == "noise"}
    assert 50 < noise[0.1]["diffusion"] / noise[0.01]["diffusion"] < 200  # as the square
    shift = [row for row in rows if row["panel"] == "shift"]
    assert all(row["diffusion"] < 1e-20 and row["drift"] > 1e-8 for row in shift)
    for name in (
        "explained_by_state",
        "explained_by_constant",
    ):  # a shift has no noise: never more than all of it
        assert all(row[name] <= 1.0 + 1e-9 for row in shift)
    figure = lay_out(error_sizes(rows))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["(a) Additive noise", "(b) Random mask", "(c) Constant shift"]
    lines = [line for line in figure.axes[2].lines if len(line.get_xdata()) == 4]
    assert len(lines) == 1  # the drift; a diffusion of zero is not drawn


@pytest.mark.parametrize("count", [7, 8])
def test_what_few_episodes_cannot_reject_is_not_shown_as_not_rejected(count):
    """Seven have no p-value below 1/64, with which every marker of the figure is open."""
    episodes = Episodes(randn(count, 4, D), torch.zeros(count, 4, A), torch.zeros(count, 4))
    model = RSSMModel(make_model("gaussian"))
    rows = representation_error.measured_rows(model, episodes, draws=2, seed=0)
    told, note = representation_error.summary(rows), error_sizes(rows).note
    assert ("p_value of 7 episodes is about 0.0156 at least" in told) == (count == 7)
    assert ("7 episodes are too few for a p-value below 0.01" in note) == (count == 7)


def test_limits_that_are_infinite_are_shown_with_their_sign():
    row = {"value": float("nan"), "low": float("-inf"), "high": float("inf")}
    assert open_loop._interval(row) == "– [−∞, ∞]"


def test_bars_over_few_episodes_are_those_of_students_t():
    row = {"panel": "loss", "kind": "change", "epsilon": 1.0, "value": 0.0, "standard_error": 0.1}
    rows = [{**row, "series": series, "episodes": 8} for series in CHANGES]
    (axes,) = lay_out(loss_changes(rows)).axes
    ends = axes.collections[0].get_segments()[0][:, 1]
    assert ends.tolist() == pytest.approx([-0.23646, 0.23646], abs=1e-5)
    with pytest.raises(ValueError, match="units=1"):
        lay_out(loss_changes([{**row, "series": series, "episodes": 1} for series in CHANGES]))


def test_changes_of_losses_are_drawn_and_their_reach_is_told():
    rows = []

    def add(kind, series, epsilon, value, verdict=""):
        place = {"panel": "loss", "kind": kind, "series": series, "epsilon": epsilon}
        rows.append(place | {"value": value, "standard_error": 0.01, "verdict": verdict})

    for series, factor in (
        ("measured, encoder", 1.0),
        ("predicted, encoder", 1.105),  # within a tenth of both terms, not of the first alone
        ("predicted, measured", 1.05),
    ):
        for size in expansion.SIZES:
            worse = 1.2 if series == "predicted, encoder" and size > 0.35 else 1.0
            add("change", series, size, size * factor * worse)
    for form in expansion.FORMS:
        for name in expansion.REPORTED_TERMS:
            add("term", f"{name}, {form}", None, 1.0)
        add("order", form, None, 3.0, "holds")
    told = expansion.summary(rows).splitlines()
    assert told[2].split()[-5] == "0.3" and told[3].split()[-5] == "–"
    assert told[2].split()[-1] == "holds"
    (axes,) = lay_out(loss_changes(rows)).axes
    assert axes.get_title(loc="left") == "loss" and len(axes.lines) >= 3


def test_runs_with_the_penalty_are_drawn_beside_those_without(tmp_path, capsys):
    rows = [
        {
            "quantity": name,
            "title": name,
            "unit": "1",
            "weight": weight,
            "seed": seed,
            "run": f"{weight}-{seed}",
        }
        | {"updates": 1, "value": value * (1 - weight) + 0.01 * seed, "standard_error": 0.0}
        for name, value in (("jacobian", 3.0), ("exponent", -0.1))
        for weight in (0.0, 0.1)
        for seed in (0, 1, 2)
    ]
    figure = lay_out(effects_of_penalty(rows))
    titles = [axes.get_title(loc="left") for axes in figure.axes[:2]]
    assert titles == ["(a) jacobian", "(b) exponent"]
    marks = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert [line.get_ydata().tolist() for line in marks] == [[3.0, 3.01, 3.02], [2.7, 2.71, 2.72]]
    assert seed_interval([2.0])[0] == 2.0
    script = loaded("fig_jacobian_weight")
    with pytest.raises(SystemExit):
        script.main(["--out", str(tmp_path)])
    assert "expected RUNS and --data" in capsys.readouterr().err
    write_table(tmp_path / "data" / "fig_jacobian_weight.csv", rows, {"seed": 0})
    script.main(["--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "3.01 ± 0.025" in said and "± is half of the 95 % interval of the mean" in said


def test_errors_of_a_deterministic_latent_are_measured_in_its_own_variance():
    episodes = Episodes(randn(6, 4, D), torch.zeros(6, 4, A), torch.zeros(6, 4))
    model = sdewm.StepModel(
        lambda x, a, v: 0.0 * x, state_size=D, noise_size=0, encoder=lambda x, o: 2 * o
    )
    rows = representation_error.measured_rows(model, episodes, draws=64, seed=0)
    (shift,) = [row for row in rows if (row["panel"], row["strength"]) == ("shift", 0.1)]
    variance = (2 * episodes.observations.double()).flatten(0, 1).var(0).sum()
    assert shift["drift"] == pytest.approx(float(D * 0.2**2 / variance), rel=1e-3)
    assert {row["variance_of"] for row in rows} == {"latent"}
    figure = lay_out(error_sizes(rows))
    assert "latent variances" in figure.axes[0].get_ylabel().replace("\n", " ")

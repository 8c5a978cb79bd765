"""The figures of the latent's error and of what it does to losses."""

import importlib.util
from pathlib import Path

import pytest
import torch

from sdewm.base.records import write_table
from sdewm.evaluate.episodes import Episodes
from sdewm.latent_sde.models import RSSMModel
from sdewm.plots.error_plots import error_sizes, loss_changes
from tests.model.small_models import A, D, make_model, randn

SCRIPTS = Path(__file__).resolve().parents[2] / "analysis"


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return loaded("fig_representation_error")


@pytest.fixture(scope="module")
def model_script():
    return loaded("fig_model_expansion")


def test_rows_hold_both_parts_in_units_of_the_posterior(script):
    episodes = Episodes(randn(6, 4, D), torch.zeros(6, 4, A), torch.zeros(6, 4))
    rows = script.measured_rows(RSSMModel(make_model("gaussian")), episodes, draws=8, seed=0)
    assert len(rows) == sum(len(strengths) for strengths in script.VECTORS.values())
    noise = {row["strength"]: row for row in rows if row["panel"] == "noise"}
    assert 50 < noise[0.1]["diffusion"] / noise[0.01]["diffusion"] < 200  # as the square
    shift = [row for row in rows if row["panel"] == "shift"]
    assert all(row["diffusion"] < 1e-20 and row["drift"] > 1e-8 for row in shift)
    figure = error_sizes(rows)
    assert [axes.get_title() for axes in figure.axes] == ["noise", "mask", "shift"]
    lines = [line for line in figure.axes[2].lines if len(line.get_xdata()) == 4]
    assert len(lines) == 1  # the drift; a diffusion of zero is not drawn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-run", "--data", "no-data"], "no-run"),
        (["no-run", "--data", "no-data", "--draws", "1"], "--draws=1"),
        (["no-run"], "expected RUN and --data"),
        (["--data", "no-data"], "expected RUN and --data"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_sentence(script, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fig_representation_error", "fig_model_expansion"])
def test_a_figure_is_drawn_anew_from_its_table(name, tmp_path, capsys):
    module = loaded(name)
    if name == "fig_representation_error":
        numbers = {"drift": 1.0, "drift_error": 0.1, "diffusion": 2.0, "diffusion_error": 0.1}
        row = {"panel": "noise", "unit": "std", "strength": 0.1, **numbers, "p_value": 0.5}
    else:
        numbers = {"epsilon": 0.5, "value": 1.0, "standard_error": 0.1}
        row = {"panel": "loss", "kind": "change", "series": "measured, encoder", **numbers}
    with pytest.raises(SystemExit):
        module.main(["--out", str(tmp_path)])
    write_table(tmp_path / "data" / f"{name}.csv", [row], {"seed": 0})
    module.main(["--out", str(tmp_path)])
    assert (tmp_path / f"{name}.png").is_file() and (tmp_path / f"{name}.pdf").is_file()


def test_changes_of_losses_are_drawn_and_their_reach_is_told(model_script):
    rows = []
    for series, factor in (
        ("measured, encoder", 1.0),
        ("predicted, encoder", 1.05),
        ("predicted, measured", 1.05),
    ):
        for size in model_script.SIZES:
            worse = 1.2 if series == "predicted, measured" and size > 0.35 else 1.0
            number = {"value": size * factor * worse, "standard_error": 0.01}
            rows.append(
                {"panel": "loss", "kind": "change", "series": series, "epsilon": size, **number}
            )
    for form in ("encoder", "measured"):
        for name in model_script.TERMS:
            row = {"panel": "loss", "kind": "term", "series": f"{name}, {form}", "epsilon": None}
            rows.append(row | {"value": 1.0, "standard_error": 0.1})
    told = model_script.summary(rows).splitlines()
    assert told[2].split()[-1] == "1" and told[3].split()[-1] == "0.3"
    (axes,) = loss_changes(rows).axes
    assert axes.get_title() == "loss" and len(axes.lines) >= 3

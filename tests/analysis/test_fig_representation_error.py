"""The figure of the latent's error: one row for each perturbation, a drawing, clear refusals."""

import importlib.util
from pathlib import Path

import pytest
import torch

from sdewm.evaluate.episodes import Episodes
from sdewm.latent_sde.models import RSSMModel
from sdewm.plots.error_plots import error_sizes
from tests.model.small_models import A, D, make_model, randn

SCRIPT = Path(__file__).resolve().parents[2] / "analysis" / "fig_representation_error.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fig_representation_error", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        (["no-run"], "--data"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_sentence(script, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err

"""The figure of open-loop accuracy shows what the rows say."""

import math

import pytest

from sdewm.plots.open_loop_plots import MODEL, REFERENCES, open_loop_accuracy
from sdewm.plots.panels import lay_out


def rows_of(panel, horizon=3.0, factor=2.0, lines=("one_step", "shuffled")):
    """A curve that doubles at each of six steps, references at 1 and 8, an horizon."""

    def row(kind, series, k, value, unit="nats"):
        return {
            "panel": panel,
            "kind": kind,
            "series": series,
            "horizon": k,
            "value": value,
            "low": 0.9 * value,
            "high": 1.1 * value,
            "unit": unit,
        }

    rows = [row("curve", "model", k, factor**k) for k in range(1, 7)]
    for level, name in enumerate(lines):
        rows += [row("reference", name, k, 8.0**level) for k in range(1, 7)]
    rows.append(row("metric", "saturation_time", None, 2.5, "policy_steps"))
    if horizon is not None:
        rows.append(row("metric", "predictability_horizon", None, horizon, "policy_steps"))
    return rows


def draw(*panels):
    setting = {"panel": "settings", "kind": "setting", "series": "theta", "horizon": None}
    theta = setting | {"value": 0.5, "low": None, "high": None, "unit": ""}
    return lay_out(open_loop_accuracy([theta, *(row for rows in panels for row in rows)]))


def texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_one_panel_per_metric_with_curve_band_references_and_horizon():
    figure = draw(rows_of("latent KL"), rows_of("reward error"))
    first, second = figure.axes
    titles = [axes.get_title(loc="left") for axes in (first, second)]
    assert titles == ["(a) Latent KL", "(b) Reward error"]
    curve = next(line for line in first.lines if line.get_label() == "model")
    assert curve.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert curve.get_ydata().tolist() == [2, 4, 8, 16, 32, 64]
    levels = sorted(line.get_ydata()[0] for line in first.lines if len(line.get_xdata()) == 6)
    assert levels == [1, 2, 8]
    (upright,) = [line for line in first.lines if len(line.get_xdata()) == 2]
    assert upright.get_xdata()[0] == 3
    band = first.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(1.8) and band.max() == pytest.approx(70.4)
    assert first.get_ylabel() == "nats" and first.get_xlabel().startswith("policy_steps after")
    assert texts(figure) == [
        "model",
        "any step of a reference episode (ceiling)",
        "one step ahead (floor)",
        "predictability horizon",
    ]
    note = figure.texts[-1].get_text().replace("\n", " ")
    assert "95 % bootstrap interval over episodes" in note and "exceeds 0.5 of the ceiling" in note
    assert "the first half of those given" in note  # which need not be the training data


@pytest.mark.parametrize("horizon", [math.inf, None])
def test_no_horizon_is_marked_where_there_is_none(horizon):
    figure = draw(rows_of("latent KL", horizon))
    assert not [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert not [text for text in texts(figure) if "predictability" in text]


def test_axes_are_logarithmic_where_lines_are_far_apart_and_positive():
    assert draw(rows_of("a")).axes[0].get_yscale() == "log"
    assert draw(rows_of("a", factor=1.1)).axes[0].get_yscale() == "linear"
    signed = [row | {"value": -row["value"]} for row in rows_of("a", None)]
    assert draw(signed).axes[0].get_yscale() == "linear"


def test_an_interval_of_the_horizon_without_end_stays_in_the_panel(tmp_path):
    rows = rows_of("a")
    rows[-1] |= {"low": -math.inf, "high": math.inf}
    figure = draw(rows)
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert figure.axes[0].get_xlim()[1] < 10


def test_every_reference_has_a_look_of_its_own():
    looks = [look for _, look in REFERENCES.values()]
    assert len({(look.colour, str(look.dash)) for look in [MODEL, *looks]}) == len(looks) + 1
    assert not any("training" in text or "same step" in text for text, _ in REFERENCES.values())
    figure = draw(rows_of("a", None, lines=tuple(REFERENCES)))
    assert len(figure.legends[0].get_texts()) == len(looks) + 1

"""The figure of bounds: curves that leave a panel end where they cross its edge."""

import math

import pytest

from sdewm.plots.panels import lay_out
from sdewm.plots.rollout_plots import rollout_bounds
from sdewm.plots.style import GRADES


def rows_of(series, kind, growth, steps=10):
    """A distance of 0.1 growing by a factor 10^growth at each step."""
    return [
        {
            "panel": "own",
            "series": series,
            "kind": kind,
            "size": 0.1,
            "step": n,
            "time": float(n),
            "mean": 0.1 * 10.0 ** (growth * n),
            "mean_ratio": 10.0 ** (growth * n),
            "sup_ratio": 10.0 ** (growth * n),
            "mean_error": 0.0,
            "low": 0.1,
            "high": 0.1,
        }
        for n in range(steps + 1)
    ]


def drawn(*bounds):
    rows = rows_of("measured", None, 0.0)
    for bound in bounds:
        rows += rows_of(*bound)
    return lay_out(rollout_bounds(rows, {"paths": "8"}))


def triangles(axes):
    return [line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata()) == 1]


def note_of(figure):
    return figure.texts[-1].get_text().replace("\n", " ")


def test_a_curve_that_leaves_is_marked_where_it_crosses_with_its_last_order():
    figure = drawn(("gronwall", "certificate", 0.8))
    axes = figure.axes[0]
    (triangle,) = triangles(axes)
    assert triangle.get_xdata()[0] == pytest.approx(math.log10(axes.get_ylim()[1] / 0.1) / 0.8)
    assert triangle.get_color() == GRADES["gronwall"][1]
    assert "Grönwall: certificate $10^{7}$." in note_of(figure)


def test_a_curve_that_stays_is_not_marked():
    figure = drawn(("gronwall", "certificate", 0.3))
    assert not triangles(figure.axes[0])
    assert "10^" not in note_of(figure)


def test_the_note_has_every_curve_that_leaves():
    grades = ("gronwall", "log_norm", "block")
    figure = drawn(*((grade, "certificate", 3.0) for grade in grades))
    assert len(triangles(figure.axes[0])) == 3
    assert note_of(figure).count("$10^{29}$") == 3


def test_kinds_differ_in_dash_and_grades_in_colour_and_marker():
    axes = drawn(
        ("gronwall", "certificate", 0.1),
        ("gronwall", "estimate", 0.1),
        ("linearised", "certificate", 0.1),
    ).axes[0]
    of = {str(line.get_label()): line for line in axes.lines}
    proven, sampled = of["Grönwall: certificate"], of["Grönwall: estimate"]
    curved = of["linearised, with remainder: certificate"]
    assert proven.get_linestyle() == curved.get_linestyle() == "-"
    assert sampled.get_linestyle() == "--"
    assert proven.get_color() == sampled.get_color() != curved.get_color()
    assert proven.get_marker() != curved.get_marker()

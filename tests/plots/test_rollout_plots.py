"""The figure of bounds: curves that leave a panel end where they cross its edge."""

import math

import pytest

from sdewm.plots.rollout_plots import rollout_bounds


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
            "low": 0.1,
            "high": 0.1,
        }
        for n in range(steps + 1)
    ]


def top_of(*bounds):
    rows = rows_of("measured", None, 0.0)
    for bound in bounds:
        rows += rows_of(*bound)
    return rollout_bounds(rows, paths=8).axes[0]


def test_a_curve_that_leaves_is_marked_where_it_crosses_with_its_last_order():
    axes = top_of(("gronwall", "certificate", 0.8))
    (triangle,) = [line for line in axes.lines if line.get_marker() == "^"]
    assert triangle.get_xdata()[0] == pytest.approx(math.log10(axes.get_ylim()[1] / 0.1) / 0.8)
    assert "$10^{7}$" in [text.get_text() for text in axes.texts]


def test_a_curve_that_stays_is_not_marked():
    axes = top_of(("gronwall", "certificate", 0.3))
    assert not [line for line in axes.lines if line.get_marker() == "^"]
    assert not [text for text in axes.texts if "10^" in text.get_text()]


def test_orders_of_many_curves_stand_side_by_side_inside_the_panel():
    axes = top_of(*((grade, "certificate", 3.0) for grade in ("gronwall", "log_norm", "block")))
    notes = [text for text in axes.texts if "10^" in text.get_text()]
    places = sorted(text.get_position()[0] for text in notes)
    assert len(places) == 3
    assert min(b - a for a, b in zip(places, places[1:], strict=False)) > 0.1
    assert places[-1] < 1.0


def test_kinds_differ_in_dash_and_grades_in_colour():
    axes = top_of(
        ("gronwall", "certificate", 0.1),
        ("gronwall", "estimate", 0.1),
        ("linearised", "certificate", 0.1),
    )
    proven, curved, sampled = axes.lines[:3]
    assert proven.get_linestyle() == curved.get_linestyle() == "-"
    assert sampled.get_linestyle() == "--"
    assert proven.get_color() == sampled.get_color() != curved.get_color()

"""The figure of learning curves: what is drawn is what the rows say."""

import pytest

from sdewm.plots.panels import lay_out
from sdewm.plots.training_plots import learning_curves


def rows_of(panel, series, kind, last, *, seeds=2, seed=None):
    return [
        {
            "panel": panel,
            "series": series,
            "kind": kind,
            "seed": seed,
            "seeds": seeds,
            "env_frames": float(frames),
            "mean": frames / 100.0,
            "deviation": 10.0 if seeds > 1 else None,
        }
        for frames in range(10_000, last + 1, 10_000)
    ]


def two_panels():
    rows = []
    for panel, last in (("walk", 50_000), ("run", 80_000)):
        rows += rows_of(panel, "DreamerV2, published", "published", 200_000, seeds=5)
        rows += rows_of(panel, "DreamerV3, published", "published", 200_000, seeds=10)
        rows += rows_of(panel, "tiny", "own", last)
        rows += rows_of(panel, "tiny", "seed", last, seed=0)
        rows += rows_of(panel, "tiny", "seed", last, seed=1)
    return rows + rows_of("run", "large", "own", 60_000, seeds=1)


def line_of(axes, width, colour=None):
    return [
        line
        for line in axes.lines
        if line.get_linewidth() == width and colour in (None, line.get_color())
    ]


def test_each_panel_ends_with_its_last_own_curve_and_counts_in_thousands():
    walk, run = lay_out(learning_curves(two_panels())).axes
    assert [axes.get_title(loc="left") for axes in (walk, run)] == ["(a) Walk", "(b) Run"]
    assert walk.get_xlim() == (0.0, 50.0)
    assert run.get_xlim() == (0.0, 80.0)
    (own,) = line_of(walk, 2.0)
    assert own.get_xdata().tolist() == pytest.approx([10, 20, 30, 40, 50])
    assert own.get_ydata().tolist() == pytest.approx([100, 200, 300, 400, 500])
    assert all("thousands" in axes.get_xlabel() for axes in (walk, run))
    assert "return" in walk.get_ylabel() and run.get_ylabel() == ""


def test_a_series_looks_the_same_in_all_panels_and_no_two_look_alike():
    walk, run = lay_out(learning_curves(two_panels())).axes

    def looks(axes):
        lines = [line for line in axes.lines if line.get_linewidth() > 1.0]
        return {(line.get_color(), str(line._dash_pattern)) for line in lines}  # type: ignore[attr-defined]

    assert looks(walk) < looks(run)
    assert len(looks(run)) == 4
    assert len({dash for _, dash in looks(run)}) == 4


def test_bands_are_one_deviation_on_each_side_and_a_single_seed_has_none():
    walk, run = lay_out(learning_curves(two_panels())).axes
    assert len(walk.collections) == 3
    assert len(run.collections) == 3  # of four series
    own = walk.collections[0].get_paths()[0].vertices
    at_first = sorted(y for x, y in own if x == 10.0)
    assert (at_first[0], at_first[-1]) == pytest.approx((90.0, 110.0))


def test_the_legend_names_every_series_once():
    (legend,) = lay_out(learning_curves(two_panels())).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert sorted(texts, key=str.lower) == [
        "DreamerV2, published",
        "DreamerV3, published",
        "large",
        "one seed (thin, colour of its curve)",
        "tiny",
    ]


def test_the_number_of_seeds_and_what_a_band_is_are_written_below():
    note = lay_out(learning_curves(two_panels())).texts[-1].get_text().splitlines()
    assert "Bands: ± one standard deviation over seeds." in " ".join(note)
    counts = "DreamerV3, published 10; DreamerV2, published 5."
    assert note[-2:] == [f"(a) Seeds: tiny 2; {counts}", f"(b) Seeds: tiny 2; large 1; {counts}"]


def test_evaluations_have_markers_and_training_episodes_none():
    rows = rows_of("walk", "tiny: evaluation episodes, mean action", "own", 50_000)
    rows += rows_of("walk", "large: training episodes, sampled actions", "own", 50_000)
    (axes,) = lay_out(learning_curves(rows)).axes
    markers = {line.get_label().partition(":")[0]: line.get_marker() for line in axes.lines}
    assert markers["tiny"] != "" and markers["large"] in ("", "None")


def test_four_tasks_stand_in_two_rows():
    rows = [row for panel in "abcd" for row in rows_of(panel, "tiny", "own", 20_000)]
    figure = lay_out(learning_curves(rows))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["(a) A", "(b) B", "(c) C", "(d) D"]
    assert len({round(axes.get_subplotspec().rowspan.start) for axes in figure.axes}) == 2

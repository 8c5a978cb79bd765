"""Every committed figure, at one column and at the width of a page: legible and explained."""

import itertools
from functools import cache
from string import ascii_lowercase

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text

from sdewm.plots.panels import Drawing, Panel, lay_out, save_figure
from sdewm.plots.representation_error_plots import BELOW, OPEN, error_sizes
from sdewm.plots.style import COLUMN, LEAST, PAGE
from tests.plots.committed import STEMS, drawing

SLACK = 1.0  # pixels, of 200 per inch


@cache
def figure_of(stem, width):
    return lay_out(drawing(stem), width)


every_figure = pytest.mark.parametrize("stem", STEMS)
both_widths = pytest.mark.parametrize("width", [COLUMN, PAGE])


def visible_texts(figure):
    """Every text that prints, with its box in pixels."""
    renderer = figure.canvas.get_renderer()
    ticks, printed = set(), set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            every = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            ticks |= {label for tick in every for label in (tick.label1, tick.label2)}
            # Ticks outside the limits have labels that matplotlib does not print.
            inside = axis._update_ticks()
            printed |= {label for tick in inside for label in (tick.label1, tick.label2)}
    return [
        (text, text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in ticks - printed
    ]


@both_widths
@every_figure
def test_the_width_is_that_asked_for_and_type_is_at_least_seven_points(stem, width):
    figure = figure_of(stem, width)
    assert figure.get_figwidth() == pytest.approx(width)
    texts = visible_texts(figure)
    assert len(texts) > 20
    assert min(text.get_fontsize() for text, _ in texts) >= LEAST


@both_widths
@every_figure
def test_no_text_is_cut_or_lies_on_another_text_or_panel(stem, width):
    figure = figure_of(stem, width)
    texts = visible_texts(figure)
    boxes = np.array([box.extents for _, box in texts])
    names = [repr(text.get_text()) for text, _ in texts]
    canvas = figure.bbox.extents
    outside = (boxes[:, :2] < canvas[:2] - SLACK) | (boxes[:, 2:] > canvas[2:] + SLACK)
    assert not outside.any(), [names[n] for n in np.flatnonzero(outside.any(1))]
    for axes in figure.axes:
        others = np.array([text.axes is not axes for text, _ in texts])
        hit = others & overlapping(boxes, np.array(axes.get_window_extent().extents))
        assert not hit.any(), [names[n] for n in np.flatnonzero(hit)]
    for n in range(len(texts)):
        hit = overlapping(boxes[n + 1 :], boxes[n])
        assert not hit.any(), (names[n], [names[n + 1 + m] for m in np.flatnonzero(hit)])


def overlapping(boxes, box):
    shared = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    return (shared > SLACK).all(1)


@every_figure
def test_panels_are_lettered_in_reading_order(stem):
    axes = figure_of(stem, PAGE).axes
    assert len(axes) == len(drawing(stem).panels) > 1
    titles = [each.get_title(loc="left") for each in axes]
    for letter, title in zip(ascii_lowercase, titles, strict=False):
        assert title.startswith(f"({letter}) ") and len(title) > 6
        assert not any(name in title for name in ("LinearFlow", "TanhWorldModel", "CubicFlow"))


@every_figure
def test_every_line_is_in_the_legend(stem):
    figure = figure_of(stem, PAGE)
    legend = {text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()}
    assert len(figure.legends) == 1 and len(legend) > 2
    for axes in figure.axes:
        for line in axes.lines:
            label = str(line.get_label())
            assert not label.startswith("_"), f"a line without a name in {axes.get_title('left')}"
            assert label.partition(": tiny:")[0].partition(": random:")[0] in legend


def look_of(line):
    pattern = str(line._dash_pattern) if line.get_linestyle() != "None" else "none"
    face = to_hex(line.get_markerfacecolor()) if line.get_marker() not in ("", "None") else ""
    colour = to_hex(line.get_color())
    return colour, pattern, str(line.get_marker()), face, line.get_linewidth() > 0.7


@every_figure
def test_no_two_series_share_colour_dash_and_marker(stem):
    looks = {}
    for axes in figure_of(stem, PAGE).axes:
        for line in axes.lines:
            label = str(line.get_label())
            if label.startswith("one seed (thin"):
                continue  # thin, in the colour of its curve, as the legend says
            if len(line.get_xdata()) or label == "leaves the panel":
                looks.setdefault(label, set()).add(look_of(line))
    for (a, one), (b, other) in itertools.combinations(looks.items(), 2):
        if "leaves the panel" not in (a, b):
            assert not one & other, f"{a!r} and {b!r} look alike"


@every_figure
def test_every_area_is_explained(stem):
    """Bands stand in the legend with their line; the note says what they are."""
    figure = figure_of(stem, PAGE)
    note = drawing(stem).note
    areas = [a for axes in figure.axes for a in axes.collections if isinstance(a, PolyCollection)]
    if areas:
        assert "Band" in note or "band" in note
    assert "95 %" in note or "standard deviation" in note or "nothing is sampled" in note


def test_a_drift_that_is_not_rejected_is_open_and_a_negative_one_is_visible():
    (drawn,) = [
        line
        for line in figure_of("fig_representation_error", PAGE).axes[0].lines
        if line.get_label() == OPEN
    ]
    assert drawn.get_markerfacecolor() == "white" and drawn.get_xdata().tolist() == [0.01]
    low, high = drawn.axes.get_ylim()
    assert low < drawn.get_ydata()[0] < high
    arrows = [line for line in drawn.axes.lines if line.get_label() == BELOW]
    assert sorted(x for line in arrows for x in line.get_xdata()) == [0.01, 0.03]
    assert all(low < y for line in arrows for y in line.get_ydata())
    texts = [text.get_text() for text in drawn.axes.figure.legends[0].get_texts()]
    assert OPEN in texts and BELOW in texts


def error_row(strength, drift, p_value):
    return {
        "panel": "noise",
        "unit": "standard deviation",
        "strength": strength,
        "drift": drift,
        "drift_error": 0.1,
        "diffusion": 1.0,
        "diffusion_error": 0.1,
        "p_value": p_value,
    }


def test_a_rejected_drift_whose_estimate_is_zero_stays_visible_too():
    rows = [error_row(0.1, 0.0, 0.001), error_row(0.3, 2.0, 0.001)]
    (axes,) = lay_out(error_sizes(rows)).axes
    labels = [line.get_label() for line in axes.lines]
    assert BELOW in labels and OPEN not in labels
    points = [line for line in axes.lines if str(line.get_label()).startswith("drift")]
    assert sorted(float(x) for line in points for x in line.get_xdata()) == [0.1, 0.3, 0.3]


def test_the_bar_of_an_interval_that_holds_zero_reaches_the_foot():
    rows = [error_row(0.1, 0.05, 0.5), error_row(0.3, 1.0, 0.001)]  # ± 0.196
    (axes,) = lay_out(error_sizes(rows)).axes
    ends = {
        (round(float(x), 3), round(float(y), 3)): axes.get_ylim()[0] > y
        for bars in axes.collections
        for segment in getattr(bars, "get_segments", list)()
        for x, y in segment[:1]
    }
    assert [x for (x, _), below in ends.items() if below] == [0.1]


def test_the_sum_of_the_terms_stands_beside_the_measured_coefficient():
    for axes in figure_of("fig_term_decomposition", PAGE).axes:
        of = {
            name: [line for line in axes.lines if line.get_label() == name]
            for name in ("sum of the terms", "measured")
        }
        assert len(of["sum of the terms"]) == len(of["measured"]) == 4
        tops = sorted(bar.get_y() + bar.get_height() for bar in axes.patches)
        largest = max(float(line.get_ydata()[0]) for line in of["sum of the terms"])
        assert 0 < largest <= tops[-1] + 1e-12


@pytest.mark.parametrize(
    ("stem", "panel", "count"),
    [("fig_expansion_curve", 0, 4), ("fig_model_expansion", 2, 2), ("fig_value_expansion", 1, 2)],
)
def test_predictions_with_errors_have_bands(stem, panel, count):
    axes = figure_of(stem, PAGE).axes[panel]
    bands = [area for area in axes.collections if isinstance(area, PolyCollection)]
    assert len(bands) == count
    assert all(np.ptp(area.get_paths()[0].vertices[:, 1]) > 0 for area in bands)


def simple(count):
    def draw(axes):
        (line,) = axes.plot([0, 1], [0, 1], label="one")
        axes.set(xlabel="x", ylabel="y")
        return {"one": line}

    panels = [Panel(f"title {n}", draw, f"note {n}.") for n in range(count)]
    return Drawing(panels, "All.")


def test_one_panel_keeps_its_letter_and_note_and_has_its_own_file(tmp_path):
    figure = lay_out(simple(3), COLUMN, "b")
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "(b) title 1"
    assert figure.texts[-1].get_text() == "All.\n(b) note 1."
    paths = save_figure(simple(3), tmp_path, "fig", COLUMN, "b")
    assert [path.name for path in paths] == ["fig_b.png", "fig_b.pdf"]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_neighbours_share_labels_and_a_page_has_two_columns_where_a_column_has_one():
    page, column = lay_out(simple(2), PAGE), lay_out(simple(2), COLUMN)
    assert [axes.get_ylabel() for axes in page.axes] == ["y", ""]
    assert [axes.get_xlabel() for axes in page.axes] == ["x", "x"]
    assert [axes.get_xlabel() for axes in column.axes] == ["", "x"]
    assert len({round(axes.get_position().x0, 3) for axes in column.axes}) == 1
    heights = [axes.get_position().height * page.get_figheight() for axes in page.axes]
    assert heights == pytest.approx([1.75, 1.75], abs=0.02)


@pytest.mark.parametrize(
    ("width", "panel", "text"),
    [
        (7.0, "z", "--panel='z': the figure has the panels a, b, c."),
        (7.0, "ab", "--panel='ab': expected one letter"),
        (2.0, None, "--width=2.0: expected inches from 3.4 to 14."),
        (float("nan"), None, "--width"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(width, panel, text):
    with pytest.raises(ValueError, match="^--") as refused:
        lay_out(simple(3), width, panel)
    assert text in str(refused.value) and "\n" not in str(refused.value)

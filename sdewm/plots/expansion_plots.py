"""Figures of the expansion. Each function takes rows (dicts) and draws them on a new figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from sdewm.plots.series import Rows, series_of
from sdewm.plots.style import (
    BAND,
    BLACK,
    COLOURS,
    DASHES,
    HATCHES,
    MARKERS,
    RC,
    legend_below,
    new_figure,
    zero_line,
)

SIZE = r"size of the error $\varepsilon$"
LABELS = {
    "measured": "measured, 95 % interval",
    "full": r"$c_0+\varepsilon c_1+\varepsilon^2c_2$",
    "first_order": r"first order only: $c_0+\varepsilon c_1$",
    "without_half_S_drift": r"as recalled: without $\frac{1}{2}\tilde{S}_{\xi\xi}$",
    "without_ito_correction": "without the Itô correction",
    "without_Q": r"without $Q$, $\tilde{Q}$ (curvature of the dynamics)",
    "without_P": r"$P$ dropped",
    "same": "same driver, non-zero drift",
    "independent": "independent driver, non-zero drift",
    "same_zero_drift": "same driver, zero drift",
    "independent_zero_drift": "independent driver, zero drift",
    "half_S": r"$\frac{1}{2}\varepsilon^2S$ alone",
    "second_order": r"$\varepsilon^2(Q+\frac{1}{2}S)$",
    "c2": r"$\varepsilon^2c_2$",
    "exact": r"exact, $\propto\varepsilon^{5/2}$",
    "cubic": r"$\propto\varepsilon^3$, the order as recalled",
}
TERM_LABELS = {
    "P": r"$P$",
    "P_drift": r"$\tilde{P}$",
    "Q": r"$Q$",
    "half_S": r"$\frac{1}{2}S$",
    "Q_drift": r"$\tilde{Q}$",
    "S_cross": r"$\tilde{S}_\times$",
    "half_S_drift": r"$\frac{1}{2}\tilde{S}_{\xi\xi}$",
}


def _points(axes: Axes, x: Any, value: Any, error: Any, label: str) -> dict[str, Artist]:
    """Measured values: black points with bars of 1.96 standard errors."""
    bars = axes.errorbar(
        x, value, BAND * error, fmt="o", color=BLACK, ms=4, capsize=2.5, lw=1.2, zorder=5
    )
    return {label: bars}  # type: ignore[dict-item]


def _line(axes: Axes, x: Any, value: Any, index: int, label: str) -> dict[str, Artist]:
    (line,) = axes.plot(x, value, color=COLOURS[index % 6], ls=DASHES[index % 6])
    return {label: line}


def expansion_curve(rows: Rows, title: str) -> Figure:
    """E L(x^ε) against ε (above) and its difference from the full expansion (below).

    Rows: series ("measured" or a prediction), epsilon, loss, loss_error, difference,
    difference_error. The difference of "measured" is the remainder, formed path by path.
    """
    figure = new_figure(7.0, 6.6)
    with rc_context(RC):
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.15, 1.0))
        handles: dict[str, Artist] = {}
        lines = 0
        for name, data in series_of(rows).items():
            x, label = data["epsilon"], LABELS[name]
            if name == "measured":
                half = BAND * data["loss_error"]
                above.fill_between(x, data["loss"] - half, data["loss"] + half, color="#C8C8C8")
                handles |= _points(above, x, data["loss"], data["loss_error"], label)
                _points(below, x, data["difference"], data["difference_error"], label)
                continue
            handles |= _line(above, x, data["loss"], lines, label)
            _line(below, x, data["difference"], lines, label)
            lines += 1
        above.set_title(title)
        above.set_ylabel(r"expected loss $\mathrm{E}\,L(x^\varepsilon)$")
        below.set_ylabel("difference from\n" + LABELS["full"])
        below.set_xlabel(SIZE)
        zero_line(below)
        legend_below(figure, handles, columns=2)
    return figure


def remainder_order(rows: Rows, title: str) -> Figure:
    """|remainder| against ε in logarithmic scales: full expansion (left), a term dropped (right).

    Dashed lines have the whole-numbered slope written above them.

    Rows: panel ("full" or "dropped"), series, epsilon, remainder (absolute), standard_error,
    slope (fitted, the same for all rows of a series), reference (order of the reference line).
    """
    figure = new_figure(8.2, 4.9)
    with rc_context(RC):
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        titles = {"full": "all terms kept", "dropped": "one term dropped (same driver)"}
        for axes, (panel, text) in zip(panels, titles.items(), strict=True):
            handles: dict[str, Artist] = {}
            tops: dict[int, float] = {}
            part = [row for row in rows if row["panel"] == panel]
            for index, (name, data) in enumerate(series_of(part).items()):
                colour = COLOURS[(index + (4 if panel == "dropped" else 0)) % 6]
                bars = axes.errorbar(
                    data["epsilon"],
                    data["remainder"],
                    BAND * data["standard_error"],
                    color=colour,
                    marker=MARKERS[index],
                    ls="none",
                    capsize=2.5,
                )
                handles[f"{LABELS[name]}: slope {data['slope'][0]:.2f}"] = bars
                order = int(data["reference"][0])
                top = _reference(axes, data, order)
                tops[order] = max(top, tops.get(order, 0.0))
            for order, top in tops.items():
                _name_order(axes, max(row["epsilon"] for row in rows), top, order)
            axes.set(xscale="log", yscale="log", title=text, xlabel=SIZE)
            axes.set_xlim(right=1.7 * max(row["epsilon"] for row in rows))  # the names' place
            _name_sizes(axes, [row["epsilon"] for row in rows])
            axes.legend(
                list(handles.values()), list(handles), loc="upper left", bbox_to_anchor=(0, -0.16)
            )
        panels[0].set_ylabel(r"$|\mathrm{E}\,L(x^\varepsilon)-$prediction$|$")
        figure.suptitle(title, fontsize=RC["axes.titlesize"])
    return figure


def _reference(axes: Axes, data: dict[str, np.ndarray], order: int) -> float:
    """A line of slope `order` through the smallest size; its value at the right end."""
    x, y = data["epsilon"], data["remainder"]
    ends = np.array([x.min(), x.max()])
    values = y[int(x.argmin())] * (ends / x.min()) ** order
    axes.plot(ends, values, color="#666666", lw=1.0, ls=DASHES[1], zorder=1)
    return float(values[1])


def _name_order(axes: Axes, x: float, y: float, order: int) -> None:
    axes.annotate(
        r"$\propto\varepsilon$" if order == 1 else rf"$\propto\varepsilon^{order}$",
        (x, y),
        xytext=(8, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        color="#444444",
    )


def _name_sizes(axes: Axes, sizes: Sequence[float]) -> None:
    """The sizes drawn, and only these, as ticks of a logarithmic axis."""
    ticks = sorted(set(sizes))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def term_decomposition(rows: Rows, title: str) -> Figure:
    """Stacked terms of c1 and c2 for each booking of the error; points: measured coefficients.

    Rows: coefficient ("c1" or "c2"), series (booking), term (of TERM_LABELS, or "measured"), value,
    standard_error.
    """
    figure = new_figure(8.2, 4.9)
    with rc_context(RC):
        panels = figure.subplots(1, 2)
        handles: dict[str, Artist] = {}
        bookings = list(dict.fromkeys(row["series"] for row in rows))
        for axes, coefficient in zip(panels, ("c1", "c2"), strict=True):
            for place, booking in enumerate(bookings):
                part = [
                    r for r in rows if (r["coefficient"], r["series"]) == (coefficient, booking)
                ]
                handles |= _stack(axes, place, part)
            axes.set_xticks(
                range(len(bookings)), [_wrapped(LABELS[booking]) for booking in bookings]
            )
            axes.tick_params(axis="x", labelsize=8.5)
            axes.grid(visible=False, axis="x")
            zero_line(axes)
            symbol = rf"$c_{coefficient[1]}$"
            odd = r"odd part of $\mathrm{E}\,L(x^\varepsilon)$ over $\varepsilon$"
            even = r"even part of $\mathrm{E}\,(L(x^\varepsilon)-L(x^0))$ over $\varepsilon^2$"
            axes.set_title(f"{symbol}: {odd if coefficient == 'c1' else even}", fontsize=9.5)
            axes.set_ylabel(f"terms of {symbol}")
        order = [*TERM_LABELS.values(), LABELS["measured"]]
        shown = {name: handles[name] for name in order if name in handles}
        shown = {name.replace("measured", "measured sum"): shown[name] for name in shown}
        legend_below(figure, shown, columns=4)
        figure.suptitle(title, fontsize=RC["axes.titlesize"])
    return figure


def _wrapped(label: str) -> str:
    return label.replace(" driver", "\ndriver").replace(", ", ",\n")


def _stack(axes: Axes, place: int, rows: Rows) -> dict[str, Artist]:
    """Positive terms upwards, negative ones downwards; the measured sum as a point beside it."""
    handles: dict[str, Artist] = {}
    ends = {True: 0.0, False: 0.0}
    for row in rows:
        if row["term"] == "measured":
            value, error = np.array([row["value"]]), np.array([row["standard_error"]])
            handles |= _points(axes, np.array([place]), value, error, LABELS["measured"])
            continue
        index = list(TERM_LABELS).index(row["term"])
        style: dict[str, Any] = {
            "facecolor": COLOURS[index],
            "hatch": HATCHES[index],
            "edgecolor": "white",
        }
        upwards = row["value"] >= 0
        axes.bar(place, row["value"], 0.62, bottom=ends[upwards], linewidth=0.5, **style)
        ends[upwards] += row["value"]
        if row["value"] != 0.0:
            handles[TERM_LABELS[row["term"]]] = Patch(**style)
    return handles


def counterexamples(rows: Rows, titles: dict[str, str]) -> Figure:
    """Four panels: a convex loss with R < 0 (twice), a dropped term, a loss that is not smooth.

    Rows: panel (a key of `titles`; the last one is drawn in logarithmic scales), series, epsilon,
    value, standard_error.
    """
    figure = new_figure(8.2, 8.0)
    with rc_context(RC):
        panels = figure.subplots(2, 2).flatten()
        for index, (axes, (panel, title)) in enumerate(zip(panels, titles.items(), strict=True)):
            handles: dict[str, Artist] = {}
            lines = 0
            for name, data in series_of([row for row in rows if row["panel"] == panel]).items():
                x, label = data["epsilon"], LABELS[name]
                if name == "measured":
                    handles |= _points(axes, x, data["value"], data["standard_error"], label)
                else:
                    handles |= _line(axes, x, data["value"], lines, label)
                    lines += 1
            axes.set_title(title)
            axes.set_xlabel(SIZE)
            if index == len(titles) - 1:
                axes.set(xscale="log", yscale="log")
                _name_sizes(axes, [row["epsilon"] for row in rows if row["panel"] == panel])
            else:
                zero_line(axes)
            axes.legend(
                list(handles.values()),
                list(handles),
                loc="upper left",
                bbox_to_anchor=(0.0, -0.17),
            )
        panels[0].set_ylabel(r"$R=\mathrm{E}\,L(x^\varepsilon)-\mathrm{E}\,L(x^0)$")
        panels[1].set_ylabel(r"$R=\mathrm{E}\,L(x^\varepsilon)-\mathrm{E}\,L(x^0)$")
        panels[2].set_ylabel(r"$R-\varepsilon c_1$")
        panels[3].set_ylabel(r"$\mathrm{E}\,L(x^\varepsilon)$")
    return figure

"""Figure of the value expansion: rows (dicts) in, what is drawn out."""

from __future__ import annotations

from functools import partial
from typing import Any

from matplotlib.axes import Axes

from sdewm.plots.names import short_name, system_name
from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.remainder_plots import log_series, reference_lines
from sdewm.plots.series import Facts, Rows, series_of
from sdewm.plots.style import (
    BAND,
    COLOURS,
    FIRST,
    SECOND,
    Entries,
    line,
    points,
    zero_line,
)

FIRST_TEXT = r"first order: $\mathrm{E}[\nabla Q\cdot y]$"
SECOND_TEXT = r"second order: + ½$\mathrm{E}[\nabla Q\cdot w+y^\top\nabla^2Q\,y]$"
SIGNED = r"signed size $s$ of the error, $e=s\,e_1$, $\mathrm{E}|e_1|=1$"
SIZE = r"mean size of the error $\delta=\mathrm{E}|e|$"
REMAINDERS = {
    "both_orders": r"$\mathrm{E}|$remainder$|$ of both orders",
    "first_order": r"$|$mean remainder$|$ of first order",
    "scaled": r"$e=\delta e_1$",
    "rare": r"$e=e_1$ with probability $\delta$, else 0",
}


def value_expansion(rows: Rows, facts: Facts) -> Drawing:
    """Bias of Q against the size of e for two systems; remainders; and two laws of e.

    Rows: panel ("bias", "order" or "law"), system, series ("measured", "first", "second" of a bias,
    a key of REMAINDERS otherwise), size, value, standard_error, slope (fitted, one per series of
    remainders), reference (order of the line drawn beside the series).
    """
    names = list(dict.fromkeys(row["system"] for row in rows if row["panel"] == "bias"))
    note = (
        rf"{facts['steps']} steps, {facts['paths']} paths, $e_1=(v+\xi/2)/c$ with a fixed unit "
        r"vector $v$ and $\xi$ normal. "
        "Bars and bands: 95 % (±1.96 standard errors; of second order an upper bound, as errors "
        "are added)."
    )
    panels = [
        Panel(f"Bias of $Q$: {system_name(name)}", partial(_bias, rows=_part(rows, "bias", name)))
        for name in names
    ]
    order, law = _part(rows, "order"), _part(rows, "law")
    panels.append(Panel(r"Remainders for $e=\delta e_1$", partial(_remainders, rows=order)))
    panels.append(
        Panel(
            rf"Two laws of mean size $\delta$: {system_name(names[0])}",
            partial(_remainders, rows=law),
        )
    )
    return Drawing(panels, note, height=2.0)


def _part(rows: Rows, panel: str, system: str | None = None) -> Rows:
    return [r for r in rows if r["panel"] == panel and system in (None, r["system"])]


def _bias(axes: Axes, rows: Rows) -> Entries:
    entries = zero_line(axes)
    looks = {"first": (FIRST_TEXT, FIRST), "second": (SECOND_TEXT, SECOND)}
    for name, data in series_of(rows).items():
        x, value, half = data["size"], data["value"], BAND * data["standard_error"]
        if name == "measured":
            entries |= points(axes, x, value, half, "measured bias")
        else:
            text, look = looks[name]
            entries |= line(axes, x, value, look, text, half)
    axes.set(xlabel=SIGNED, ylabel=r"bias $\mathrm{E}[Q(x^e)-Q(x^0)]$")
    return entries


def _remainders(axes: Axes, rows: Rows) -> Entries:
    entries: Entries = {}
    series: dict[tuple[str, str], Any] = {}
    for row in rows:
        series.setdefault((row["system"], row["series"]), []).append(row)
    columns = {key: series_of(own)[key[1]] for key, own in series.items()}
    names = list(dict.fromkeys(row["system"] for row in rows))
    for (system, name), data in columns.items():
        index = list(REMAINDERS).index(name) + (4 if names.index(system) else 0)
        text = (
            REMAINDERS[name]
            if name in ("scaled", "rare")
            else f"{short_name(system)}, {REMAINDERS[name]}"
        )
        entries |= log_series(axes, data, text, COLOURS[index], index)
    axes.set(xlabel=SIZE, ylabel="change of $Q$ − prediction")
    if not entries:
        axes.text(0.5, 0.5, "zero to rounding", ha="center", transform=axes.transAxes)
        return {}
    values = [row["value"] for row in rows]
    axes.set(xscale="log", yscale="log", ylim=(0.3 * min(values), 5.0 * max(values)))
    return entries | reference_lines(axes, {str(key): data for key, data in columns.items()},
                                     r"\delta")  # fmt: skip

"""Figures of the expansion. Each function takes rows (dicts) and returns what is drawn."""

from __future__ import annotations

from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from sdewm.plots.names import system_name
from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Facts, Rows, series_of
from sdewm.plots.style import (
    BAND,
    COLOURS,
    DASHES,
    FIRST,
    GREEN,
    GREY,
    HATCHES,
    OLIVE,
    ORANGE,
    PURPLE,
    SECOND,
    VERMILION,
    Entries,
    Look,
    line,
    points,
    zero_line,
)

SIZE = r"size of the error $\varepsilon$"
LOSS = r"$\mathrm{E}\,L(x^\varepsilon)$"
FULL = r"$c_0+\varepsilon c_1+\varepsilon^2c_2$"
MEASURED = "measured"
LINES = {
    "full": (f"second order: {FULL}", SECOND),
    "first_order": (r"first order: $c_0+\varepsilon c_1$", FIRST),
    "without_half_S_drift": (
        r"as recalled: without ½$\tilde{S}_{\xi\xi}$",
        Look(GREEN, DASHES[2], "", 1.6),
    ),
    "without_ito_correction": ("without the Itô correction", Look(PURPLE, DASHES[1])),
    "without_Q": (
        r"without $Q$ and $\tilde{Q}$ (curvature of the dynamics)",
        Look(ORANGE, DASHES[4]),
    ),
    "half_S": (r"½$\varepsilon^2S$ alone", Look(VERMILION, DASHES[1])),
    "second_order": (r"$\varepsilon^2(Q+$½$S)$", SECOND),
    "c2": (r"$\varepsilon^2c_2$", Look(COLOURS[0], DASHES[4])),
    "exact": (r"exact, $\propto\varepsilon^{5/2}$", Look(OLIVE)),
    "cubic": (r"$\propto\varepsilon^3$, the order as recalled", Look(GREY, DASHES[5])),
}
TERMS = {
    "P": r"$P$",
    "P_drift": r"$\tilde{P}$",
    "Q": r"$Q$",
    "half_S": r"½$S$",
    "Q_drift": r"$\tilde{Q}$",
    "S_cross": r"$\tilde{S}_\times$",
    "half_S_drift": r"½$\tilde{S}_{\xi\xi}$",
}
CASES = {  # abscissa of the bars: driver, drift
    "same_zero_drift": "same,\nzero",
    "same": "same,\nnon-zero",
    "independent_zero_drift": "indep.,\nzero",
    "independent": "indep.,\nnon-zero",
}


def expansion_curve(rows: Rows, facts: Facts) -> Drawing:
    """E L(x^ε) against ε, and its difference from the expansion up to second order.

    Rows: series ("measured" or a prediction), epsilon, loss, loss_error, difference,
    difference_error. The difference of "measured" is the remainder, formed path by path.
    """
    note = (
        f"{system_name(facts['system'])}, {facts['driver']} driver, {facts['steps']} steps, "
        f"{facts['paths']} paths. Bars and bands: 95 % (±1.96 standard errors; for predictions "
        "that lack a term an upper bound, as the errors of both are added)."
    )

    def draw(axes: Axes, value: str, label: str) -> Entries:
        entries = zero_line(axes) if value == "difference" else {}
        for name, data in series_of(rows).items():
            x, y, half = data["epsilon"], data[value], BAND * data[f"{value}_error"]
            if name == MEASURED:
                entries |= points(axes, x, y, half, MEASURED)
            else:
                text, look = LINES[name]
                entries |= line(axes, x, y, look, text, half)
        axes.set(xlabel=SIZE, ylabel=label)
        return entries

    panels = (
        Panel("Expected loss", partial(draw, value="loss", label=f"expected loss {LOSS}")),
        Panel(
            "Difference from second order",
            partial(draw, value="difference", label=f"difference from {FULL}"),
        ),
    )
    return Drawing(panels, note, height=2.2)


def term_decomposition(rows: Rows, facts: Facts) -> Drawing:
    """Stacked terms of c1 and c2, their sum, and the coefficient measured.

    Rows: coefficient ("c1" or "c2"), series (driver and drift), term (of TERMS, "predicted" for
    their sum, or "measured"), value, standard_error.
    """
    note = (
        f"{system_name(facts['system'])}, {facts['steps']} steps, {facts['paths']} paths. "
        r"Measured: $c_1$ is the odd part of "
        rf"{LOSS} over $\varepsilon$, $c_2$ the even part of {LOSS}$-\mathrm{{E}}\,L(x^0)$ over "
        r"$\varepsilon^2$, at $\varepsilon=0.05$. Negative terms are stacked downwards. "
        "Bars of points: 95 % (±1.96 standard errors)."
    )

    def draw(axes: Axes, coefficient: str) -> Entries:
        entries = zero_line(axes)
        names = list(dict.fromkeys(row["series"] for row in rows))
        for place, name in enumerate(names):
            part = [r for r in rows if (r["coefficient"], r["series"]) == (coefficient, name)]
            entries |= _stack(axes, place, part)
        axes.set_xticks(range(len(names)), [CASES[name] for name in names])
        axes.grid(visible=False, axis="x")
        axes.set(xlabel="driver, drift of the error", ylabel=f"terms of $c_{coefficient[1]}$")
        order = [*TERMS.values(), "sum of the terms", MEASURED, "zero"]
        return {text: entries[text] for text in order if text in entries}

    panels = (
        Panel("First order, $c_1$", partial(draw, coefficient="c1")),
        Panel("Second order, $c_2$", partial(draw, coefficient="c2")),
    )
    return Drawing(panels, note, height=2.2)


def _stack(axes: Axes, place: int, rows: Rows) -> Entries:
    """Positive terms upwards, negative ones downwards; beside each other sum and measured."""
    entries: Entries = {}
    ends = {True: 0.0, False: 0.0}
    for row in rows:
        half = [BAND * row["standard_error"]]
        if row["term"] == "predicted":
            look = Look(VERMILION, "none", "_")
            entries |= points(axes, [place - 0.12], [row["value"]], half, "sum of the terms", look,
                              ms=11, mew=1.8)  # fmt: skip
        elif row["term"] == MEASURED:
            entries |= points(axes, [place + 0.12], [row["value"]], half, MEASURED)
        elif row["value"] != 0.0:
            index, upwards = list(TERMS).index(row["term"]), row["value"] >= 0
            style: dict[str, Any] = {"facecolor": COLOURS[index], "hatch": HATCHES[index]}
            style |= {"edgecolor": "white", "linewidth": 0.5}
            axes.bar(place, row["value"], 0.7, bottom=ends[upwards], alpha=0.75, **style)
            ends[upwards] += row["value"]
            entries[TERMS[row["term"]]] = Patch(alpha=0.75, **style)
    return entries


def counterexamples(rows: Rows, facts: Facts) -> Drawing:
    """Four cases: a convex loss with R < 0 (twice), a dropped term, a loss that is not smooth.

    Rows: panel ("sign", "cascade", "dropped", "regularity"), series, epsilon, value,
    standard_error.
    """
    note = (
        r"$R=\mathrm{E}\,L(x^\varepsilon)-\mathrm{E}\,L(x^0)$; independent driver, "
        f"{facts['steps']} steps, {facts['paths']} paths. Bars and bands: 95 % (±1.96 standard "
        "errors; of sums of terms an upper bound, as errors are added)."
    )
    change = r"change of the loss $R$"
    texts = {
        "sign": (r"Convex $L=x_2$: $dx_1=\varepsilon\,dB,$ $dx_2=-x_1^2\,dt$", change),
        "cascade": (r"Convex $L=h^2$, quadratic cascade", change),
        "dropped": (f"A term dropped: {system_name(facts['system'])}", r"$R-\varepsilon c_1$"),
        "regularity": (r"$L=|x|^{5/2}$ only twice differentiable, $dx=\varepsilon\,dB$", LOSS),
    }

    def draw(axes: Axes, panel: str) -> Entries:
        logarithmic = panel == "regularity"
        entries = {} if logarithmic else zero_line(axes)
        for name, data in series_of([row for row in rows if row["panel"] == panel]).items():
            x, y, half = data["epsilon"], data["value"], BAND * data["standard_error"]
            if name == MEASURED:
                entries |= points(axes, x, y, half, MEASURED)
            else:
                text, look = LINES[name]
                entries |= line(axes, x, y, look, text, half)
        axes.set(xlabel=SIZE, ylabel=texts[panel][1])
        if logarithmic:
            sizes = sorted({row["epsilon"] for row in rows if row["panel"] == panel})
            axes.set(xscale="log", yscale="log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
            axes.minorticks_off()
        return entries

    panels = [Panel(texts[name][0], partial(draw, panel=name)) for name in texts]
    return Drawing(panels, note)

"""Figure of the growth of small differences in a trained model: rows in, a new figure out."""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sdewm.plots.series import Rows
from sdewm.plots.style import BAND, BLACK, COLOURS, DASHES, RC, legend_below, new_figure, zero_line

NAMES = {
    "frobenius": r"$\|J\|_F$",
    "top_singular_value": r"$\sigma_{\max}(J)$",
    "log_norm": r"$\lambda_{\max}(\mathrm{sym}\,A)$",
    "spectral_radius": r"$\rho(I+A)$",
}


def stability_of_model(rows: Rows) -> Figure:
    """Running Lyapunov exponents over time, one panel per way to act; at the left, Jacobians.

    Rows: panel (a key of NAMES, or how actions are taken), series ("mean", "quantile q" or
    "exponent j"), policy_steps, value, standard_error.
    """
    acted = [n for n in dict.fromkeys(row["panel"] for row in rows) if n not in NAMES]
    figure = new_figure(3.6 * (1 + len(acted)), 3.9)
    handles: dict[str, Artist] = {}
    with rc_context(RC):
        panels = figure.subplots(1, 1 + len(acted), squeeze=False)[0]
        _sizes(panels[0], rows, handles)
        for axes, name in zip(panels[1:], acted, strict=True):
            _exponents(axes, [row for row in rows if row["panel"] == name], handles)
            axes.set_title(f"imagination, {name}")
            axes.sharey(panels[1])
        panels[1].set_ylabel("finite-time exponent (1/policy_step)")
        legend_below(figure, handles, columns=3)
    return figure


def _sizes(axes: Axes, rows: Rows, handles: dict[str, Artist]) -> None:
    for place, name in enumerate(NAMES):
        own = {row["series"]: row for row in rows if row["panel"] == name}
        low, high = (own[f"quantile {level}"]["value"] for level in ("0.1", "0.9"))
        text = "10 to 90 % of states"
        handles[text] = axes.plot([place, place], [low, high], color=COLOURS[5], lw=5, alpha=0.6)[0]
        mean = own["mean"]
        handles["mean over states, 95 % interval over episodes"] = axes.errorbar(
            place, mean["value"], yerr=BAND * mean["standard_error"], color=BLACK, marker="o", ms=4
        ).lines[0]
    zero_line(axes)
    axes.set_xticks(range(len(NAMES)), list(NAMES.values()))
    axes.set_title("Jacobian of a step of the prior")


def _exponents(axes: Axes, rows: Rows, handles: dict[str, Artist]) -> None:
    for number, series in enumerate(dict.fromkeys(row["series"] for row in rows)):
        own = [row for row in rows if row["series"] == series]
        times = [row["policy_steps"] for row in own]
        values = [row["value"] for row in own]
        half = [BAND * row["standard_error"] for row in own]
        colour, dash = COLOURS[number % 6], DASHES[number % len(DASHES)]
        (line,) = axes.plot(times, values, color=colour, ls=dash)
        low, high = zip(*((v - h, v + h) for v, h in zip(values, half, strict=True)), strict=True)
        axes.fill_between(times, low, high, color=colour, alpha=0.25, lw=0)
        handles[f"{series}, 95 % band over episodes"] = line
    zero_line(axes)
    axes.set_xlabel("counted policy_steps")

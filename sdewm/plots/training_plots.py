"""Figures of training: rows (dicts) in, what is drawn out."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes

from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows, series_of
from sdewm.plots.style import COLOURS, DASHES, MARKERS, Entries, Look, line

THOUSAND = 1e-3
PUBLISHED = (Look("#444444", DASHES[3], "", 1.6), Look("#999999", DASHES[5], "", 1.6))
SEED = "one seed (thin, colour of its curve)"


def learning_curves(rows: Rows) -> Drawing:
    """Return against env_frames, one panel per task: own curves in colour over published in grey.

    A curve is the mean over seeds with a band of one standard deviation on each side; single seeds
    of own curves are thin lines. Panels end where the last own curve does.

    Rows: panel (its title), series (text of the legend, with the protocol), kind ("published",
    "own", or "seed" for one seed of an own series), seed (of a "seed" row), seeds (their number),
    env_frames, mean, and deviation (None where there is one seed).
    """
    looks = _looks(rows)
    panels = []
    for name in dict.fromkeys(row["panel"] for row in rows):
        own = [row for row in rows if row["panel"] == name]
        counts = {row["series"]: row["seeds"] for row in own}
        seeds = "; ".join(
            f"{text.partition(':')[0]} {counts[text]}" for text in looks if text in counts
        )
        panels.append(
            Panel(task_title(name), partial(_panel, rows=own, looks=looks), f"Seeds: {seeds}.")
        )
    note = (
        "Returns of evaluations and of training episodes are different quantities; the legend says "
        "which each curve shows. Lines with markers are evaluations at fixed initial states. "
        "Bands: ± one standard deviation over seeds."
    )
    return Drawing(panels, note, width=2.3 if len(panels) > 2 else 3.3, height=1.9)


def task_title(panel: str) -> str:
    """Environment and observations in words.

    >>> task_title("cartpole_swingup, proprio")
    'Cartpole swingup, state observations'
    """
    env, _, obs = panel.removeprefix("own:").replace("_", " ").partition(", ")
    kinds = {
        "proprio": "state observations",
        "positions": "observations without velocities",
        "pixels": "image observations",
    }
    return ", ".join(filter(None, [env[:1].upper() + env[1:], kinds.get(obs, obs)]))


def _looks(rows: Rows) -> dict[str, Look]:
    """Colour, dash and marker of each series, the same in all panels; own ones first."""
    looks: dict[str, Look] = {}
    for number, series in enumerate(dict.fromkeys(r["series"] for r in rows if r["kind"] == "own")):
        colour = COLOURS[number % (len(COLOURS) - 1)]  # the last is for areas
        marker = MARKERS[number % len(MARKERS)] if "evaluation" in series else ""
        looks[series] = Look(colour, DASHES[number % len(DASHES)], marker, 2.0)
    published = sorted({r["series"] for r in rows if r["kind"] == "published"}, reverse=True)
    for number, series in enumerate(published):  # the newest is the darkest
        looks[series] = PUBLISHED[number % len(PUBLISHED)]
    return looks


def _panel(axes: Axes, rows: Rows, looks: dict[str, Look]) -> Entries:
    entries: Entries = {}
    for kind in ("own", "published"):
        for series, data in series_of([row for row in rows if row["kind"] == kind]).items():
            x, mean = data["env_frames"] * THOUSAND, data["mean"]
            half = data["deviation"] if data["seeds"][0] > 1 else None
            entries |= line(axes, x, mean, looks[series], series, half, zorder=5)
    entries = {text: entries[text] for text in looks if text in entries}
    for series, seed in dict.fromkeys(
        (r["series"], r["seed"]) for r in rows if r["kind"] == "seed"
    ):
        own = [r for r in rows if (r["kind"], r["series"], r["seed"]) == ("seed", series, seed)]
        x = [row["env_frames"] * THOUSAND for row in own]
        look = Look(looks[series].colour, "-", "", 0.6)
        line(axes, x, [row["mean"] for row in own], look, f"{SEED}: {series}", zorder=4)
        entries[SEED] = line(axes, [], [], Look("#444444", "-", "", 0.6), SEED)[SEED]
    last = max(row["env_frames"] for row in rows if row["kind"] == "own")
    axes.set_xlim(0, last * THOUSAND)
    axes.set_ylim(bottom=min(0.0, *(row["mean"] for row in rows)))
    axes.set(xlabel="env_frames (thousands of simulator steps)",
             ylabel="return (sum of rewards of an episode)")  # fmt: skip
    return entries

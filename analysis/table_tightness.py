"""Tightness of the rollout bounds: bound / measured at several horizons, compared with the aims.

python analysis/fig_rollout_bounds.py     measures, bounds and plots
python analysis/table_tightness.py        reads the plotted data

A ratio above 1000 is called vacuous. The standard error of a ratio combines those of bound and
measurement. A verdict allows for 1.96 standard errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdewm.base.records import ROOT, manifest, read_table, write_table
from sdewm.plots.series import Rows
from sdewm.plots.tables import text_table
from sdewm.theory.verdict import VACUOUS

HORIZONS = (1, 5, 15, 50)
BAND = 1.96
QUANTITIES = {"sup": "E sup|D|", "mean": "E|D|"}
ALONG_PATHS = "linearised"  # needs sampled paths; the other certificates follow from constants
CONTRACTIVE, CONTRACTIVE_AIM = ("LinearWorldModel", "CubicFlow"), 3.0
NETWORK, NETWORK_HORIZON, NETWORK_AIM = "tanh network", 15, 10.0
PREDICTION_AIM = 0.05


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, compare, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "figures", help="figures folder, read and written"
    )
    out = parser.parse_args(arguments).out
    source = out / "data" / "fig_rollout_bounds.csv"
    if not source.exists():
        parser.error(f"no {source}: run analysis/fig_rollout_bounds.py first.")
    curves, facts = read_table(source)
    bounds = [row for row in curves if row["kind"] in ("certificate", "estimate", "recalled")]
    predictions = [row for row in bounds if row["series"] == "prediction"]
    bounds = [row for row in bounds if row["series"] != "prediction"]
    rows, verdicts = tightness(bounds), aims(bounds, predictions)
    settings = {name: facts[name] for name in ("system", "paths", "steps")}
    target = out / "data" / "table_tightness.csv"
    write_table(target, rows, manifest(seed=int(facts["seed"]), **settings))
    print(f"bound / measured, |e| = {bounds[0]['size']:g}\n")
    print(printed(rows))
    print("\nAims\n")
    print(text_table(["aim", "system", "measured", "verdict"], verdicts))
    print(f"\n{target}")


def tightness(bounds: Rows) -> list[dict[str, Any]]:
    """One row per system, grade, kind, horizon and quantity; aims apply to the best certificate."""
    rows = []
    for row in bounds:
        if row["step"] not in HORIZONS:
            continue
        for quantity, name in QUANTITIES.items():
            ratio, error = row[f"{quantity}_ratio"], row[f"{quantity}_ratio_error"]
            limit = aim_of(row) if quantity == "sup" and row is best(bounds, row) else None
            rows.append(
                {
                    "system": row["panel"],
                    "grade": row["series"],
                    "kind": row["kind"],
                    "horizon": row["step"],
                    "time": row["time"],
                    "quantity": name,
                    "ratio": ratio,
                    "standard_error": error,
                    "vacuous": "vacuous" if ratio > VACUOUS else "",
                    "aim": f"<= {limit:g}" if limit else "",
                    "verdict": verdict(ratio, error, limit) if limit else "",
                }
            )
    return rows


def aim_of(row: dict[str, Any]) -> float | None:
    """The aim for the best certificate of E sup|D| of this system and horizon, if there is one."""
    if row["panel"] in CONTRACTIVE:
        return CONTRACTIVE_AIM
    at_aim = row["panel"] == NETWORK and row["step"] == NETWORK_HORIZON
    return NETWORK_AIM if at_aim else None


def best(bounds: Rows, like: dict[str, Any], without: str = "") -> dict[str, Any] | None:
    """The tightest certificate of E sup|D| for the system and step of a row."""
    same = [
        row
        for row in bounds
        if all(row[key] == like[key] for key in ("panel", "step"))
        and row["kind"] == "certificate"
        and row["series"] != without
    ]
    return min(same, key=lambda row: row["sup_ratio"], default=None)


def aims(bounds: Rows, predictions: Rows) -> list[list[str]]:
    """Lines (aim, system, measured, verdict), for the worst of all steps with an aim."""
    lines = []
    for without, text in (("", "best certificate"), (ALONG_PATHS, "best from constants alone")):
        for system in dict.fromkeys(row["panel"] for row in bounds):
            own = [row for row in bounds if row["panel"] == system and aim_of(row)]
            tight = [best(own, row, without) for row in own]
            found = [row for row in tight if row is not None]
            if not found:
                continue
            worst = max(found, key=lambda row: (row["sup_ratio"], row["step"]))
            ratio, error, limit = worst["sup_ratio"], worst["sup_ratio_error"], aim_of(worst)
            assert limit is not None
            where = "every horizon" if system in CONTRACTIVE else f"horizon {NETWORK_HORIZON}"
            measured = f"{cell(ratio, error)} at {worst['step']} ({worst['series']})"
            aim = f"{text} <= {limit:g}, {where}"
            lines.append([aim, system, measured, verdict(ratio, error, limit)])
    for system in dict.fromkeys(row["panel"] for row in predictions):
        own = [row for row in predictions if row["panel"] == system]
        worst = max(own, key=lambda row: (abs(row["mean_ratio"] - 1.0), row["step"]))
        off, error = worst["mean_ratio"] - 1.0, worst["mean_ratio_error"]
        measured = f"{100 * off:+.2f} ± {100 * error:.2f} % at {worst['step']}"
        aim = f"E|y| within {100 * PREDICTION_AIM:g} % of E|D|, |e| = {worst['size']:.3g}"
        lines.append([aim, system, measured, verdict(abs(off), error, PREDICTION_AIM)])
    return lines


def verdict(value: float, error: float, limit: float) -> str:
    """Whether a value that should be at most `limit` is."""
    if value + BAND * error <= limit:
        return "met"
    return "MISSED" if value - BAND * error > limit else "undecided"


def cell(ratio: float, error: float) -> str:
    """A ratio with its standard error, or "vacuous" with its order of magnitude."""
    if ratio > VACUOUS:
        return f"vacuous ({ratio:.0e})"
    return f"{ratio:#.4g}" + (f" ± {error:.1g}" if error > 5e-5 * ratio else "")


def printed(rows: Rows) -> str:
    """One line per system, grade, kind and quantity, the horizons side by side."""
    horizons = sorted({row["horizon"] for row in rows})
    keys = ("quantity", "system", "grade", "kind")
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in sorted(rows, key=lambda row: row["quantity"] == QUANTITIES["mean"]):
        key = tuple(row[name] for name in keys)
        lines.setdefault(key, list(key)).append(cell(row["ratio"], row["standard_error"]))
    header = [*keys, *(f"at {horizon}" for horizon in horizons)]
    return text_table(header, list(lines.values()))


if __name__ == "__main__":
    main()

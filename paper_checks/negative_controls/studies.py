"""Negative control of the verdicts of studies: results that nobody has measured."""

from __future__ import annotations

from dataclasses import replace

from sdewm.study.committed import Results

GAIN = 10.0  # of a logarithm, above every effect in the studies


def invented_gain(results: Results) -> Results:
    """Every end point of the arms that are compared is divided by exp(10) (C1 to C5, C7)."""
    study = results.study
    unchanged = {name for one in study.controls for name in (one.arm, one.baseline)}
    unchanged |= {one.minus_arm for one in study.comparisons}
    arms = {one.arm for one in study.comparisons} - unchanged
    rows = [
        row | {"value": repr(float(row["value"]) - GAIN)} if row["arm"] in arms else row
        for row in results.rows
    ]
    return replace(results, rows=rows)

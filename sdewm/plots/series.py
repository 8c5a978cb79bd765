"""Rows of a table as the series of a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sdewm.base.stats import half_width

Rows = Sequence[dict[str, Any]]
Facts = Mapping[str, Any]  # of a table: how its rows were made


def series_of(rows: Rows) -> dict[str, dict[str, np.ndarray]]:
    """Rows by their key "series", each column as an array, in order of appearance."""
    names = dict.fromkeys(row["series"] for row in rows)
    return {
        name: {
            key: np.array([row[key] for row in rows if row["series"] == name])
            for key in rows[0]
            if key != "series"
        }
        for name in names
    }


def over_episodes(row: dict[str, Any], error: str) -> float:
    """Half of the 95 % interval of a mean over episodes, from the row's standard error.

    The column "episodes" gives their number. A table written before it existed has none; its
    intervals then use the normal quantile and are too narrow for few episodes.
    """
    units = row.get("episodes")
    return half_width(np.nan if row[error] is None else row[error], units and int(units))

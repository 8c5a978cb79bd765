"""The rows of a study: where they are, and which are missing."""

from __future__ import annotations

import csv
import json
import math
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdewm.study.declaration import Cell, Study

COLUMNS = (
    *("study", "digest", "arm", "seed", "updates", "end_point", "value", "standard_error"),
    *("episodes", "commit", "command"),  # episodes: digest of those of training and of test
)
KEY = ("arm", "seed", "updates", "end_point")
END = "end"  # in place of the updates of agents, which are measured at their end
Row = dict[str, str]


@dataclass(frozen=True)
class Place:
    """Where a study keeps its runs and its rows."""

    folder: Path
    digest: str  # of the declaration: runs of another one are never taken for its own
    file: Path  # of the declaration

    @property
    def table(self) -> Path:
        """The CSV file of all rows."""
        return self.folder / "rows.csv"

    def run(self, cell: Cell) -> Path:
        """The run directory of a cell."""
        return self.folder / self.digest / cell.name

    def rows(self, cell: Cell) -> Path:
        """What was measured of a cell."""
        return self.folder / self.digest / f"{cell.name}.json"

    def cost(self, cell: Cell) -> Path:
        """Seconds and memory that a cell took."""
        return self.folder / self.digest / f"{cell.name}.cost.json"

    def log(self, cell: Cell) -> Path:
        """What the training of a cell printed."""
        return self.folder / self.digest / f"{cell.name}.log"


def read_rows(study: Study, place: Place) -> list[Row]:
    """The rows of this declaration; damaged lines, or one that was cut off, are left out and told.

    Of a cell that was measured twice the last rows count; other values than before are told.

    Raises:
        ValueError: the file is no table of a study, or has rows that the study does not declare.
    """
    if not place.table.exists():
        return []
    text = place.table.read_bytes().decode("utf-8", "replace")
    head, *lines = text[: text.rfind("\n") + 1].splitlines() or [""]
    if head != ",".join(COLUMNS):
        raise ValueError(
            f"{place.table} does not begin with the columns of a study; move it away, and the "
            "trained cells are measured again."
        )
    found: dict[tuple[str, ...], Row] = {}
    for number, line in enumerate(lines, start=2):
        row = _row(line)
        if row is None:
            sys.stderr.write(f"{place.table}: line {number} is damaged and left out.\n")
        elif row["digest"] == study.digest:
            # A cell whose rows were cut off is measured again.
            key = tuple(row[name] for name in KEY)
            if key in found and found[key]["value"] != row["value"]:
                sys.stderr.write(
                    f"{place.table}: line {number} has {row['value']} where an earlier line has "
                    f"{found[key]['value']} for {', '.join(key)}; the last one counts.\n"
                )
            found[key] = row
    rows = [*found.values()]
    require_declared(study, rows, place.table)
    return rows


def require_declared(study: Study, rows: Iterable[Mapping[str, str]], table: Path) -> None:
    """Refuse rows of arms, seeds, numbers of updates or end points that a study has not declared.

    Raises:
        ValueError: the first such row.
    """
    allowed = {
        "arm": {*study.arms},
        "seed": {*map(str, study.seeds)},
        "updates": {*map(str, study.measured_at or (END,))},
        "end_point": {*study.end_points},
    }
    for row in rows:
        for name in KEY:
            if row[name] not in allowed[name]:
                raise ValueError(
                    f"{table} has a row of {name}={row[name]!r}, which the study {study.name!r} "
                    f"does not declare; expected one of {', '.join(sorted(allowed[name]))}."
                )


def _row(line: str) -> Row | None:
    """One line of the table, or None if it is damaged."""
    cells = next(csv.reader([line]), [])
    row = dict(zip(COLUMNS, cells, strict=False))
    try:
        whole = len(cells) == len(COLUMNS) and math.isfinite(float(row["value"]))
        return row if whole and int(row["seed"]) >= 0 else None
    except ValueError:
        return None


def missing_cells(study: Study, place: Place) -> list[Cell]:
    """The cells without all their end points."""
    found = {
        (row["arm"], row["seed"], row["updates"], row["end_point"])
        for row in read_rows(study, place)
    }
    return [
        cell
        for cell in study.cells
        if any(
            (cell.arm, str(cell.seed), str(updates), name) not in found
            for updates in study.measured_at or (END,)
            for name in study.end_points
        )
    ]


def costs(place: Place, cells: Sequence[Cell]) -> dict[Cell, dict[str, float]]:
    """Of each cell that was trained and measured here: seconds of one worker, peak `memory_mb`."""
    files = {cell: place.cost(cell) for cell in cells}
    return {
        cell: json.loads(file.read_text("utf-8")) for cell, file in files.items() if file.exists()
    }


def expected_cost(place: Place, cells: Sequence[Cell], missing: Sequence[Cell]) -> str:
    """Hours and memory of the missing cells, from what others took, of the same arm if any."""
    known = costs(place, cells)
    if not known:
        return "no cell has been trained and measured here, so that hours and memory are not known"
    hours = 0.0
    for cell in missing:
        alike = [one for other, one in known.items() if other.arm == cell.arm]
        # The median: a cell may have been stopped for a while.
        hours += statistics.median(one["seconds"] for one in alike or known.values()) / 3600
    memory = max(one["memory_mb"] for one in known.values())
    return (
        f"about {hours:.3g} hours of one worker and {memory:.0f} MB each, as the {len(known)} "
        "cells took that were trained and measured here"
    )


def read_cell(place: Place, cell: Cell) -> list[Row]:
    """The rows that the process of a cell has left."""
    return json.loads(place.rows(cell).read_text("utf-8"))


def append_rows(table: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Append rows in one write and flush them; a line that was cut off before is removed."""
    table.parent.mkdir(parents=True, exist_ok=True)
    text = table.read_text("utf-8") if table.exists() else ""
    if text and not text.endswith("\n"):
        table.write_text(text[: text.rfind("\n") + 1], "utf-8")
    new = not table.exists() or not text
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())


def arms_of(
    rows: Sequence[dict[str, str]], arm: str, end_point: str, updates: int
) -> dict[int, float]:
    """Values of an arm by seed, after a number of updates; 0: those of agents, at their end."""
    return {
        int(row["seed"]): float(row["value"])
        for row in rows
        if (row["arm"], row["end_point"], row["updates"]) == (arm, end_point, str(updates or END))
    }


CELL = ("arm", "seed", "updates", "episodes", "commit")


def one_line_a_cell(rows: Sequence[Row]) -> list[dict[str, str | float | None]]:
    """The values of each cell at each number of updates in one row, a column for each end point.

    >>> facts = {"arm": "a", "seed": "0", "updates": "8", "episodes": "d9", "commit": "0123456"}
    >>> [line] = one_line_a_cell([{**facts, "end_point": "jacobian", "value": "1.5"}])
    >>> line == {**facts, "jacobian": 1.5}
    True
    """
    found: dict[tuple[str, ...], dict[str, str | float | None]] = {}
    for row in rows:
        key = tuple(row[name] for name in CELL)
        cell = found.setdefault(key, {name: row[name] for name in CELL})
        cell[row["end_point"]] = float(row["value"])
    return [*found.values()]


def from_lines(lines: Sequence[Mapping[str, object]]) -> list[Row]:
    """The inverse of `one_line_a_cell`, without what it leaves out; unknown facts are empty."""
    return [
        {**{key: _text(line.get(key)) for key in CELL}, "end_point": name, "value": repr(value)}
        for line in lines
        for name, value in line.items()
        if name not in CELL and value is not None
    ]


def _text(fact: object) -> str:
    return "" if fact is None else str(fact)

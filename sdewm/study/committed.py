"""The committed rows of the studies in analysis/studies: figures/data/study_NAME.csv.

One line for each cell and number of updates, with a column for each end point.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sdewm.base.records import ROOT, manifest, read_table, write_table
from sdewm.study.declaration import Cell, Study
from sdewm.study.episodes import require_same_episodes
from sdewm.study.rows import (
    KEY,
    Place,
    Row,
    append_rows,
    costs,
    from_lines,
    one_line_a_cell,
    read_rows,
    require_declared,
)
from sdewm.study.study_file import read_study

STUDIES, DATA = ROOT / "analysis" / "studies", ROOT / "figures" / "data"


@dataclass(frozen=True)
class Results:
    """A declared study with its rows, which may be of some of the declared seeds only."""

    study: Study
    rows: list[Row]

    @property
    def seeds(self) -> int:
        """Number of seeds of which all arms are there."""
        found = {(row["arm"], row["seed"]) for row in self.rows}
        return sum(
            all((arm, str(seed)) in found for arm in self.study.arms) for seed in self.study.seeds
        )


def declaration(name: str) -> Path:
    """The file that declares a study of this repository."""
    return STUDIES / f"{name}.toml"


def table_of(name: str, data: Path = DATA) -> Path:
    """The committed rows of a study."""
    return data / f"study_{name}.csv"


def read_results(name: str, data: Path = DATA) -> Results:
    """The rows in `data` of a study of this repository.

    Raises:
        ValueError: there are none, or they belong to another declaration or to different
            episodes, or one of them is there twice or is not declared.
    """
    table, study = table_of(name, data), read_study(declaration(name))
    if not table.is_file():
        raise ValueError(f"{table} is missing: the study {name!r} has not run yet.")
    lines, facts = read_table(table)
    if facts["digest"] != study.digest:
        raise ValueError(
            f"{table} holds rows of the declaration {facts['digest']}; {declaration(name).name} is "
            f"{study.digest}."
        )
    rows = from_lines(lines)
    require_declared(study, rows, table)
    require_same_episodes(rows, table)
    keys = Counter(tuple(row[name] for name in KEY) for row in rows)
    if twice := [key for key, count in keys.items() if count > 1]:
        raise ValueError(f"{table} holds two values of {', '.join(twice[0])}.")
    return Results(study, rows)


def write_results(name: str, folder: Path, data: Path = DATA) -> Path:
    """Copy the rows of a study from the folder where it runs to `data`.

    Raises:
        ValueError: there are none of this declaration.
    """
    study = read_study(declaration(name))
    place = Place(folder, study.digest, declaration(name))
    found = read_rows(study, place)
    if not found:
        raise ValueError(f"{place.table} has no rows of {place.file.name} ({study.digest}).")
    facts = manifest(seed=0, study=study.name, digest=study.digest, length=study.length)
    command = f"sdewm study analysis/studies/{name}.toml"
    facts |= {"command": command, "seed": str(study.seeds)}
    known = costs(place, study.cells).values()
    if known:
        middle = statistics.median(one["seconds"] for one in known)
        facts |= {
            "minutes_a_cell": f"{middle / 60:.1f}",
            "memory_mb_a_cell": f"{max(one['memory_mb'] for one in known):.0f}",
            "cells_timed": str(len(known)),
        }
    write_table(table_of(name, data), one_line_a_cell(found), facts)
    return table_of(name, data)


def restore_results(name: str, folder: Path, data: Path = DATA) -> Path:
    """Append the rows in `data` that are not in the folder of a study to it.

    The study then trains only the cells that nobody has trained yet. Standard errors over test
    episodes are not committed and stay empty.

    Raises:
        ValueError: there are no rows of this declaration in `data`.
    """
    results = read_results(name, data)
    place = Place(folder, results.study.digest, declaration(name))
    there = {tuple(row[key] for key in KEY) for row in read_rows(results.study, place)}
    facts = {"study": name, "digest": results.study.digest, "standard_error": ""}
    append_rows(
        place.table,
        (
            facts | row | {"command": _command(results.study, place, row)}
            for row in results.rows
            if tuple(row[key] for key in KEY) not in there
        ),
    )
    return place.table


def _command(study: Study, place: Place, row: Row) -> str:
    cell = Cell(row["arm"], int(row["seed"]))
    return " ".join(["sdewm", *study.words(cell, place.run(cell))])

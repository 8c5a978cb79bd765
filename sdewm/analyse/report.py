"""`sdewm analyse`: every analysis of a run, one after the other, each kept as it is finished."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from sdewm.analyse import divergence, expansion, growth, open_loop, representation_error
from sdewm.analyse.subject import Part, Subject
from sdewm.base.records import Row, Value, read_table, write_table
from sdewm.plots.panels import save_figure

PARTS: dict[str, Part] = {
    "error": representation_error.PART,
    "expansion": expansion.PART,
    "divergence": divergence.PART,
    "open_loop": open_loop.PART,
    "growth": growth.PART,
}
NOT_DECIDING = ("command", "commit", "python", "matplotlib")  # facts that change no number


def analyse(
    subject: Subject, out: Path, settings: Mapping[str, object], only: Iterable[str], seed: int
) -> list[Path]:
    """Tables, figures and summaries of the analyses; what is there already is not made again.

    Args:
        subject: the run with its episodes.
        out: folder of the figures; tables are in its folder data.
        settings: of each analysis, by its name in PARTS.
        only: names of the analyses wanted.
        seed: root seed of each.

    Returns:
        The files, in the order in which they were made.

    Raises:
        ValueError: settings that the episodes or the model do not allow, before the analysis that
            has them begins; those before it are kept.
    """
    wanted, paths = [*only], []
    for number, name in enumerate(wanted, start=1):
        part = PARTS[name]
        table = out / "data" / f"{part.stem}.csv"
        facts = subject.facts(settings[name], seed)
        found = kept_rows(table, facts)
        state = "kept" if found else "measured"
        if not found:
            sys.stderr.write(f"[{number}/{len(wanted)}] {name}: {asdict(settings[name])}\n")  # type: ignore[call-overload]
            write_table(table, part.rows(subject, settings[name], seed), facts)
            found = read_table(table)[0]
        paths += [*save_figure(part.figure(found), out, part.stem), table]
        print(f"\n{name} ({state}; {table})\n{part.summary(found)}", flush=True)
    return paths


def kept_rows(table: Path, facts: Mapping[str, Value]) -> list[Row]:
    """The rows of a finished table that was made with the same facts; none if there is no such."""
    if not table.is_file():
        return []
    rows, old = read_table(table)
    same = all(
        old.get(name) == str(value) for name, value in facts.items() if name not in NOT_DECIDING
    )
    return [*rows] if same else []

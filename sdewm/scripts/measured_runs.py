"""Rows measured on several trained runs: kept in a log, so that an interrupted command resumes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sdewm.base.progress import Progress
from sdewm.base.records import Row, RowLog, Value, read_log

WHOLE = "of_rows"  # of each row in the log: how many its run has


def measured_runs(
    runs: Sequence[tuple[str, Callable[[], list[Row]]]],
    log: Path,
    facts: Mapping[str, Value],
    deciding: Sequence[str],
) -> list[Row]:
    """The rows of all runs, in their order.

    Args:
        runs: a key for each run, which tells it from others in all that its rows depend on, and a
            function that measures its rows.
        log: file of the rows so far.
        facts: manifest of the log.
        deciding: names of facts; if one differs in the log, nothing of it is kept.
    """
    kept, old = read_log(log)
    if any(old.get(name) != facts[name] for name in deciding):
        kept = []
    found: dict[str, list[Row]] = {}
    for row in kept:
        found.setdefault(str(row["key"]), []).append(row)
    found = {key: rows for key, rows in found.items() if len(rows) == rows[0][WHOLE]}
    book = RowLog(log, dict(facts), [row for rows in found.values() for row in rows])
    progress = Progress("runs", len(runs))
    try:
        for done, (key, measure) in enumerate(runs):
            progress.update(done)
            if key in found:
                continue
            print(key, file=sys.stderr, flush=True)
            rows = measure()
            found[key] = [{**row, "key": key, WHOLE: len(rows)} for row in rows]
            for row in found[key]:
                book.append(row)
    finally:
        progress.close()
        book.close()
    own = [row for key, _ in runs for row in found[key]]
    return [{name: row[name] for name in row if name not in ("key", WHOLE)} for row in own]

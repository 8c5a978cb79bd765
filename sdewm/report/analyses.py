"""`sdewm analyse`: every analysis of a run, in order, each cached once it is finished."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from sdewm.base.records import Row, Value, read_table, write_table
from sdewm.plots.panels import save_figure
from sdewm.report import divergence, expansion, open_loop, representation_error, stability
from sdewm.report.analysis import Analysis
from sdewm.report.trained_run import TrainedRun

ANALYSES: dict[str, Analysis] = {
    "error": representation_error.ANALYSIS,
    "expansion": expansion.ANALYSIS,
    "divergence": divergence.ANALYSIS,
    "open_loop": open_loop.ANALYSIS,
    "stability": stability.ANALYSIS,
}
NOT_DECIDING = ("command", "commit", "python", "matplotlib")  # facts that affect no number


def analyse(
    trained: TrainedRun, out: Path, settings: Mapping[str, object], only: Iterable[str], seed: int
) -> list[Path]:
    """Write tables and figures of the analyses and print their summaries; cached tables are reused.

    Args:
        trained: the run with its episodes.
        out: folder of the figures; tables are written to its subfolder data.
        settings: settings of each analysis, by its name in ANALYSES.
        only: names of the analyses to run.
        seed: root seed of each analysis.

    Returns:
        The paths of the files, in the order in which they were written.

    Raises:
        ValueError: settings that the episodes or the model do not allow, before the analysis with
            these settings begins. The results of earlier analyses remain.
    """
    wanted, paths = [*only], []
    for number, name in enumerate(wanted, start=1):
        analysis = ANALYSES[name]
        table = out / "data" / f"{analysis.stem}.csv"
        facts = trained.facts(settings[name], seed)
        found = cached_rows(table, facts)
        state = "cached" if found else "measured"
        if not found:
            sys.stderr.write(f"[{number}/{len(wanted)}] {name}: {asdict(settings[name])}\n")  # type: ignore[call-overload]
            write_table(table, analysis.rows(trained, settings[name], seed), facts)
            found = read_table(table)[0]
        paths += [*save_figure(analysis.figure(found), out, analysis.stem), table]
        print(f"\n{name} ({state}; {table})\n{analysis.summary(found)}", flush=True)
    return paths


def cached_rows(table: Path, facts: Mapping[str, Value]) -> list[Row]:
    """The rows of a finished table with the same facts; an empty list if there is none."""
    if not table.is_file():
        return []
    rows, old = read_table(table)
    same = all(
        old.get(name) == str(value) for name, value in facts.items() if name not in NOT_DECIDING
    )
    return [*rows] if same else []

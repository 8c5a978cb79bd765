"""Tables of rows that are measured on several trained runs.

The rows are kept in a log as they come, so that an interrupted command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.base.records import (
    ROOT,
    Row,
    RowLog,
    Value,
    code_digest,
    manifest,
    read_log,
    read_table,
    write_table,
)
from sdewm.data.dataset import read_dataset
from sdewm.plots.panels import Drawing, check_drawing, save_figure
from sdewm.scripts.theory_figure import add_drawing_options
from sdewm.train.config import Config
from sdewm.train.run_directory import flat_config

# Settings that decide how a run is made, kept or watched, but not what is learnt.
AROUND = (
    *("seed", "device", "compile", "cuda_graph", "deterministic", "workers", "pictures"),
    *("checkpoint_every_seconds", "keep_every_updates", "log_every_updates"),
)
WHOLE = "of_rows"  # of each row in the log: how many its run has
Runs = Sequence[tuple[str, Callable[[], list[Row]]]]
Facts = dict[str, Any]


@dataclass(frozen=True)
class RunsTable:
    """A table that is measured on runs, or read where no runs are given.

    Attributes:
        stem: name of the table and of the log.
        source: what the runs are measured with, "data" or "policy".
        source_help: what that is.
        runs: for `measured_runs`, and the facts that decide over their rows.
        episodes: default and fewest number of episodes, where they can be chosen.
    """

    stem: str
    source: str
    source_help: str
    runs: Callable[[argparse.Namespace], tuple[Runs, Facts]]
    episodes: tuple[int, int] | None = None

    def parser(self, description: str | None, out: Path) -> argparse.ArgumentParser:
        """The command line, with the default folder of its files."""
        parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("runs", type=Path, nargs="*", help="directories of runs")
        parser.add_argument(f"--{self.source}", type=Path, help=self.source_help)
        if self.episodes:
            text = f"episodes ({self.episodes[0]})"
            parser.add_argument("--episodes", type=int, default=self.episodes[0], help=text)
        parser.add_argument("--seed", type=int, default=0, help="root seed (0)")
        parser.add_argument("--out", type=Path, default=out, help="folder of the files")
        log = ROOT / "runs" / f"{self.stem}.jsonl"
        parser.add_argument("--log", type=Path, default=log, help="rows as they are finished")
        return parser

    def rows(self, given: argparse.Namespace, table: Path) -> tuple[list[dict[str, Any]], Facts]:
        """Measure and write the table if runs are given; then read it.

        Raises:
            ValueError: runs or what they are measured with are missing, a number is too small, or
                no runs are given and there is no table yet, or options that would change it.
        """
        source = getattr(given, self.source)
        if given.runs or source:
            if not given.runs or source is None:
                raise ValueError(f"expected RUNS and --{self.source} DIRECTORY.")
            write_table(table, *self.measured(given))
        elif not table.is_file():
            raise ValueError(
                f"expected RUNS and --{self.source} DIRECTORY ({table} is used without both)."
            )
        elif given.seed or (self.episodes and given.episodes != self.episodes[0]):
            raise ValueError(
                f"without RUNS and --{self.source} {table} is taken as it is: leave out --seed and "
                "--episodes, which would not change it."
            )
        return read_table(table)

    def measured(self, given: argparse.Namespace) -> tuple[list[Row], Facts]:
        """The rows of all runs; rows in the log of the same facts and code are reused."""
        check_count("--seed", given.seed, minimum=0)
        facts: Facts = {"seed": given.seed}
        if self.episodes:
            facts["episodes"] = check_count("--episodes", given.episodes, minimum=self.episodes[1])
        runs, more = self.runs(given)
        facts |= more | {"code": code_digest()}
        whole = manifest(**facts)
        return measured_runs(runs, given.log, whole, [*facts]), whole


class Trained(Protocol):
    """A run that was loaded, as `SavedAgent` or `TrainedRun`."""

    @property
    def config(self) -> Config:
        """Its configuration."""
        ...

    @property
    def counters(self) -> dict[str, int]:
        """Counters of its checkpoint."""
        ...


def require_alike(runs: Mapping[str, Trained], apart: Sequence[str]) -> None:
    """Refuse runs that differ in something by which a table does not tell them apart.

    Rows of such runs would stand under one name, as seeds of one arm.

    Args:
        runs: by name.
        apart: full names of the settings that the table tells apart; the seed is another.

    Raises:
        ValueError: the first setting, or the number of updates made, in which a run differs from
            the first one; or two runs of one seed that differ in nothing.
    """
    first, seen = next(iter(runs)), dict[tuple[Value, ...], str]()
    for run, one in runs.items():
        expected, found = (_facts_of(each, apart) for each in (runs[first], one))
        for name, value in found.items():
            if value != expected.get(name):
                raise ValueError(
                    f"run={run!r} has {name}={value!r}, {first!r} has {expected.get(name)!r}: "
                    f"expected runs that differ in {', '.join(apart)} and the seed only."
                )
        settings = flat_config(one.config)
        arm = tuple(settings[name] for name in ("seed", *apart))
        if arm in seen:
            raise ValueError(
                f"run={run!r} and {seen[arm]!r} have one seed, {arm[0]}, and the same "
                f"{', '.join(apart)}: expected each seed of an arm once."
            )
        seen[arm] = run


def _facts_of(run: Trained, apart: Sequence[str]) -> dict[str, Value]:
    settings = flat_config(run.config)
    told = {name: value for name, value in settings.items() if name not in (*AROUND, *apart)}
    return told | {"updates made": run.counters["updates"]}


def data_facts(data: Path) -> Facts:
    """Name and digest of recorded episodes: rows of others of the same name are not theirs."""
    return {"data": data.name, "data_digest": read_dataset(data).digest[:16]}


def draw_runs(
    table: RunsTable,
    description: str | None,
    arguments: Sequence[str] | None,
    figure: Callable[[list[dict[str, Any]]], Drawing],
) -> tuple[list[dict[str, Any]], Facts]:
    """Write the table below figures/data, draw figures/STEM and print where both are.

    Returns:
        The rows and the facts of the table.
    """
    parser = table.parser(description, ROOT / "figures")
    add_drawing_options(parser)
    given = parser.parse_args(arguments)
    file = given.out / "data" / f"{table.stem}.csv"
    try:
        check_drawing(given.width, given.panel)
        rows, facts = table.rows(given, file)
        paths = save_figure(figure(rows), given.out, table.stem, given.width, given.panel)
    except (ValueError, OSError) as problem:
        parser.error(str(problem))
    for path in (*paths, file):
        print(path)
    return rows, facts


def measured_runs(
    runs: Runs,
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

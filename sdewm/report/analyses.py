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
from sdewm.report.page import Figure, Page, Section, embedded, plain_table, write_page
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
        The paths of the files, in the order in which they were written; the last one is a page of
        all of these analyses.

    Raises:
        ValueError: settings that the episodes or the model do not allow, before the first analysis
            begins.
    """
    wanted, paths = [*only], []
    sections: list[Section] = []
    for name in wanted:
        ANALYSES[name].check(trained, settings[name], seed)
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
        text = analysis.summary(found)
        print(f"\n{name} ({state}; {table})\n{text}", flush=True)
        sections.append(_section(name, analysis, out, text, read_table(table)[1]))
    page = out / "report.html"
    facts = trained.facts(settings[wanted[0]], seed) if wanted else {}
    write_page(page, _page(trained, sections, facts))
    return [*paths, page]


def _section(
    name: str, analysis: Analysis, out: Path, text: str, facts: Mapping[str, str]
) -> Section:
    """An analysis on the page of a run: its question, figure, summary and command."""
    figure = Figure(
        id=analysis.stem,
        image=embedded(out / f"{analysis.stem}.png"),
        title=name.replace("_", " ").capitalize(),
        text=analysis.question,
        limits="",
        command=facts["command"],
    )
    return Section(name, figure.title, (analysis.question,), figures=(figure,), code=(text,))


def _page(trained: TrainedRun, sections: list[Section], facts: Mapping[str, Value]) -> Page:
    names = ("run", "run_commit", "env", "updates", "weights", "noise", "data", "data_policy")
    names += ("seed", "commit", "python", "torch")
    rows = [(name, str(facts[name])) for name in names if name in facts]
    about = plain_table("facts", "What the numbers depend on.", ("fact", "value"), rows)
    lead = (
        f"The theorems on the world model of {trained.config.env}, after "
        f"{trained.counters['updates']} updates: one section an analysis.",
    )
    whole = (*sections, Section("environment", "Run and environment", tables=(about,)))
    return Page(f"Analysis of {trained.run.name}", lead, whole)


def cached_rows(table: Path, facts: Mapping[str, Value]) -> list[Row]:
    """The rows of a finished table with the same facts; an empty list if there is none."""
    if not table.is_file():
        return []
    rows, old = read_table(table)
    same = all(
        old.get(name) == str(value) for name, value in facts.items() if name not in NOT_DECIDING
    )
    return [*rows] if same else []

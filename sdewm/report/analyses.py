"""Every analysis of a world model, in order, each cached once it is finished."""

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
from sdewm.report.subject import Subject

ANALYSES: dict[str, Analysis] = {
    "error": representation_error.ANALYSIS,
    "expansion": expansion.ANALYSIS,
    "divergence": divergence.ANALYSIS,
    "open_loop": open_loop.ANALYSIS,
    "stability": stability.ANALYSIS,
}
NOT_DECIDING = ("command", "commit", "python", "matplotlib")  # facts that affect no number
SHOWN = (  # facts on the page
    *("run", "run_commit", "env", "updates", "model", "file", "weights", "outputs", "noise"),
    *("data", "data_policy", "data_digest", "seed", "commit", "python", "torch"),
)


def run_analyses(
    subject: Subject, out: Path, settings: Mapping[str, object], only: Iterable[str], seed: int
) -> list[Path]:
    """Write tables and figures of the analyses and print their summaries; cached tables are reused.

    Results that need a part that the model does not have are left out; the reason is printed, and
    stands on the page.

    Args:
        subject: the model with its episodes.
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
        _check(name, subject, settings[name], seed)
    for number, name in enumerate(wanted, start=1):
        analysis = ANALYSES[name]
        left_out = subject.left_out(analysis.needs)
        notes = [f"Left out: {result}, because {why}." for result, why in left_out.items()]
        if analysis.all_need_parts and len(left_out) == len(analysis.needs):
            print(f"\n{name} (left out)", *notes, sep="\n", flush=True)
            sections.append(Section(name, _title(name), (analysis.question, *notes)))
            continue
        table = out / "data" / f"{analysis.stem}.csv"
        facts = subject.facts(settings[name], seed)
        found = cached_rows(table, facts)
        state = "cached" if found else "measured"
        if not found:
            sys.stderr.write(f"[{number}/{len(wanted)}] {name}: {asdict(settings[name])}\n")  # type: ignore[call-overload]
            write_table(table, analysis.rows(subject, settings[name], seed), facts)
            found = read_table(table)[0]
        paths += [*save_figure(analysis.figure(found), out, analysis.stem), table]
        text = analysis.summary(found)
        print(f"\n{name} ({state}; {table})\n{text}", *notes, sep="\n", flush=True)
        sections.append(_section(name, analysis, out, text, notes, read_table(table)[1]))
    page = out / "report.html"
    facts = subject.facts(settings[wanted[0]], seed) if wanted else {}
    write_page(page, _page(subject, sections, facts))
    return [*paths, page]


def _check(name: str, subject: Subject, settings: object, seed: int) -> None:
    """Check the settings of an analysis against the episodes."""
    try:
        ANALYSES[name].check(subject, settings, seed)
    except ValueError as problem:
        given = ", ".join(f"{key}={value}" for key, value in asdict(settings).items())  # type: ignore[call-overload]
        way = f"Change its settings (typed: --{name}.*), or leave it out (only)."
        raise ValueError(f"{name} ({given}): {problem} {way}") from problem


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _section(
    name: str,
    analysis: Analysis,
    out: Path,
    text: str,
    notes: Iterable[str],
    facts: Mapping[str, str],
) -> Section:
    """An analysis on the page: its question, what is left out, figure, summary and command."""
    figure = Figure(
        id=analysis.stem,
        image=embedded(out / f"{analysis.stem}.png"),
        title=_title(name),
        text=analysis.question,
        limits="",
        command=facts["command"],
    )
    texts = (analysis.question, *notes)
    return Section(name, figure.title, texts, figures=(figure,), code=(text,))


def _page(subject: Subject, sections: list[Section], facts: Mapping[str, Value]) -> Page:
    rows = [(name, str(facts[name])) for name in SHOWN if name in facts]
    about = plain_table("facts", "What the numbers depend on.", ("fact", "value"), rows)
    lead = (f"The theorems on {subject.description}: one section an analysis.",)
    whole = (*sections, Section("environment", "Model and environment", tables=(about,)))
    return Page(subject.name, lead, whole)


def cached_rows(table: Path, facts: Mapping[str, Value]) -> list[Row]:
    """The rows of a finished table with the same facts; an empty list if there is none."""
    if not table.is_file():
        return []
    rows, old = read_table(table)
    same = all(
        old.get(name) == str(value) for name, value in facts.items() if name not in NOT_DECIDING
    )
    return [*rows] if same else []

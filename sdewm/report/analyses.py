"""Every analysis of a world model, in order, each cached once it is finished."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from sdewm.base.records import Row, Value, read_table, require_writable, write_table
from sdewm.plots.panels import save_figure
from sdewm.report import divergence, expansion, open_loop, representation_error, stability
from sdewm.report.analysis import Analysis
from sdewm.report.page import Figure, Page, Section, embedded, plain_table, write_page
from sdewm.report.subject import Subject, TooFewEpisodes

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
        The paths of the files of these analyses, in the order in which they were written; the last
        one is a page of all analyses that are finished for this model, these episodes, settings and
        seed, by this call or earlier ones.

    Raises:
        ValueError: settings that the episodes or the model do not allow, before the first analysis
            begins.
        OSError: the folder cannot be made or written to; also before it.
    """
    wanted, paths = [*only], []
    sections: dict[str, Section] = {}
    check_analyses(subject, settings, wanted, seed)
    require_writable(out, out / "data")
    for number, name in enumerate(wanted, start=1):
        analysis = ANALYSES[name]
        left_out = subject.left_out(analysis.needs)
        notes = _notes(subject, analysis, settings[name])
        if analysis.all_need_parts and len(left_out) == len(analysis.needs):
            print(f"\n{name} (left out)", *notes, sep="\n", flush=True)
            sections[name] = Section(name, _title(name), (analysis.question, *notes))
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
        sections[name] = _section(name, analysis, out, text, notes, read_table(table)[1])
    page = out / "report.html"
    sections |= _finished(subject, out, settings, {*ANALYSES} - {*wanted}, seed)
    facts = subject.facts(settings[wanted[0]], seed) if wanted else {}
    ordered = [sections[name] for name in ANALYSES if name in sections]
    write_page(page, _page(subject, ordered, facts))
    return [*paths, page]


def _finished(
    subject: Subject, out: Path, settings: Mapping[str, object], names: Iterable[str], seed: int
) -> dict[str, Section]:
    """The sections of analyses that were finished by earlier calls, by their names.

    A table of another model, other episodes, settings or code is not shown; the section says so.
    """
    found: dict[str, Section] = {}
    for name in names:
        analysis = ANALYSES[name]
        table = out / "data" / f"{analysis.stem}.csv"
        if not table.is_file():
            continue
        facts = subject.facts(settings[name], seed)
        if rows := cached_rows(table, facts):
            save_figure(analysis.figure(rows), out, analysis.stem)
            notes, text = _notes(subject, analysis, settings[name]), analysis.summary(rows)
            found[name] = _section(name, analysis, out, text, notes, read_table(table)[1])
        else:
            others = ", ".join(_differing(read_table(table)[1], facts)) or "no rows"
            why = f"Not shown: {table.name} is there, but not of this model and call ({others})."
            found[name] = Section(name, _title(name), (analysis.question, why))
    return found


def check_analyses(
    subject: Subject, settings: Mapping[str, object], only: Iterable[str], seed: int
) -> None:
    """Check the settings of analyses against the episodes, before any work.

    Raises:
        ValueError: see `run_analyses`.
    """
    for name in only:
        _check(name, subject, settings[name], seed)


def _notes(subject: Subject, analysis: Analysis, settings: object) -> list[str]:
    """What is to be said of an analysis: results and episodes that it leaves out, and a remark."""
    left_out = subject.left_out(analysis.needs)
    notes = [f"Left out: {result}, because {why}." for result, why in left_out.items()]
    short = subject.too_short(settings.window)  # type: ignore[attr-defined]
    return [*notes, *filter(None, [short, subject.remark])]


def _check(name: str, subject: Subject, settings: object, seed: int) -> None:
    """Check the settings of an analysis against the episodes."""
    try:
        ANALYSES[name].check(subject, settings, seed)
    except ValueError as problem:
        given = ", ".join(f"{key}={value}" for key, value in asdict(settings).items())  # type: ignore[call-overload]
        if isinstance(problem, TooFewEpisodes):
            way = subject.source.more(problem.needed)
        else:
            way = f"Change its settings (typed: --{name.replace('_', '-')}.*)"
        text = f"{name} ({given}): {problem} {way}, or leave it out (typed: --only)."
        raise ValueError(text) from problem


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
    return [] if _differing(old, facts) else [*rows]


def _differing(old: Mapping[str, str], facts: Mapping[str, Value]) -> list[str]:
    """Names of the facts that decide about numbers and are others in a table."""
    return [
        name
        for name, value in facts.items()
        if name not in NOT_DECIDING and old.get(name) != str(value)
    ]

"""The report: claims, figures, tables and environment on one HTML page.

    python -m paper_checks.page            writes figures/report.html

Everything on it is read from what is committed: claims.toml, ledger.csv (from which LEDGER.md is
written too), the figures with their captions in the README, and the tables in figures/data.
"""

from __future__ import annotations

import argparse
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sympy
from latex2mathml.converter import convert

from paper_checks.derivations import moments
from paper_checks.derivations.assembly import assembly
from paper_checks.derivations.block_structure import block_structure
from paper_checks.derivations.ito_correction import ito_correction
from paper_checks.derivations.layer_norm import layer_norm
from paper_checks.derivations.residual_form import residual_form
from paper_checks.derivations.variation import variation_equations
from paper_checks.figure_tables import rows_of
from paper_checks.ledger import (
    FOLDER,
    Claim,
    false_alarms_text,
    margin_text,
    read_claims,
    read_ledger,
    rerun_text,
    result_texts,
    shown_verdict,
    verdict_of,
)
from sdewm.base.records import ROOT, read_table
from sdewm.report.page import (
    Cell,
    Derivation,
    Figure,
    Line,
    Page,
    Section,
    Table,
    embedded,
    plain_table,
    write_page,
)
from sdewm.study.verdicts import INTERVALS

TARGET = ROOT / "figures" / "report.html"
MARKS = {  # of the verdicts, in the order of ledger.WORDS
    "holds": "✓",
    "holds after correction": "✎",
    "holds, vacuous": "◌",
    "fails as stated": "✕",
    "undecided": "?",
    "not yet run": "–",
    "fails": "‼",
}
CAPTION = re.compile(
    r"!\[[^\]]*\]\(figures/(?P<stem>\w+)\.png\)<br>\*\*(?P<title>[^*]+?)\.\*\* (?P<text>.*?)"
    r"(?: \*Not shown:\* (?P<limits>.*?))? \|"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=TARGET, help="the file")
    out = parser.parse_args(arguments).out
    try:
        write_page(out, page())
    except ValueError as problem:
        parser.error(str(problem))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def page() -> Page:
    """The whole page."""
    claims = read_claims()
    rows, facts = read_ledger()
    by_id = {row["id"]: row for row in rows}
    if missing := [claim.id for claim in claims if claim.id not in by_id]:
        raise ValueError(f"{', '.join(missing)}: no results yet; run `make verify`.")
    verdicts = {claim.id: verdict_of(claim, by_id[claim.id]) for claim in claims}
    said = [*verdicts.values()]
    count = ", ".join(f"{MARKS[one]} {said.count(one)} {one}" for one in MARKS if one in said)
    lead = (
        "arXiv 2501.00195, Towards Unraveling and Improving Generalization in World Models, writes "
        "the dynamics of a world model as stochastic differential equations in which the error of "
        "the encoder is a drift and a diffusion. This page says what was asked of its statements, "
        "as recalled, and what was found.",
        f"Claims by verdict, {len(claims)} in all: {count}. Each has a negative control, a "
        "deliberate mistake that its check has to notice.",
    )
    sections = (
        Section("found", "What was found", findings(), (found_table(claims, verdicts),)),
        Section(
            "ledger",
            "Ledger of claims",
            (false_alarms_text(rows).replace("*", ""),),
            tables=(ledger_table(claims, by_id, verdicts),),
        ),
        Section("figures", "Figures", figures=tuple(figures())),
        Section("derivations", "Derivations", DERIVED, derivations=tuple(derivations())),
        Section("studies", "Studies", tables=(csv_table("table_study_verdicts", STUDY_TEXT),)),
        Section("speed", "Speed", tables=(csv_table("bench", BENCH_TEXT),)),
        Section("environment", "Environment", tables=(environment_table(facts),)),
    )
    return Page("sdewm: the paper's claims, checked", lead, sections)


DERIVED = (
    "Derived by sympy from Itô's formula and compared with simulation, enumeration or automatic "
    "differentiation; the claims derivation-* of the ledger say how. Each is shown in its simplest "
    "case.",
)
STUDY_TEXT = f"Declared comparisons and controls. {INTERVALS}"
BENCH_TEXT = (
    "Times and rates with their baselines; a ratio is value over baseline, low and high enclose "
    "its spread."
)


def findings() -> tuple[str, ...]:
    """The findings on trained models, as the README lists them."""
    readme = (ROOT / "README.md").read_text("utf-8")
    part = readme.split("### Trained models", 1)[1].split("| | |", 1)[0]
    bullets = re.findall(r"^- (.*?)(?=^- |\n\n)", part, flags=re.MULTILINE | re.DOTALL)
    return tuple(plain(" ".join(one.split())) for one in bullets)


def found_table(claims: Sequence[Claim], verdicts: Mapping[str, str]) -> Table:
    """Verdicts by section of MATHEMATICS.md, with the claims of each."""
    titles = sections_of_statements()
    groups: dict[str, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(titles.get(first_number(claim), "Other"), []).append(claim)
    rows = []
    for title, own in groups.items():
        counted = [(one, [c.id for c in own if verdicts[c.id] == one]) for one in MARKS]
        text = ", ".join(f"{MARKS[one]} {len(ids)} {one}" for one, ids in counted if ids)
        open_ids = [i for one, ids in counted if not one.startswith("holds") for i in ids]
        rows.append([title, text, ", ".join(open_ids) or "–"])
    header = ("subject", "verdicts", "undecided, not yet run or failing")
    return plain_table("found-table", "Verdicts by subject.", header, rows)


def first_number(claim: Claim) -> str:
    """The first statement that a claim names, such as S12, or its section."""
    found = re.match(r"[SOC]\d+|section \d+", claim.number)
    return found[0] if found else claim.number


def sections_of_statements(text: str | None = None) -> dict[str, str]:
    r"""The section of MATHEMATICS.md of each statement, and of each section itself.

    >>> sections_of_statements("## 3 Growth\n\n**S7 (a bound) [new].** x\n| C1 | a |")
    {'section 3': 'Growth', 'S7': 'Growth', 'C1': 'Growth'}
    """
    text = (FOLDER / "MATHEMATICS.md").read_text("utf-8") if text is None else text
    found, title = {}, ""
    for line in text.splitlines():
        if head := re.match(r"## (\d+) (.*)", line):
            title = found[f"section {head[1]}"] = head[2]
        elif number := re.match(r"(?:\*\*|\| )([SOC]\d+)\b", line):
            found.setdefault(number[1], title)
    return found


def ledger_table(
    claims: Sequence[Claim], by_id: Mapping[str, Mapping[str, Any]], verdicts: Mapping[str, str]
) -> Table:
    """One row for each claim; details open on demand."""
    lines = []
    for claim in claims:
        row, verdict = by_id[claim.id], verdicts[claim.id]
        measured, predicted = result_texts(row)
        more = (
            ("Paper, as recalled", claim.statement),
            (f"Checked ({claim.number}, {claim.mark})", claim.ours),
            ("Reason", str(row["reason"]) + rerun_text(row)),
            ("Margin", margin_text(row)),
            ("Not shown", claim.limits),
            *([("Figure", claim.figure)] if claim.figure else []),
            (
                f"Negative control {claim.negative_control}",
                f"{(claim.control.__doc__ or '').strip()} Outcome: {row['negative_control']}.",
            ),
            ("Rerun", f"make verify ONLY={claim.id}"),
        )
        cells = (
            Cell(claim.id, more=more),
            Cell(claim.number),
            Cell(claim.mark),
            Cell(str(row["quantity"])),
            Cell(measured),
            Cell(predicted),
            Cell(shown_verdict(claim, row), MARKS[verdict]),
            Cell(str(row["negative_control"])),
        )
        lines.append(Line(cells, verdict))
    header = ("claim", "statements", "mark", "quantity", "measured", "predicted", "verdict")
    caption = "Every claim; an entry opens to the paper's statement, ours, and the control."
    return Table("ledger-table", caption, (*header, "control"), tuple(lines), filter_by="Verdict")


def figures() -> list[Figure]:
    """The figures of the README, with their captions and the commands that made them."""
    found = []
    for one in CAPTION.finditer((ROOT / "README.md").read_text("utf-8")):
        stem = one["stem"]
        command = read_table(rows_of(stem))[1].get("command", "")
        found.append(
            Figure(
                id=stem,
                image=embedded(ROOT / "figures" / f"{stem}.png"),
                title=one["title"],
                text=plain(one["text"]),
                limits=plain(one["limits"] or ""),
                command=f"python analysis/{stem}.py; rows: {command}",
            )
        )
    return found


def derivations() -> Iterator[Derivation]:
    """The derivations in their simplest cases, with formulas in MathML."""
    closure = moments.moment_closure(moments.perturbed_system("OrnsteinUhlenbeck", "same"))
    for one in (
        variation_equations(),
        ito_correction(),
        block_structure(),
        assembly(),
        closure,
        residual_form(),
        layer_norm(),
    ):
        steps = []
        for step in one.steps:
            formula = convert(sympy.latex(step.formula), display="block")
            steps.append((with_mathml(step.text), formula))
        yield Derivation(f"{one.title} ({one.number})", tuple(steps))


def with_mathml(text: str) -> str:
    """HTML of a sentence with formulas between dollars.

    >>> with_mathml("a < b, $x$")[:16]
    'a &lt; b, <math '
    """
    parts = text.replace("--", "–").split("$")
    return "".join(
        convert(part, display="inline") if number % 2 else html.escape(part)
        for number, part in enumerate(parts)
    )


def plain(text: str) -> str:
    """Markdown of a caption as plain text.

    >>> plain("World models ([study](analysis/a.toml)) of `x`")
    'World models (study) of x'
    """
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").replace("*", "")


def csv_table(stem: str, caption: str) -> Table:
    """A committed table, numbers to three digits."""
    rows, _ = read_table(ROOT / "figures" / "data" / f"{stem}.csv")
    shown = [[short(value) for value in row.values()] for row in rows]
    return plain_table(f"{stem}-table", caption, [*rows[0]], shown)


def short(value: object) -> str:
    """A number to three digits, or a text.

    >>> short(0.123456), short(None), short("a")
    ('0.123', '–', 'a')
    """
    if isinstance(value, float):
        return f"{value:.3g}"
    return "–" if value is None else str(value)


def environment_table(facts: Mapping[str, str]) -> Table:
    """What the ledger was computed with."""
    rows = [[name, value] for name, value in facts.items()]
    return plain_table("environment-table", "The last full run of the checks.", ("", "value"), rows)


if __name__ == "__main__":
    main()

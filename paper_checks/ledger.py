"""The claims: read from claims.toml, validated, and written to LEDGER.md with their results."""

from __future__ import annotations

import importlib
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper_checks.findings import Finding, Mutate, Settings
from sdewm.base.checks import check_choice
from sdewm.base.records import Value, read_table, write_table, write_whole
from sdewm.plots.tables import estimate_text, markdown_table, number_text
from sdewm.study.verdicts import REFUTED
from sdewm.theory.verdict import HOLDS, UNDECIDED, VACUOUS

FOLDER = Path(__file__).resolve().parent
ROUNDING = 1e-12
WORDS = (  # of verdicts; "fails": the check fails, also in the form that we claim
    *("holds", "holds after correction", "holds, vacuous", "fails as stated"),
    *("undecided", "not yet run", "fails"),
)
MARKS = ("as in the paper", "corrected", "sharpened", "new")
HEAD = """\
Written by `python -m paper_checks` from claims.toml and the results of the last full run. Do not \
edit this file.

*As recalled*: the text of the paper was not at hand when this ledger was written. Its statements \
are given as recalled from its abstract and from secondary sources. Compare them with \
[arXiv 2501.00195](https://arxiv.org/abs/2501.00195) before quoting them.

*Marks* relate the checked form to the recalled one: as in the paper, corrected, sharpened (weaker \
hypotheses or explicit constants), or new (not in the recalled paper). Numbers S and O refer to \
[MATHEMATICS.md](MATHEMATICS.md).

A *negative control* is a deliberate mistake. A claim holds only if the check fails (red) once the \
mistake is made.

A claim that a *bound* holds says little if the bound is far above the measured value. The verdict \
therefore gives bound / measured value of the quantity shown. The claim is *sharp* if the check \
would also fail for twice the measured value, and *vacuous* if the ratio exceeds 1000.

*Margin*: how much of the allowed difference the closest comparison of the claim uses up; above \
100 % it does not hold. A bound that is not exceeded uses nothing. A claim is checked again, \
with four times the paths and another seed, if sampling errors refute it, leave it open, or use \
more than 80 %; both results are given then.

*Verdicts*: holds; holds after correction (the recalled form is wrong or incomplete, ours holds); \
holds, vacuous; fails as stated (a declared study refutes the claim); undecided; not yet run (its \
study has no results); fails (our own form fails)."""


@dataclass(frozen=True)
class Claim:
    """One row of claims.toml.

    Attributes:
        id: name of the claim.
        number: statement numbers in MATHEMATICS.md.
        mark: relation of our form to the paper's, one of MARKS.
        statement: what the paper states, as recalled.
        ours: what is checked here.
        check: "module:function" in this package.
        negative_control: "module:function" in negative_controls/.
        arguments: keyword arguments of the check.
        limits: what the check does not show.
        figure: stem of the figure that shows the claim; "" if none does.
        control_is_recalled: the negative control is the paper's form as recalled, so that a red
            control refutes that form.
        long: the claim is one of those that take longest and is started first.
    """

    id: str
    number: str
    mark: str
    statement: str
    ours: str
    check: str
    negative_control: str
    limits: str
    figure: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    control_is_recalled: bool = False
    long: bool = False

    def run(self, settings: Settings, mutate: Mutate) -> Finding:
        """The finding of the check after `mutate`: a negative control, or the identity."""
        return named("paper_checks", self.check)(settings, mutate, **self.arguments)

    @property
    def control(self) -> Mutate:
        """The negative control."""
        return named("paper_checks.negative_controls", self.negative_control)


def named(package: str, name: str) -> Callable[..., Any]:
    """The function "module:function" of a package."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"{package}.{module}"), function)


def read_claims(path: Path = FOLDER / "claims.toml") -> list[Claim]:
    """The claims of the ledger.

    Raises:
        ValueError: a missing or unknown key, an unknown mark, or a duplicate id.
    """
    claims = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["claim"]:
        try:
            claim = Claim(**{**entry, "arguments": _frozen(entry.get("arguments", {}))})
        except TypeError as error:
            raise ValueError(f"{path.name}, claim {entry.get('id')!r}: {error}") from error
        check_choice(f"mark of {claim.id}", claim.mark, MARKS)
        claims.append(claim)
    ids = [claim.id for claim in claims]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ValueError(f"{path.name}: the id {twice[0]!r} occurs more than once.")
    return claims


def _frozen(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}


def select(claims: Sequence[Claim], ids: Sequence[str] | None) -> list[Claim]:
    """The named claims, in the order of the ledger; all claims if none is named.

    Raises:
        ValueError: an unknown id; names the nearest one.
    """
    if not ids:
        return list(claims)
    known = [claim.id for claim in claims]
    for name in ids:
        check_choice("--only", name, known)
    return [claim for claim in claims if claim.id in ids]


RESULTS = FOLDER / "ledger.csv"
COLUMNS = (
    *("id", "quantity", "measured", "standard_error", "predicted", "verdict", "negative_control"),
    *("tightness", "sharp", "used", "false_alarm", "first_measured", "first_error", "reason"),
)


def write_results(
    rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], path: Path = RESULTS
) -> None:
    """Write the results of a full run, without times."""
    write_table(path, [{name: row.get(name) for name in COLUMNS} for row in rows], facts)


def read_ledger(path: Path = RESULTS) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The results of the last full run, and its facts.

    Raises:
        ValueError: there are none.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: run `make verify`.")
    rows, facts = read_table(path)
    return [{**row, "sharp": row["sharp"] in (True, "True", "true", 1)} for row in rows], facts


def write_ledger(
    path: Path, claims: Sequence[Claim], rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> None:
    """Write LEDGER.md: every claim with its result in the last full run, without times."""
    by_id = {row["id"]: row for row in rows}
    header = ["claim", "statements", "mark", "quantity", "measured", "predicted", "margin"]
    header += ["verdict"]
    cells = []
    for claim in claims:
        row = by_id[claim.id]
        cells.append(
            [
                f"[{claim.id}](#{claim.id})",
                claim.number,
                claim.mark,
                row["quantity"],
                *result_texts(row),
                margin_text(row),
                shown_verdict(claim, row),
            ]
        )
    words = [verdict_of(claim, by_id[claim.id]) for claim in claims]
    count = ", ".join(f"{words.count(word)} {word}" for word in WORDS if word in words)
    parts = [
        "# Ledger of claims",
        HEAD,
        f"{len(rows)} claims by verdict: {count}. Run with "
        f"{facts['paths']} paths, seed {facts['seed']}, {facts['device']}, "
        f"torch {facts['torch']}.",
        false_alarms_text(rows),
        markdown_table(header, cells),
    ]
    for claim in claims:
        row = by_id[claim.id]
        made = (claim.control.__doc__ or "").strip()
        outcome = "refuted" if row["negative_control"] == "red" else "not refuted"
        recalled = f" The form as recalled is {outcome}." if claim.control_is_recalled else ""
        parts += [
            f"## {claim.id}",
            f"- **Paper, as recalled:** {claim.statement}\n"
            f"- **Checked ({claim.number}, {claim.mark}):** {claim.ours}\n"
            f"- **Check:** `{claim.check}`; {shown_verdict(claim, row)}; margin: "
            f"{margin_text(row)}.{rerun_text(row)}\n"
            f"- **Not shown:** {claim.limits}{figure_text(claim)}\n"
            f"- **Negative control** `{claim.negative_control}`: {made} "
            f"Outcome: {row['negative_control']}.{recalled}",
        ]
    write_whole(path, "\n\n".join(parts) + "\n")


def margin_text(row: Mapping[str, Any]) -> str:
    """How much of the allowed difference the closest comparison uses up.

    >>> [margin_text({"used": share}) for share in (0.123, 2.0, float("inf"))]
    ['12 % used', '200 % used', '–']
    """
    used = row["used"]
    if used is None or not math.isfinite(used) or used > 100.0:
        return "–"
    return f"{100 * used:.2g} % used" if used < 0.1 else f"{100 * used:.0f} % used"


def rerun_text(row: Mapping[str, Any]) -> str:
    """The numbers of the first run of a claim that was checked again; else nothing."""
    if row["first_measured"] is None:
        return ""
    first = estimate_text(row["first_measured"], row["first_error"])
    again = estimate_text(row["measured"], row["standard_error"])
    return f" Checked again: {first} in the first run, {again} with four times the paths."


def figure_text(claim: Claim) -> str:
    """The figure of a claim; nothing if there is none."""
    return f" *Figure:* [{claim.figure}](../figures/{claim.figure}.png)." if claim.figure else ""


def false_alarms(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Bounds of the probability that sampling errors make a true claim of the ledger fail.

    By the union bound Σ p over claims in the first run, and Σ p² after the rerun, which is
    independent of it. Sampling errors follow Student's law.
    """
    alarms = [row["false_alarm"] or 0.0 for row in rows]
    return math.fsum(alarms), math.fsum(alarm**2 for alarm in alarms)


def false_alarms_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The family-wise rate of false alarms in a sentence."""
    first, both = false_alarms(rows)
    count = sum((row["false_alarm"] or 0.0) > 0.0 for row in rows)
    return (
        f"*False alarms:* {count} claims rest on sampling errors. If these follow Student's law, "
        f"the probability that any true claim among them fails is at most {first:.1g} in the "
        f"first run and {both:.1g} after the rerun. Verdicts of a study are not "
        "among them: confirmatory comparisons have a family-wise level of 95 %, all others 95 % "
        "each. A claim that fails as stated needs all its comparisons refuted, so that the "
        "probability of stating this wrongly is at most 2.5 % for each such claim. Comparisons "
        "without a standard error are not counted."
    )


def verdict_of(claim: Claim, row: Mapping[str, Any]) -> str:
    """The verdict on a claim in one of the words of WORDS."""
    if row["verdict"] == UNDECIDED:
        return "not yet run" if "has not run yet" in str(row["reason"]) else "undecided"
    if row["verdict"] != HOLDS:
        return "fails"
    if (row.get("tightness") or 0.0) > VACUOUS:
        return "holds, vacuous"
    if claim.arguments.get("says") == REFUTED:
        return "fails as stated"
    return "holds after correction" if claim.mark == "corrected" else "holds"


def shown_verdict(claim: Claim, row: Mapping[str, Any]) -> str:
    """The word of a verdict; of a bound that holds, with how tight it is."""
    word, text = verdict_of(claim, row), verdict_text(row)
    tightness = text.partition(", ")[2]
    return text if word == "holds, vacuous" else f"{word}, {tightness}" if tightness else word


def verdict_text(row: Mapping[str, Value | Any]) -> str:
    """The verdict of a row; for a bound that holds, with how tight it is.

    >>> verdict_text({"verdict": "holds", "tightness": 6466.0, "sharp": False})
    'holds, vacuous (×6470)'
    >>> verdict_text({"verdict": "holds", "tightness": 1.078, "sharp": True})
    'holds, sharp (×1.08)'
    """
    ratio = row.get("tightness")
    if row["verdict"] != HOLDS or ratio is None:
        return row["verdict"]
    word = "sharp" if row["sharp"] else "vacuous" if ratio > VACUOUS else "not sharp"
    shown = f"{ratio:.2e}" if ratio >= 1e5 else f"{float(f'{ratio:.3g}'):g}"
    return f"holds, {word} (×{shown})"


def result_texts(row: Mapping[str, Value | Any]) -> tuple[str, str]:
    """Measured and predicted value of a row as texts, without digits below rounding error."""
    measured, error = row["measured"], row["standard_error"]
    exact = error is not None and error < ROUNDING
    if exact and abs(measured) < ROUNDING:
        return "0 to rounding", number_text(row["predicted"])
    text = estimate_text(measured, 0.0 if exact else error)
    return text, number_text(row["predicted"], 9 if exact else 6)

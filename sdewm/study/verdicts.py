"""Verdicts of a study: support, refuted, undecided; or void where a control fails.

All end points are logarithms of which smaller is better. d is the difference of an arm to its
baseline, paired by seed (of an interaction: minus that of two other arms), with its t interval. Of
the confirmatory comparisons of a study the intervals have the family-wise level .95 (Bonferroni: of
n comparisons, each has the level 1 − .05/n); those of all other comparisons have .95 each, and
their number is not accounted for.

    support     the interval lies below −margin, and that of the end point `not_worse`, if there is
                one, below its own margin
    refuted     the interval lies above −margin
    undecided   otherwise, or fewer than 2 pairs, or the seeds are not exactly the declared ones: a
                verdict that was looked for after every seed would be found too often

"refuted" says that this arm does not gain by the margin; it may be equal or worse.

A control holds if its own .95 interval lies above 0 (expected "worse") or below 0 ("better"); it is
open until all declared seeds are there, at least 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np

from sdewm.plots.tables import number_text, text_table
from sdewm.robustness.statistics import Comparison as Paired
from sdewm.robustness.statistics import compare
from sdewm.study.declaration import Comparison, Control, Study
from sdewm.study.rows import arms_of

LEVEL = 0.95
SUPPORT, REFUTED, UNDECIDED, VOID = "support", "refuted", "undecided", "void"
HOLDS, FAILS, OPEN = "holds", "fails", "open"  # of a control
INTERVALS = (
    "Differences of logarithms of which smaller is better, paired by training seed. Levels above "
    "0.95 are of confirmatory comparisons, 0.95 for all of a study together; the others have 0.95 "
    "each, and their number is not accounted for. 'refuted': this arm does not gain by the margin."
)


@dataclass(frozen=True)
class Judged:
    """A comparison or control with what was seen.

    `outcome` of a control: "holds", "fails" or "open". `level`: of the interval.
    """

    declared: Comparison | Control
    paired: Paired | None
    outcome: str
    level: float


def judge(study: Study, rows: Sequence[dict[str, str]]) -> tuple[list[Judged], list[Judged]]:
    """Controls and comparisons, judged; all comparisons are void if a control fails."""
    controls = [_control(one, rows, study) for one in study.controls]
    void = any(one.outcome == FAILS for one in controls)
    settled = all(one.outcome == HOLDS for one in controls)
    family = sum(one.confirmatory for one in study.comparisons)
    comparisons = []
    for one in study.comparisons:
        level = 1 - (1 - LEVEL) / family if one.confirmatory else LEVEL
        seen = seen_of(one, rows, study.updates, level)
        outcome = UNDECIDED
        if settled and seen is not None and _is_complete(one, rows, study):
            if seen.difference.high < -one.margin:
                outcome = SUPPORT if _not_worse(one, rows, level, study) else UNDECIDED
            elif seen.difference.low > -one.margin:
                outcome = REFUTED
        comparisons.append(Judged(one, seen, VOID if void else outcome, level))
    return controls, comparisons


def seen_of(
    one: Comparison | Control, rows: Sequence[dict[str, str]], updates: int, level: float = LEVEL
) -> Paired | None:
    """What was seen of a comparison or a control; None below two common seeds."""
    minus = (one.minus_arm, one.minus_baseline) if _is_interaction(one) else None
    return paired(rows, one.arm, one.baseline, one.end_point, updates, level, minus)


def _is_interaction(one: Comparison | Control) -> TypeGuard[Comparison]:
    return isinstance(one, Comparison) and bool(one.minus_arm)


def paired(
    rows: Sequence[dict[str, str]],
    arm: str,
    baseline: str,
    end_point: str,
    updates: int,
    level: float = LEVEL,
    minus: tuple[str, str] | None = None,
) -> Paired | None:
    """The differences of an arm to its baseline over their common seeds; None below two.

    With `minus`, those of its first arm to its second are subtracted, seed by seed.
    """
    names = (arm, baseline, *(minus or ()))
    values = [arms_of(rows, name, end_point, updates) for name in names]
    seeds = sorted(set.intersection(*map(set, values)))
    if len(seeds) < 2:
        return None
    each = np.array([[of_arm[seed] for seed in seeds] for of_arm in values])
    ours, theirs = each[:2] - each[2:] if minus else each
    return compare(ours, theirs, level)


def _not_worse(one: Comparison, rows: Sequence[dict[str, str]], level: float, study: Study) -> bool:
    """Whether the interval of the other end point, if there is one, lies below its margin."""
    if not one.not_worse:
        return True
    clean = replace(one, end_point=one.not_worse, minus_arm="", minus_baseline="")
    other = seen_of(clean, rows, study.updates, level)
    complete = _is_complete(clean, rows, study)
    return complete and other is not None and other.difference.high < one.not_worse_margin


def _is_complete(one: Comparison | Control, rows: Sequence[dict[str, str]], study: Study) -> bool:
    """Whether each of its arms has the declared seeds, and no others."""
    names = [one.arm, one.baseline]
    if _is_interaction(one):
        names += [one.minus_arm, one.minus_baseline]
    arms = (arms_of(rows, arm, one.end_point, study.updates) for arm in names)
    return all({*arm} == {*study.seeds} for arm in arms)


def _control(one: Control, rows: Sequence[dict[str, str]], study: Study) -> Judged:
    seen = seen_of(one, rows, study.updates)
    if seen is None or not _is_complete(one, rows, study):
        return Judged(one, seen, OPEN, LEVEL)
    ends = seen.difference
    holds = ends.low > 0 if one.expected == "worse" else ends.high < 0
    return Judged(one, seen, HOLDS if holds else FAILS, LEVEL)


def report(study: Study, rows: Sequence[dict[str, str]]) -> str:
    """Tables of the arms and of the verdicts."""
    controls, comparisons = judge(study, rows)
    lines = []
    for arm in study.arms:
        cells = [arm]
        for name in study.end_points:
            values = [*arms_of(rows, arm, name, study.updates).values()]
            mean = number_text(float(np.mean(values)), 4) if values else "–"
            cells.append(f"{mean} ({len(values)})")
        lines.append(cells)
    text = [
        f"{study.name}: {study.length}, declaration {study.digest}; means (seeds)",
        text_table(["arm", *study.end_points], lines),
        "",
    ]
    header = (
        "claim arm baseline end_point difference interval level sign_flip_p pairs verdict".split()
    )
    text.append(text_table(header, [_cells(one) for one in (*controls, *comparisons)]))
    text.append(INTERVALS)
    if any(one.outcome == FAILS for one in controls):
        text.append("VOID: a control does not hold, so nothing follows from this study.")
    missing = [
        one for one in (*controls, *comparisons) if not _is_complete(one.declared, rows, study)
    ]
    if missing:
        text.append(
            f"INTERIM: {len(missing)} of {len(controls) + len(comparisons)} controls and "
            f"comparisons lack some of the {len(study.seeds)} declared seeds; verdicts follow when "
            "all are there."
        )
    return "\n".join(text)


def _cells(one: Judged) -> list[str]:
    declared, paired = one.declared, one.paired
    claim = declared.claim if isinstance(declared, Comparison) else f"control: {declared.expected}"
    seen = ["–", "–", "–", "–", "0"]
    if paired is not None:
        difference = paired.difference
        ends = f"{number_text(difference.low, 3)} … {number_text(difference.high, 3)}"
        seen = [number_text(difference.estimate, 3), ends, f"{one.level:.4g}"]
        seen += [number_text(paired.sign_p, 3), str(paired.pairs)]
    baseline = declared.against if isinstance(declared, Comparison) else declared.baseline
    return [claim, declared.arm, baseline, declared.end_point, *seen, one.outcome]

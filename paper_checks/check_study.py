"""The paper's empirical claims (C1 to C5, C7), by the verdicts of declared studies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from paper_checks.findings import Finding, Mutate, Settings, conclude
from sdewm.base.checks import check_choice
from sdewm.base.stats import Estimate, half_width
from sdewm.robustness.statistics import t_interval
from sdewm.study.committed import Results, read_results, table_of
from sdewm.study.declaration import Comparison
from sdewm.study.trends import arms_over, slopes_per_doubling
from sdewm.study.verdicts import REFUTED, SUPPORT, Judged, judge, seen_of
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict


def verdict(
    settings: Settings, mutate: Mutate, *, study: str, claim: str, arms: Sequence[str], says: str
) -> Finding:
    """Whether the study's verdict on a claim, for these arms, is the one that the ledger states."""
    if not table_of(study).is_file():
        nothing = Estimate(math.nan, math.nan)
        return Finding(
            claim, nothing, 0.0, Verdict(UNDECIDED, f"the study {study} has not run yet")
        )
    results = mutate(read_results(study))
    for arm in arms:
        check_choice("arms", arm, results.study.arms)
    _, comparisons = judge(results.study, results.rows)
    asked = [
        one
        for one in comparisons
        if isinstance(one.declared, Comparison)
        and one.declared.claim == claim
        and one.declared.arm in arms
    ]
    if not asked:
        raise ValueError(f"claim={claim!r}: {study!r} declares no comparison of {arms} for it.")
    return conclude([_finding(one, results, says) for one in asked])


def trend(
    settings: Settings,
    mutate: Mutate,
    *,
    study: str,
    setting: str,
    end_points: Sequence[str],
    margin: float,
) -> Finding:
    """Whether no end point changes by the margin or more when a setting doubles.

    It holds if every .95 interval of a slope, over the declared seeds, lies within ± margin, and
    fails if one lies beyond it. No probability is lost by their number: all of them have to hold.
    """
    results = mutate(read_results(study))
    found = []
    for label, arms in arms_over(results.study, setting).items():
        for end_point in end_points:
            slopes = slopes_per_doubling(results.rows, arms, end_point, results.study.updates)
            name = f"ln ratio of {end_point} per doubling of {setting}, {label}"
            found.append(_of_slopes(name, slopes, {*results.study.seeds}, margin))
    return conclude(found)


def _of_slopes(name: str, slopes: dict[int, float], declared: set[int], margin: float) -> Finding:
    if {*slopes} != declared or len(slopes) < 2:
        nothing, text = Estimate(math.nan, math.nan), f"{name}: {len(slopes)} seeds"
        return Finding(name, nothing, margin, Verdict(UNDECIDED, text))
    values = np.array([*slopes.values()])
    mean, low, high = t_interval(values)
    outcome = UNDECIDED
    if max(-low, high) < margin:
        outcome = HOLDS
    elif low > margin or high < -margin:
        outcome = FAILS
    measured = Estimate(mean, float(values.std(ddof=1)) / math.sqrt(len(values)))
    text = f"{name}: {mean:.3g} [{low:.3g}, {high:.3g}] over {len(values)} seeds"
    return Finding(name, measured, margin, Verdict(outcome, text), used=max(-low, high) / margin)


def _finding(one: Judged, results: Results, says: str) -> Finding:
    """A comparison; its error bar is that of the mean over seeds, for a level of .95."""
    declared = one.declared
    name = f"ln ratio of {declared.end_point}, {declared.arm}"
    if isinstance(declared, Comparison) and declared.minus_arm:
        name += f" minus that of {declared.minus_arm}"
    seen = seen_of(declared, results.rows, results.study.updates)
    if seen is None:
        return Finding(
            name, Estimate(math.nan, math.nan), 0.0, Verdict(UNDECIDED, f"{name}: no rows")
        )
    width = seen.difference.high - seen.difference.low
    measured = Estimate(seen.difference.estimate, width / 2 / half_width(1.0, seen.pairs))
    margin = declared.margin if isinstance(declared, Comparison) else 0.0
    outcome = HOLDS if one.outcome == says else UNDECIDED
    if one.outcome in (SUPPORT, REFUTED) and one.outcome != says:
        outcome = FAILS
    low, high = one.paired.difference[1:] if one.paired else (math.nan, math.nan)
    text = (
        f"{name}: {measured.value:.3g} [{low:.3g}, {high:.3g}] over {seen.pairs} of "
        f"{len(results.study.seeds)} seeds; verdict {one.outcome}, stated {says}"
    )
    # A refutation needs the whole interval above −margin.
    used = (high - low) / 2 / (measured.value + margin) if measured.value > -margin else math.inf
    return Finding(name, measured, -margin, Verdict(outcome, text), used=used)

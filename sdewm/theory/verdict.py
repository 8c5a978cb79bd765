"""Verdicts on checkable statements: holds, fails or undecided, with the reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdewm.base.stats import Estimate

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
VACUOUS = 1000.0  # bound / measured value above which a bound says nothing
MORE = "use more paths"  # ends the reason of a verdict that more paths may decide
HEAVY = 10.0  # kurtosis above which standard errors decide nothing (rule 7)


@dataclass(frozen=True)
class Verdict:
    """Outcome "holds", "fails" or "undecided", and the reason with its numbers."""

    outcome: str
    reason: str

    def __str__(self) -> str:
        return f"{self.outcome}: {self.reason}"


def agree(
    name: str, estimate: Estimate, reference: float, threshold: float = 5.0, bias: float = 0.0
) -> Verdict:
    """Whether |estimate − reference| ≤ threshold · standard error + bias (acceptance rule b).

    For a nonzero reference the verdict is undecided, never "holds", if the allowed difference
    exceeds |reference|/2: the estimate could then not distinguish the reference from zero. It is
    undecided, too, if sampling errors matter and have heavy tails (see `heavy_tails`).

    >>> [agree("P", Estimate(0.54, 0.001), reference).outcome for reference in (0.5399, 1.0798)]
    ['holds', 'fails']
    """
    margin = threshold * estimate.standard_error + bias
    gap = abs(estimate.value - reference)
    reason = (
        f"{name} = {estimate}, reference {reference:.10g}, |difference| {gap:.2g}, "
        f"allowed {margin:.2g}"
    )
    if not math.isfinite(gap) or not math.isfinite(margin):
        return Verdict(UNDECIDED, f"{reason}: not finite")
    if threshold * estimate.standard_error > bias and (tails := heavy_tails(estimate)):
        return Verdict(UNDECIDED, f"{reason}: {tails}")
    if gap > margin:
        return Verdict(FAILS, reason)
    if reference != 0.0 and margin > 0.5 * abs(reference):
        return Verdict(UNDECIDED, f"{reason}: too wide to distinguish it from zero; {MORE}")
    return Verdict(HOLDS, reason)


def heavy_tails(estimate: Estimate) -> str:
    """Why the standard error of an estimate decides nothing; "" if it does (rule 7).

    >>> heavy_tails(Estimate(1.0, 0.1, kurtosis=30.0)), heavy_tails(Estimate(1.0, 0.1))
    ('heavy tails: kurtosis 30 of the batch means, allowed 10; use more paths', '')
    """
    if not estimate.kurtosis > HEAVY:  # nan: unknown
        return ""
    return (
        f"heavy tails: kurtosis {estimate.kurtosis:.3g} of the batch means, allowed {HEAVY:g}; "
        f"{MORE}"
    )


def needs_paths(verdict: Verdict) -> bool:
    """Whether a verdict is undecided for want of paths.

    >>> needs_paths(agree("P", Estimate(1.0, 0.3), 1.0)), needs_paths(Verdict(HOLDS, "equal"))
    (True, False)
    """
    return verdict.outcome == UNDECIDED and verdict.reason.endswith(MORE)


def all_of(verdicts: list[Verdict]) -> Verdict:
    """The conjunction of verdicts: fails if one fails, else undecided if one is, else holds.

    The reason is that of the first decisive verdict; if all hold, all reasons are joined.
    """
    for outcome in (FAILS, UNDECIDED):
        for verdict in verdicts:
            if verdict.outcome == outcome:
                return verdict
    return Verdict(HOLDS, "; ".join(verdict.reason for verdict in verdicts))

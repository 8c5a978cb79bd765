"""Verdicts on checkable statements: holds, fails or undecided, with the reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdewm.base.stats import Estimate

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


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
    exceeds |reference|/2: the estimate could then not distinguish the reference from zero.

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
    if gap > margin:
        return Verdict(FAILS, reason)
    if reference != 0.0 and margin > 0.5 * abs(reference):
        return Verdict(UNDECIDED, f"{reason}: too wide to distinguish it from zero; use more paths")
    return Verdict(HOLDS, reason)


def all_of(verdicts: list[Verdict]) -> Verdict:
    """The conjunction of verdicts: fails if one fails, else undecided if one is, else holds.

    The reason is that of the first decisive verdict; if all hold, all reasons are joined.
    """
    for outcome in (FAILS, UNDECIDED):
        for verdict in verdicts:
            if verdict.outcome == outcome:
                return verdict
    return Verdict(HOLDS, "; ".join(verdict.reason for verdict in verdicts))

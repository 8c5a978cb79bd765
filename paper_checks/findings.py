"""Settings of the checks, and findings: measured quantities with predictions and verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.special import stdtr

from sdewm.base.stats import Estimate
from sdewm.theory.expansion.expand import CurveRow
from sdewm.theory.remainder_order import ORDER_BAND, order_outcome
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict, agree, all_of, heavy_tails

THRESHOLD = 5.0  # standard errors (rule b)
FEWEST_UNITS = 8  # of a standard error in any check, for estimates that do not say how many
FEWEST_BATCHES = 128  # of a curve over time in any check
NEAR = 0.8  # share of the allowed difference from which a sampled comparison is a near miss
NEGLIGIBLE = 1e-6  # a standard error, over that of the other part of a sum
SIZES = (0.2, 0.1, 0.05, 0.025)  # of the error (rule c)
SMALL_SIZES = (0.05, 0.025, 0.0125)  # Monte Carlo: the noise of a path-wise remainder is relative


@dataclass(frozen=True)
class Settings:
    """Settings chosen by the user: paths per problem, root seed and device."""

    paths: int = 100_000
    seed: int = 0
    device: str = "cpu"


Mutate = Callable[[Any], Any]  # a negative control; the identity in the check itself


@dataclass(frozen=True)
class Finding:
    """A measured quantity, its predicted value, and the verdict on their agreement.

    Attributes:
        quantity: what is measured.
        measured: its value.
        predicted: the value, or the bound, that is claimed.
        verdict: whether both agree.
        allowed: difference at which the verdict changes.
        tightness: bound / measured value if the claim is a bound; else nan.
        sharp: whether the comparison would fail if the measured value were twice as large.
        used: share of what is allowed that is used up; at most 1 if the comparison holds. None:
            |measured − predicted| / allowed.
        false_alarm: bound of the probability that sampling errors make a true claim fail.
    """

    quantity: str
    measured: Estimate
    predicted: float
    verdict: Verdict
    allowed: float = 1.0
    tightness: float = math.nan
    sharp: bool = False
    used: float | None = None
    false_alarm: float = 0.0

    @property
    def share(self) -> float:
        """The share of what is allowed that is used up."""
        share = abs(self.measured.value - self.predicted) / self.allowed
        if self.used is not None:
            share = self.used
        return math.inf if math.isnan(share) else float(share)


def false_alarm(
    margin: float, estimate: Estimate, sides: int = 2, units: int | None = None
) -> float:
    """Probability that an estimate errs by more than `margin`, by Student's law.

    >>> many, unknown = Estimate(0.0, 1.0, units=256), Estimate(0.0, 1.0)
    >>> false_alarm(5.0, many) < 2e-6 < false_alarm(5.0, unknown) < 2e-3
    True
    """
    if not estimate.standard_error > 0.0:  # exact, or nothing was estimated
        return 0.0
    count = units or estimate.units or FEWEST_UNITS
    return sides * float(stdtr(count - 1, -margin / estimate.standard_error))


def add(left: Estimate, right: Estimate) -> Estimate:
    """The sum, with upper bounds of its standard error and its kurtosis.

    The kurtosis of a part whose standard error is negligible, such as rounding, does not count.
    """
    largest = max(left.standard_error, right.standard_error)
    parts = [one for one in (left, right) if one.standard_error > NEGLIGIBLE * largest]
    tails = float(np.fmax.reduce([one.kurtosis for one in parts], initial=math.nan))
    units = min((one.units or FEWEST_UNITS for one in parts), default=None)
    error = left.standard_error + right.standard_error
    return Estimate(left.value + right.value, error, tails, units)


def scale(estimate: Estimate, factor: float) -> Estimate:
    """A multiple of an estimate."""
    error = abs(factor) * estimate.standard_error
    return Estimate(factor * estimate.value, error, estimate.kurtosis, estimate.units)


def subtract(left: Estimate, right: Estimate) -> Estimate:
    """The difference, with an upper bound of its standard error."""
    return add(left, scale(right, -1.0))


def compare(quantity: str, measured: Estimate, predicted: float, allowed: float = 0.0) -> Finding:
    """|measured − predicted| against five standard errors plus `allowed` (rules a and b)."""
    # Antithetic or symmetric quantities may vanish path by path up to rounding.
    bias = max(allowed, 1e-12 * max(1.0, abs(predicted)))
    verdict = agree(quantity, measured, predicted, THRESHOLD, bias)
    margin = THRESHOLD * measured.standard_error + bias
    alarm = false_alarm(margin, measured)
    return Finding(quantity, measured, predicted, verdict, margin, false_alarm=alarm)


def at_most(quantity: str, measured: Estimate, bound: float, text: str) -> Finding:
    """measured ≤ bound within five standard errors and rounding (rule b); `text` is the reason."""
    rounding = 1e-10 * abs(measured.value)
    spread = THRESHOLD * measured.standard_error + rounding
    outcome = HOLDS if measured.value <= bound + spread else FAILS
    if measured.standard_error > rounding and (tails := heavy_tails(measured)):
        outcome, text = UNDECIDED, f"{text}: {tails}"
    return Finding(
        quantity,
        measured,
        bound,
        Verdict(outcome, text),
        spread or 1e-12,
        tightness=tightness(measured.value, bound),
        sharp=2.0 * measured.value > bound + 2.0 * spread,
        used=excess_share(measured.value, bound, spread),
        false_alarm=false_alarm(spread, measured, sides=1),
    )


def excess_share(measured: float, bound: float, spread: float) -> float:
    """By how much a bound is exceeded, in units of the allowed excess `spread`.

    >>> excess_share(0.5, 1.0, 0.0), excess_share(1.5, 1.0, 1.0), excess_share(2.0, 1.0, 0.0)
    (0.0, 0.5, inf)
    """
    if measured <= bound:
        return 0.0
    return (measured - bound) / spread if spread > 0.0 else math.inf


def tightness(measured: float, bound: float) -> float:
    """bound / measured value; 1 if they are equal, infinite for a positive bound on nothing."""
    if measured == bound:
        return 1.0
    return bound / measured if measured != 0.0 else math.inf


def order_finding(rows: Sequence[CurveRow], expected: float, scale: float) -> Finding:
    """Whether the remainder has the order `expected` within ±0.3, over the three smallest sizes.

    Least-squares slope of log|remainder| against log ε; its error is bounded by the sum of the
    contributions of the remainders' errors. Undecided if a remainder has a relative error of 10 %
    or more, or lies below 10³ rounding errors of the loss, whose size is `scale` (rules 10 and c).
    """
    tail = rows[-3:]
    sizes = [row.epsilon if isinstance(row.epsilon, float) else max(row.epsilon) for row in tail]
    values = [row.remainder.value for row in tail]
    relative = [
        row.remainder.standard_error / abs(row.remainder.value) if row.remainder.value else math.inf
        for row in tail
    ]
    quantity, nothing = "remainder order", Estimate(math.nan, math.nan)
    floor = 1e3 * torch.finfo(torch.float64).eps * scale
    if min(map(abs, values)) <= floor:
        return Finding(
            quantity, nothing, expected, Verdict(UNDECIDED, f"a remainder is below {floor:.1g}")
        )
    if min(values) < 0 < max(values):
        reason = "the remainder changes sign"
        return Finding(quantity, nothing, expected, Verdict(UNDECIDED, reason))
    if max(relative) >= 0.1:
        reason = f"a remainder is known only to {100 * max(relative):.0f} %; take more paths"
        return Finding(quantity, nothing, expected, Verdict(UNDECIDED, reason))
    logs = [math.log(size) for size in sizes]
    centre = sum(logs) / len(logs)
    spread = sum((log - centre) ** 2 for log in logs)
    weights = [(log - centre) / spread for log in logs]
    slope = sum(w * math.log(abs(value)) for w, value in zip(weights, values, strict=True))
    error = sum(abs(w) * part for w, part in zip(weights, relative, strict=True))
    if error == 0.0:  # enumeration: the slopes between neighbouring sizes instead
        pairs = range(len(tail) - 1)
        steps = [math.log(values[i] / values[i + 1]) / (logs[i] - logs[i + 1]) for i in pairs]
        low, high = min(steps), max(steps)
    else:
        low, high = slope - 2 * error, slope + 2 * error
    text = f"order {slope:.3f} in [{low:.3f}, {high:.3f}], claimed {expected:g} ± {ORDER_BAND}"
    verdict = Verdict(order_outcome((low, high), expected), text)
    estimate = Estimate(slope, error, units=min_units(row.remainder for row in tail))
    return order_of(quantity, estimate, expected, verdict)


def order_of(quantity: str, slope: Estimate, expected: float, verdict: Verdict) -> Finding:
    """A slope within ±0.3 of `expected`; it fails if slope ± 2 standard errors lies outside."""
    alarm = false_alarm(ORDER_BAND + 2 * slope.standard_error, slope)
    return Finding(quantity, slope, expected, verdict, ORDER_BAND, false_alarm=alarm)


def min_units(estimates: Iterable[Estimate]) -> int | None:
    """The fewest units of any of the estimates; None if one does not say."""
    found = [one.units for one in estimates]
    return None if None in found else min(one for one in found if one is not None)


def _closeness(finding: Finding) -> float:
    """Measured value / bound, among bounds that are not exceeded; 0 for other comparisons."""
    return 0.0 if math.isnan(finding.tightness) or not finding.tightness else 1 / finding.tightness


def conclude(findings: Sequence[Finding], headline: str = "") -> Finding:
    """The conjunction of several findings.

    If all hold, the numbers are those of the quantity `headline` (default: the first) and the
    reason is that of the comparison closest to failing; otherwise both are those of the worst one.
    """
    verdict = all_of([finding.verdict for finding in findings])
    deciding = [f for f in findings if f.verdict.outcome == verdict.outcome]
    closest = max(deciding, key=lambda f: (f.share, _closeness(f)))
    reason = f"closest of {len(findings)} comparisons: {closest.verdict.reason}"
    shown = closest
    if verdict.outcome == HOLDS:
        shown = next((f for f in findings if f.quantity == headline), findings[0])
    return replace(
        shown,
        verdict=Verdict(verdict.outcome, reason),
        used=closest.share,
        false_alarm=sum(one.false_alarm for one in findings),
    )

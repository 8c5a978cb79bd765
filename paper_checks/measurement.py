"""What every check needs: settings, a problem to expand, and findings with verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

import sdewm
from sdewm.base.stats import Estimate
from sdewm.sde import examples
from sdewm.theory.expansion.expand import CurveRow, Expansion
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict, agree, all_of

THRESHOLD = 5.0  # standard errors (rule b)
STEPS = 16  # of the scheme where a case does not say otherwise; the expansion is exact for any
SIZES = (0.2, 0.1, 0.05, 0.025)  # of the error (rule c)
SMALL_SIZES = (0.05, 0.025, 0.0125)  # Monte Carlo: the noise of a path-wise remainder is relative
BAND = 0.3  # around an integer order (rule c)


@dataclass(frozen=True)
class Settings:
    """What the user chooses: paths per problem, root seed and device."""

    paths: int = 100_000
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class Change:
    """`weight` times the term `source`, of another problem if given, added to `target`."""

    target: str
    weight: float
    source: str
    problem: Problem | None = None


@dataclass(frozen=True)
class Problem:
    """One expansion to be measured.

    Attributes:
        system: the system.
        error: its error.
        loss: L(y).
        x0: initial state (D,).
        t1: end time.
        steps: number of steps of the scheme.
        increments: their law.
        share: fraction of the paths of the settings that is used.
        swapped: the sizes of drift and diffusion error are exchanged in the prediction.
        changes: what a negative control does to the measured terms.
    """

    system: Any
    error: sdewm.Perturbation
    loss: Callable[[torch.Tensor], torch.Tensor]
    x0: torch.Tensor
    t1: float
    steps: int = STEPS
    increments: str = "gaussian"
    share: float = 1.0
    swapped: bool = False
    changes: tuple[Change, ...] = ()

    def changed(self, *changes: Change) -> Problem:
        """The same problem with further changes of its measured terms."""
        return replace(self, changes=self.changes + changes)


Mutate = Callable[[Any], Any]  # what a negative control does; the identity in the check itself


@dataclass(frozen=True)
class Finding:
    """A measured quantity, what it should be, and the verdict on that."""

    quantity: str
    measured: Estimate
    predicted: float
    verdict: Verdict
    allowed: float = 1.0  # difference at which the verdict changes


@lru_cache
def ready_case(system: str, **parameters: Any) -> Any:
    """The ready system of that name: one object, so that equal problems are expanded once."""
    return getattr(examples, system)(**parameters)


def case_problem(case: Any, driver: str = "same", *, drift: bool = True, **options: Any) -> Problem:
    """The problem of a ready system: its own start, loss and error."""
    diffusion = case.error_diffusion
    if driver == "independent":
        diffusion = getattr(case, "independent_error_diffusion", diffusion)
    error = sdewm.Perturbation(
        drift=case.error_drift if drift else None, diffusion=diffusion, driver=driver
    )
    return Problem(case, error, case.loss, case.x0, case.t1, **options)


class Measured:
    """The measured terms and remainders of a problem, with its changes applied.

    Changes add estimates of one and the same set of paths, whose correlation is not known here;
    their standard errors are added, which is an upper bound.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.problem, self.settings = problem, settings
        self.expansion = _expand(replace(problem, changes=(), swapped=False), settings)

    def term(self, name: str) -> Estimate:
        """One term of S4."""
        return add(self.expansion.terms[name], self._added({name: 1.0}))

    def rows(self, epsilons: Sequence[float | tuple[float, float]]) -> list[CurveRow]:
        """`Expansion.measure` with the changes in prediction and remainder."""
        rows = []
        for row in _measure(self.expansion, tuple(epsilons)):
            if self.problem.swapped:
                assert isinstance(row.epsilon, tuple)
                wrong = self.expansion.predict((row.epsilon[1], row.epsilon[0]))
                row = replace(row, predicted=wrong, remainder=subtract(row.measured, wrong))
            if self.problem.changes:
                size = row.epsilon
                assert isinstance(size, float)
                added = self._added({"c0": 1.0, "c1": size, "c2": size**2})
                row = replace(
                    row,
                    predicted=add(row.predicted, added),
                    remainder=subtract(row.remainder, added),
                )
            rows.append(row)
        return rows

    def _added(self, weights: dict[str, float]) -> Estimate:
        total = Estimate(0.0, 0.0)
        for change in self.problem.changes:
            if change.target in weights:
                source = self
                if change.problem is not None:
                    source = Measured(change.problem, self.settings)
                factor = change.weight * weights[change.target]
                total = add(total, scale(source.expansion.terms[change.source], factor))
        return total


# A claim and its negative control often need the same expansion, or the same curve.
@lru_cache(maxsize=4)
def _measure(
    expansion: Expansion, epsilons: tuple[float | tuple[float, float], ...]
) -> list[CurveRow]:
    return expansion.measure(epsilons)


@lru_cache(maxsize=4)
def _expand(problem: Problem, settings: Settings) -> Expansion:
    return sdewm.expand(
        problem.system,
        problem.error,
        problem.loss,
        problem.x0,
        t1=problem.t1,
        steps=problem.steps,
        paths=max(2, round(settings.paths * problem.share)),
        seed=settings.seed,
        device=settings.device,
        increments=problem.increments,
    )


def add(left: Estimate, right: Estimate) -> Estimate:
    """The sum, with the sum of the standard errors as an upper bound of its own."""
    return Estimate(left.value + right.value, left.standard_error + right.standard_error)


def scale(estimate: Estimate, factor: float) -> Estimate:
    """A multiple of an estimate."""
    return Estimate(factor * estimate.value, abs(factor) * estimate.standard_error)


def subtract(left: Estimate, right: Estimate) -> Estimate:
    """The difference, with an upper bound of its standard error."""
    return add(left, scale(right, -1.0))


def compare(quantity: str, measured: Estimate, predicted: float, allowed: float = 0.0) -> Finding:
    """|measured − predicted| against five standard errors plus `allowed` (rules a and b)."""
    # Antithetic or symmetric quantities may vanish path by path up to rounding.
    bias = max(allowed, 1e-12 * max(1.0, abs(predicted)))
    verdict = agree(quantity, measured, predicted, THRESHOLD, bias)
    margin = THRESHOLD * measured.standard_error + bias
    return Finding(quantity, measured, predicted, verdict, margin)


def order_finding(rows: Sequence[CurveRow], expected: float, scale: float) -> Finding:
    """Whether the remainder has the order `expected` within ±0.3, over the three smallest sizes.

    Least-squares slope of log|remainder| against log ε; its error is bounded by the sum of what
    the errors of the remainders contribute. Undecided where a remainder is known worse than to
    10 % or lies below 10³ rounding errors of the loss, whose size is `scale` (rules 10 and c).
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
            quantity, nothing, expected, Verdict(UNDECIDED, f"remainder below {floor:.1g}")
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
    if error == 0.0:  # enumeration: the slopes between neighbours instead
        pairs = range(len(tail) - 1)
        steps = [math.log(values[i] / values[i + 1]) / (logs[i] - logs[i + 1]) for i in pairs]
        low, high = min(steps), max(steps)
    else:
        low, high = slope - 2 * error, slope + 2 * error
    text = f"order {slope:.3f} in [{low:.3f}, {high:.3f}], claimed {expected:g} ± {BAND}"
    if low >= expected - BAND and high <= expected + BAND:
        outcome = HOLDS
    elif high < expected - BAND or low > expected + BAND:
        outcome = FAILS
    else:
        outcome = UNDECIDED
    return Finding(quantity, Estimate(slope, error), expected, Verdict(outcome, text), BAND)


def conclude(findings: Sequence[Finding], headline: str = "") -> Finding:
    """The conjunction of several findings.

    If all hold, the numbers are those of the quantity `headline` (default: the first) and the
    reason is that of the comparison that comes closest to failing; else both are of the worst one.
    """
    verdict = all_of([finding.verdict for finding in findings])
    deciding = [f for f in findings if f.verdict.outcome == verdict.outcome]
    closest = max(deciding, key=lambda f: abs(f.measured.value - f.predicted) / f.allowed)
    reason = f"of {len(findings)} comparisons, the closest: {closest.verdict.reason}"
    shown = closest
    if verdict.outcome == HOLDS:
        shown = next((f for f in findings if f.quantity == headline), findings[0])
    return replace(shown, verdict=Verdict(verdict.outcome, reason))

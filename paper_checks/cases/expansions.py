"""Expansions of the ready systems, each measured once and shared by the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

import sdewm
from paper_checks.findings import Settings, add, scale, subtract
from sdewm.base.stats import Estimate
from sdewm.sde import examples
from sdewm.theory.expansion.expand import CurveRow, Expansion

STEPS = 16  # of the scheme unless a case sets its number; the expansion is exact for any


@dataclass(frozen=True)
class Change:
    """`weight` times the term `source`, of another problem if given, added to `target`."""

    target: str
    weight: float
    source: str
    problem: Problem | None = None


@dataclass(frozen=True)
class Problem:
    """An expansion to be measured.

    Attributes:
        system: the system.
        error: its error.
        loss: L(y).
        x0: initial state (D,).
        t1: end time.
        steps: number of steps of the scheme.
        increments: law of the Brownian increments.
        share: fraction of the paths of the settings that is used.
        swapped: the sizes of drift and diffusion error are exchanged in the prediction.
        changes: made to the measured terms by a negative control.
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


@lru_cache
def ready_case(system: str, **parameters: Any) -> Any:
    """The ready system of this name: one object, so that equal problems are expanded once."""
    return getattr(examples, system)(**parameters)


def case_problem(case: Any, driver: str = "same", *, drift: bool = True, **options: Any) -> Problem:
    """The problem of a ready system, with its start, loss and error."""
    diffusion = case.error_diffusion
    if driver == "independent":
        diffusion = getattr(case, "independent_error_diffusion", diffusion)
    error = sdewm.Perturbation(
        drift=case.error_drift if drift else None, diffusion=diffusion, driver=driver
    )
    return Problem(case, error, case.loss, case.x0, case.t1, **options)


class Measured:
    """The measured terms and remainders of a problem, with its changes applied.

    Changes add estimates from shared paths, whose correlation is not known here. Their standard
    errors are added, which gives an upper bound.
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

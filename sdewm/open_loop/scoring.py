"""Errors of samples of a prediction and of the reference lines, and the data that these need.

Scored are single samples: the error of each of the S rollouts, then its mean over them. So the
expected error does not depend on S, and that of a rollout that has forgotten everything is the
error of recorded rows drawn at random, "shuffled": the ceiling. One-step predictions and the
ceiling are scored in the same way; the constant references have one prediction only. (The mean of
many samples would end at the error of the data mean, for squared errors half the ceiling.)

The ceiling takes other steps of other episodes. Under a policy with little randomness the same step
of another episode, "unrelated", may be a good prediction: shown beside the ceiling, it says how
much of the task is the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from sdewm.open_loop.baselines import Metric, reference_errors

Change = Callable[[np.ndarray], np.ndarray]


def themselves(errors: np.ndarray) -> np.ndarray:
    """For metrics that grow with the error as they are."""
    return errors


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric of a model and of its reference lines.

    Attributes:
        panel: its name.
        unit: of the numbers.
        errors: of the model, (E, H).
        references: the same by name, (E, H); of "unrelated" (⌊E/2⌋, H).
        reduce: the curve (H,) of errors (E, H); the mean over episodes unless said otherwise.
        growth: makes of errors numbers ≥ 0 that grow with the error and whose ceiling is the
            reference "shuffled"; None for a metric whose growth says nothing.
    """

    panel: str
    unit: str
    errors: np.ndarray
    references: dict[str, np.ndarray]
    reduce: Change = field(default=lambda errors: errors.mean(axis=0))
    growth: Change | None = None


def scored(metric: Metric, predicted: Iterable[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Mean over samples of the metric of each, (E, H)."""
    return np.mean([metric(sample, truth) for sample in predicted], axis=0)


def compared(
    panel: str,
    unit: str,
    metric: Metric,
    *,
    rollout: np.ndarray,
    one_step: np.ndarray,
    truth: np.ndarray,
    last: np.ndarray,
    mean: np.ndarray,
    shuffled: Iterable[np.ndarray],
    seed: int,
    growth: Change | None = themselves,
) -> Measured:
    """A metric of samples (S, E, H, …) against one truth (E, H, …), with all reference lines.

    The last observed row (E, …) and the mean of the data (…) are copied to every k.
    """
    lines = reference_errors(
        metric, truth, last=last, data=mean[None], one_step=one_step[0], seed=seed
    )
    lines["one_step"] = scored(metric, one_step, truth)
    lines["shuffled"] = scored(metric, shuffled, truth)
    errors = scored(metric, rollout, truth)
    return Measured(panel, unit, errors, lines, growth=growth)

"""Errors of sampled predictions and of the reference lines.

Errors are computed for each of the S rollouts and then averaged, so that the expected error does
not depend on S. If a rollout has lost all information, its error is that of recorded rows drawn at
random, "shuffled", which is the ceiling. One-step predictions and the ceiling are scored in the
same way; constant references are single predictions. (The error of the mean of many samples would
instead saturate at that of the data mean, for squared errors half the ceiling.)

The ceiling uses other steps of other episodes. Where windows begin with their episodes, and under a
nearly deterministic policy, the same step of another episode, "unrelated", may be accurate. Its
distance from the ceiling then shows how much is predictable from the time step alone. Of windows at
random places, as `sdewm analyse` takes them, it is the same k at another step: it shows nothing of
the kind, and is near the ceiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from sdewm.open_loop.baselines import Metric, reference_errors

Change = Callable[[np.ndarray], np.ndarray]


def themselves(errors: np.ndarray) -> np.ndarray:
    """The identity, for metrics that already grow with the error."""
    return errors


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric of a model and of its reference lines.

    Attributes:
        panel: name of the metric.
        unit: unit of the errors.
        errors: (E, H), of the model.
        references: errors (E, H) of the reference lines by name; (⌊E/2⌋, H) for "unrelated".
        reduce: errors (E, H) -> curve (H,); by default the mean over episodes.
        growth: transformation of errors to values ≥ 0 that grow with the error and have the ceiling
            "shuffled"; None for a metric whose growth is not meaningful.
    """

    panel: str
    unit: str
    errors: np.ndarray
    references: dict[str, np.ndarray]
    reduce: Change = field(default=lambda errors: errors.mean(axis=0))
    growth: Change | None = None


def scored(metric: Metric, predicted: Iterable[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Mean of the metric over samples, (E, H)."""
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

    The last observed row (E, …) and the mean of the data (…) are repeated at every k.
    """
    lines = reference_errors(
        metric, truth, last=last, data=mean[None], one_step=one_step[0], seed=seed
    )
    lines["one_step"] = scored(metric, one_step, truth)
    lines["shuffled"] = scored(metric, shuffled, truth)
    errors = scored(metric, rollout, truth)
    return Measured(panel, unit, errors, lines, growth=growth)

"""Returns of a policy under perturbed observations, beside its unperturbed episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sdewm.perturbations.acting import PerturbedPolicy
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.robustness.statistics import compare, t_interval
from sdewm.train.evaluation import evaluate
from sdewm.train.saved_agent import SavedAgent

OTHER_NOISE = 1  # added to the seed of the latents in the second unperturbed evaluation


def perturbed_returns(
    saved: SavedAgent,
    perturbations: Sequence[ObservationPerturbation],
    *,
    episodes: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """One row for each perturbation, after one unperturbed row and one of the noise floor.

    All rows share initial states and latent noise, so that differences are paired by episode. The
    row "noise floor" is unperturbed with other latent noise: differences of its size mean nothing.

    Args:
        saved: the trained agent; acts by mean actions.
        perturbations: what its observations suffer.
        episodes: number of episodes of each row, at least 2.
        seed: seed of the initial states.
        progress: called with the number of finished episodes of all rows together.

    Returns:
        Rows with: perturbation, mean_return, low, high (95 % t interval over episodes), difference
        to the unperturbed row with its interval and p-value, retention (ratio of the means),
        moments of what the perturbation did, and every return.

    Raises:
        ValueError: fewer than 2 episodes, or a perturbation that does not fit the observations.
    """
    if episodes < 2:
        raise ValueError(f"episodes={episodes}: expected at least 2, for an interval.")
    arms: list[tuple[str, ObservationPerturbation | None, int]] = [
        ("none", None, 0),
        ("noise floor", None, OTHER_NOISE),
        *((one.label, one, 0) for one in perturbations),
    ]
    rows: list[dict[str, Any]] = []
    for number, (label, perturbation, other) in enumerate(arms):
        policy = saved.agent.policy("mean")
        if other:
            policy.generator.manual_seed(policy.generator.initial_seed() + 1000 * other)
        acting = policy
        if perturbation is not None:
            acting = PerturbedPolicy(policy, perturbation, saved.config.env)
        found = evaluate(
            acting,
            saved.config,
            episodes=episodes,
            seed=seed,
            progress=None if progress is None else _after(progress, number * episodes),
        )
        returns = np.array([one.total_reward for one in found])
        rows.append(_row(label, returns, np.array(rows[0]["returns"]) if rows else returns))
        if isinstance(acting, PerturbedPolicy):
            rows[-1] |= acting.realised.summary()
    return rows


def _after(progress: Callable[[int], None], before: int) -> Callable[[int], None]:
    return lambda done: progress(before + done)


def _row(label: str, returns: np.ndarray, plain: np.ndarray) -> dict[str, Any]:
    mean = t_interval(returns)
    row: dict[str, Any] = {
        "perturbation": label,
        "mean_return": mean.estimate,
        "low": mean.low,
        "high": mean.high,
        "returns": returns.tolist(),
    }
    if label != "none":
        against = compare(returns, plain)
        row |= {
            "difference": against.difference.estimate,
            "difference_low": against.difference.low,
            "difference_high": against.difference.high,
            "p": against.t_p,
            "retention": float(returns.mean() / plain.mean()) if plain.mean() else None,
        }
    return row

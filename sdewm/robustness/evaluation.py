"""Returns of a policy under perturbations, beside its unperturbed episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sdewm.data.rollout import Episode
from sdewm.perturbations.parsing import Perturbation
from sdewm.robustness.acting import LatentSpread, check_applies, perturbed
from sdewm.robustness.filter_policy import FilterPolicy
from sdewm.robustness.statistics import compare, t_interval
from sdewm.train.config import Config
from sdewm.train.evaluation import evaluate
from sdewm.train.policy import AgentPolicy
from sdewm.train.saved_agent import SavedAgent
from sdewm.train.sources import RECORDED

OTHER_NOISE = 1  # added to the seed of the latents in the second unperturbed evaluation
NONE, FLOOR = "none", "noise floor"


def perturbed_returns(
    saved: SavedAgent,
    perturbations: Sequence[Perturbation],
    *,
    episodes: int,
    seed: int,
    actor: SavedAgent | None = None,
    progress: Callable[[int], None] | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """One row for each perturbation, after one unperturbed row and one of the noise floor.

    All rows share initial states, so that differences are paired by episode. Their latent noise is
    one sequence, that of the calls of the policy: where episodes end earlier under a perturbation,
    later ones meet other noise. The row "noise floor" is unperturbed with other latent noise:
    differences of its size mean nothing.

    Args:
        saved: the trained agent; acts by mean actions.
        perturbations: what it suffers.
        episodes: number of episodes of each row, at least 2.
        seed: seed of the initial states.
        actor: another agent that acts on what the world model of `saved` decodes (filter, then
            act); None: `saved` itself acts.
        progress: called with the number of finished episodes of all rows together; an exception
            that it raises ends the evaluation.
        on_row: called with each row as soon as it is done.

    Returns:
        Rows with: perturbation, mean_return, low, high (95 % t interval over episodes), difference
        to the unperturbed row with its interval and p-value, retention (ratio of the means; None
        where the unperturbed mean is not positive), moments of what the perturbation did, and every
        return. The moments are those of the change of the observations, of the latent in its
        standard deviations, or of the factor of the physics, as the simulator's model has it.

    Raises:
        ValueError: fewer than 2 episodes, a perturbation that does not fit or that changes nothing
            in the simulator, or an actor of another environment; before the first episode.
        ChildProcessError: a worker died with an episode, so that a row has another one.
    """
    if episodes < 2:
        raise ValueError(f"episodes={episodes}: expected at least 2, for an interval.")
    if actor is not None:
        check_same_task(saved.config, actor.config)
    for one in perturbations:
        check_applies(one, saved.config, own_policy=actor is None)
    arms: list[tuple[str, Perturbation | None, int]] = [
        (NONE, None, 0),
        (FLOOR, None, OTHER_NOISE),
        *((one.label, one, 0) for one in perturbations),
    ]
    rows: list[dict[str, Any]] = []
    spread = LatentSpread()
    for number, (label, perturbation, other) in enumerate(arms):
        acting: Any = _policy(saved, actor, other)
        change, realised = None, None
        if label == NONE and isinstance(acting, AgentPolicy):
            acting.latent_error = spread
        if perturbation is not None:
            deviation = spread.deviation if actor is None else torch.zeros(0)
            acting, change, realised = perturbed(
                perturbation, saved.agent, acting, deviation, saved.config.env
            )
        found = evaluate(
            acting,
            saved.config,
            episodes=episodes,
            seed=seed,
            progress=None if progress is None else _after(progress, number * episodes),
            change=change,
        )
        _require_same_episodes(label, found, min(episodes, saved.config.envs))
        returns = np.array([one.total_reward for one in found])
        rows.append(_row(label, returns, np.array(rows[0]["returns"]) if rows else returns))
        if realised is not None:
            rows[-1] |= realised.realised.summary()
        if on_row is not None:
            on_row(rows[-1])
    return rows


def _require_same_episodes(label: str, found: Sequence[Episode], envs: int) -> None:
    """Refuse a row without one of the first episodes; the next one took its place."""
    numbers = [one.env + envs * one.number for one in found]
    if numbers != [*range(len(found))]:
        raise ChildProcessError(
            f"perturbation={label!r}: its episodes are {numbers}, because a worker of the "
            "environments died with another one, and cannot be paired with those of other rows; "
            "measure it again."
        )


def _policy(saved: SavedAgent, actor: SavedAgent | None, other: int) -> AgentPolicy | FilterPolicy:
    policy = (actor or saved).agent.policy("mean")
    if other:
        policy.generator.manual_seed(policy.generator.initial_seed() + 1000 * other)
    if actor is None:
        return policy
    generator = torch.Generator().manual_seed(saved.config.seed + 3 + 1000 * other)
    return FilterPolicy(saved.agent.world_model, policy, generator)


def check_same_task(ours: Config, other: Config) -> None:
    """Refuse two runs of different environments, whose returns cannot be compared."""
    for name in RECORDED:
        first, second = getattr(ours, name), getattr(other, name)
        if first != second:
            raise ValueError(
                f"{name}={second!r}: the runs differ, the first has {first!r}; expected the same "
                "task."
            )


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
    if label != NONE:
        against = compare(returns, plain)
        row |= {
            "difference": against.difference.estimate,
            "difference_low": against.difference.low,
            "difference_high": against.difference.high,
            "p": against.t_p,
            # Of returns below 0 the ratio would rise as the policy gets worse.
            "retention": float(returns.mean() / plain.mean()) if plain.mean() > 0 else None,
        }
    return row


def over_runs(rows: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of several runs aggregated over the runs, which differ in their training seed.

    Args:
        rows: of `perturbed_returns`, one list for each run, with the same perturbations.

    Returns:
        Rows as those of one run, with intervals over the runs' means, differences paired by run,
        and the mean of the runs' moments.
    """
    found = []
    for same in zip(*rows, strict=True):
        means = np.array([one["mean_return"] for one in same])
        plain = np.array([one[0]["mean_return"] for one in rows])
        row = _row(same[0]["perturbation"], means, plain)
        for name in same[0]:
            if name.startswith("realised_"):
                row[name] = float(np.mean([one[name] for one in same]))
        found.append(row)
    return found

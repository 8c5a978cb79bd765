"""Enclosed rollouts of trained models: certificates against attacks (S34)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import sdewm
from paper_checks.cases.trained_models import WITHOUT, trained_case
from paper_checks.findings import Finding, Mutate, Settings, at_most, conclude
from sdewm.base.stats import Estimate
from sdewm.latent_sde.posterior_paths import clean_paths

START = 20  # row of the first state
EPISODES = (0, 1)


def attacked(
    settings: Settings,
    mutate: Mutate,
    *,
    name: str = WITHOUT,
    radius: float = 0.03,
    whole: bool = False,
    steps: int = 10,
) -> Finding:
    """No distance that an attack finds exceeds the bound of its path (S34).

    Args:
        settings: the seed is used.
        mutate: changes the case: the model, or the factor "claimed" of the bounds.
        name: of the shipped run.
        radius: of the ball of initial errors.
        whole: errors in the whole state, not in z alone.
        steps: of the rollouts.
    """
    case = mutate(trained_case(START + steps + 1, name=name, claimed=1.0))
    findings = []
    for e in EPISODES:
        bounds, found = _enclosed(case.model, case.episodes, e, radius, whole, steps, settings.seed)
        for k in range(1, steps + 1):
            bound = case.options["claimed"] * float(bounds[k])
            reached = Estimate(float(found[k]), 0.0)
            text = f"episode {e}, step {k}: attacked {reached.value:.6g}, bound {bound:.6g}"
            findings.append(at_most(f"largest |D_{k}| found", reached, bound, text))
    return conclude(findings, f"largest |D_{steps}| found")


# Kept for the negative control, which only claims something else of the bounds.
@lru_cache(maxsize=8)
def _enclosed(
    model: Any, recorded: Any, e: int, radius: float, whole: bool, steps: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The bounds on the path of one episode, and the largest distances found, each (N + 1,)."""
    state = clean_paths(model, recorded).states[e, START]
    system = sdewm.as_system(model, actions=recorded.previous_actions[e, START + 1 :])
    unit = torch.eye(model.state_size, dtype=torch.float64)
    directions = unit if whole else unit[:, model.latent]
    tube = sdewm.enclose_rollouts(
        system, state, radius, directions, steps=steps, paths=1, seed=seed
    )
    return tube.bounds[0], tube.attack(seed)[0]

"""The Jacobian penalty of a training run: settings, schedule of the weight, probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

import torch

from sdewm.base.checks import check_choice, check_count, check_finite_number
from sdewm.jacobian.penalty import (
    Exact,
    InputProjection,
    OutputProjection,
    check_share,
    jacobian_penalty,
    log_norm_penalty,
)
from sdewm.jacobian.probes import gaussian_probes as gaussian_probes
from sdewm.jacobian.probes import rademacher_probes as rademacher_probes
from sdewm.jacobian.probes import sphere_probes as sphere_probes
from sdewm.jacobian.products import Step, Tensors
from sdewm.jacobian.products import check_step as check_step
from sdewm.jacobian.products import step_log_norms as step_log_norms
from sdewm.jacobian.schedules import Constant, InverseRootDecay, LinearWarmUp, Schedule

PROBES = {"gaussian": gaussian_probes, "rademacher": rademacher_probes, "sphere": sphere_probes}
SQUARE_MAPS = {"deterministic": "deter", "full": "both", "multi_step": "both"}


@dataclass(frozen=True)
class PenaltyConfig:
    """The penalty of a training run; what the maps are is the model's business."""

    weight: float = 0.0
    """Weight of the penalty in the loss (its full value, for a schedule)."""
    kind: Literal["frobenius", "log_norm"] = "frobenius"
    """Norm of the Jacobian, or its logarithmic norm above a threshold (small models)."""
    map: Literal["deterministic", "prior", "full", "posterior", "multi_step"] = "full"
    """Which map: next deter; prior head; next deter with mean and spread of stoch; posterior head;
    the full map iterated."""
    inputs: Literal["deter", "stoch", "both"] = "both"
    """What it is differentiated by, as far as the map depends on it."""
    policy: Literal["fixed", "included"] = "fixed"
    """The action is held fixed, or follows the state through the policy."""
    steps: int = 4
    """Steps of the map "multi_step"."""
    estimator: Literal["exact", "gaussian", "rademacher", "sphere"] = "rademacher"
    """Exact (small models) or random projections."""
    side: Literal["input", "output"] = "output"
    """Probes v in the inputs (J v) or in the outputs (Jᵀ v)."""
    probes: int = 1
    """Random projections per row."""
    squared: bool = True
    """Square of the norm, or the norm itself (biased low under projections)."""
    share: float = 1.0
    """Share of the replayed states it is evaluated at, drawn anew at each update."""
    schedule: Literal["constant", "warm_up", "decay"] = "constant"
    """Weight over the updates u, U = schedule_updates: w, w·min(1, u/U), or w/√(u/U + 1)."""
    schedule_updates: int = 1000
    """U of the schedule."""
    floor: float = 0.0
    """Least weight of the decay."""
    log_norm_threshold: float = 0.0
    """Rate per step up to which the logarithmic norm costs nothing."""


def check_penalty(config: PenaltyConfig) -> None:
    """Check every field and their combination.

    Raises:
        ValueError: naming the field, its value and what is allowed.

    >>> check_penalty(PenaltyConfig(map="prior", inputs="stoch"))
    Traceback (most recent call last):
    ...
    ValueError: inputs='stoch': the map 'prior' does not depend on it; use 'deter'.
    """
    for name, annotation in get_type_hints(PenaltyConfig).items():
        if get_origin(annotation) is Literal:
            check_choice(name, getattr(config, name), get_args(annotation))
    for name in ("steps", "probes", "schedule_updates"):
        check_count(name, getattr(config, name))
    check_share(config.share)
    check_finite_number("log_norm_threshold", config.log_norm_threshold)
    weight_schedule(config)
    if config.floor and config.schedule != "decay":
        raise ValueError(f"floor={config.floor!r}: only schedule='decay' has a floor.")
    heads = config.map in ("prior", "posterior")
    if heads and config.inputs == "stoch":
        raise ValueError(
            f"inputs='stoch': the map {config.map!r} does not depend on it; use 'deter'."
        )
    if heads and config.policy == "included":
        raise ValueError(
            f"policy='included': no action enters the map {config.map!r}; use 'fixed'."
        )
    if config.kind == "log_norm" and SQUARE_MAPS.get(config.map) != config.inputs:
        allowed = "; ".join(f"map={m!r} with inputs={i!r}" for m, i in SQUARE_MAPS.items())
        raise ValueError(
            f"kind='log_norm' needs a map from a state to the next: {allowed}; given "
            f"map={config.map!r} with inputs={config.inputs!r}."
        )


def weight_schedule(config: PenaltyConfig) -> Schedule:
    """The weight as a function of the number of updates."""
    if config.schedule == "warm_up":
        return LinearWarmUp(config.weight, config.schedule_updates)
    if config.schedule == "decay":
        return InverseRootDecay(config.weight, config.floor, config.schedule_updates)
    return Constant(config.weight)


def draw_probes(
    config: PenaltyConfig, inputs: Tensors, outputs: Tensors, generator: torch.Generator
) -> torch.Tensor | None:
    """The probes the config asks for, None if it needs none; outside the compiled region.

    `inputs` and `outputs` give the number of rows, their sizes, dtype and device, nothing else.
    """
    if config.kind == "log_norm" or config.estimator == "exact":
        return None
    like = inputs if config.side == "input" else outputs
    return PROBES[config.estimator](config.probes, like, generator)


def configured_penalty(
    config: PenaltyConfig, step: Step, inputs: Tensors, probes: torch.Tensor | None
) -> torch.Tensor:
    """The penalty of the config without its weight: a scalar; `probes` from `draw_probes`."""
    if config.kind == "log_norm":
        return log_norm_penalty(step, inputs, config.log_norm_threshold)
    if probes is None:
        return jacobian_penalty(step, inputs, Exact(), squared=config.squared)
    side = InputProjection if config.side == "input" else OutputProjection
    return jacobian_penalty(step, inputs, side(probes), squared=config.squared)


def describe_penalty(config: PenaltyConfig, inputs: int, outputs: int) -> str:
    """The weight with its normalisation, for the log; `inputs` = n and `outputs` = C.

    >>> print(describe_penalty(PenaltyConfig(weight=0.01), inputs=20, outputs=30))
    Jacobian penalty: weight 0.01 × mean over all states of ‖J‖_F², the sum of 30 × 20 squared
    derivatives (weight 6 on their mean), no factor ½; J = ∂ full / ∂ both, policy fixed; estimated
    by 1 rademacher probe(s) per state on the output side.
    """
    share = f"a random {100 * config.share:g} % of the states"
    states = "all states" if config.share == 1 else share
    head = f"Jacobian penalty: weight {weight_schedule(config)} × mean over {states} of "
    entering = "deter" if config.map in ("prior", "posterior") else config.inputs
    entering += " and embed" if (config.map, config.inputs) == ("posterior", "both") else ""
    jacobian = f"J = ∂ {config.map} / ∂ {entering}, policy {config.policy}"
    if config.map == "multi_step":
        jacobian += f", {config.steps} steps"
    if config.kind == "log_norm":
        return (
            f"{head}max(0, λ − {config.log_norm_threshold:g}), λ the rate of mean-square growth "
            f"per step; {jacobian}; exact."
        )
    size = f"{outputs} × {inputs} squared derivatives"
    norm = f"‖J‖_F², the sum of {size} (weight {config.weight * outputs * inputs:g} on their mean)"
    if not config.squared:
        norm = f"‖J‖_F, the root of the sum of {size}"
    how = "exact"
    if config.estimator != "exact":
        how = f"estimated by {config.probes} {config.estimator} probe(s) per state"
        how += f" on the {config.side} side"
    return f"{head}{norm}, no factor ½; {jacobian}; {how}."

"""The Jacobian penalty of a training run: settings, schedule of the weight, probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le

from sdewm.base.fields import NonNegativeFloat, PositiveInt, check_fields, dotted
from sdewm.jacobian.penalty import (
    Exact,
    InputProjection,
    OutputProjection,
    jacobian_penalty,
    log_norm_penalty,
)
from sdewm.jacobian.probes import gaussian_probes, rademacher_probes, sphere_probes
from sdewm.jacobian.products import Step, Tensors
from sdewm.jacobian.schedules import Constant, InverseRootDecay, LinearWarmUp, Schedule

PROBES = {"gaussian": gaussian_probes, "rademacher": rademacher_probes, "sphere": sphere_probes}
SQUARE_MAPS = {"deterministic": "deter", "full": "both", "multi_step": "both"}


@dataclass(frozen=True)
class PenaltyConfig:
    """The penalty of a training run; the maps themselves are defined by the model."""

    weight: NonNegativeFloat = 0.0
    """Weight of the penalty in the loss; 0: no penalty. The largest value of a schedule."""
    kind: Literal["frobenius", "log_norm"] = "frobenius"
    """Frobenius norm of the Jacobian, or its logarithmic norm above a threshold (small models)."""
    map: Literal["deterministic", "prior", "full", "posterior", "multi_step"] = "full"
    """Map whose Jacobian is penalised.
    deterministic: next deter; prior: prior head; posterior: posterior head;
    full: next deter with mean and spread of the next stoch;
    multi_step: the full map applied several times, along the means of stoch."""
    inputs: Literal["deter", "stoch", "both"] = "both"
    """Parts of the latent state with respect to which the map is differentiated."""
    policy: Literal["fixed", "included"] = "fixed"
    """Hold the action fixed, or differentiate through the policy as well."""
    steps: PositiveInt = 4
    """Number of steps of the map multi_step."""
    estimator: Literal["exact", "gaussian", "rademacher", "sphere"] = "rademacher"
    """Exact Jacobian (small models), or the distribution of the random probes."""
    side: Literal["input", "output"] = "output"
    """Apply probes v to the inputs (products J v) or to the outputs (products Jᵀ v)."""
    probes: PositiveInt = 1
    """Number of random probes per state."""
    squared: bool = True
    """Penalise the squared norm, or the norm itself (biased low under random probes)."""
    fraction: Annotated[float, Gt(0), Le(1)] = 1.0
    """Fraction of the replayed states used, drawn anew at each update."""
    schedule: Literal["constant", "warmup", "decay"] = "constant"
    """Weight after u updates, with U = schedule_updates: w, w·min(1, u/U) or w/√(u/U + 1)."""
    schedule_updates: PositiveInt = 1000
    """Time constant U of the schedule, in updates."""
    floor: NonNegativeFloat = 0.0
    """Smallest weight of the schedule decay."""
    excess_over: NonNegativeFloat = 0.0
    """Penalise max(0, mean ‖J‖_F² − this). The number of modes that prediction has to remember
    leaves its memory alone (S29)."""
    log_norm_threshold: float = 0.0
    """Logarithmic norm below which nothing is penalised: a rate per step, of the map multi_step per
    `steps` steps."""


def check_penalty(config: PenaltyConfig, name: str = "") -> None:
    """Check every field and their combination.

    Args:
        config: the penalty.
        name: what errors call it, such as "jacobian" in a run's configuration.

    Raises:
        ValueError: naming the field, its value and what is allowed.

    >>> check_penalty(PenaltyConfig(map="prior", inputs="stoch"), "jacobian")
    Traceback (most recent call last):
    ...
    ValueError: jacobian.inputs='stoch': jacobian.map='prior' does not depend on it; use 'deter'.
    """
    check_fields(config, name)

    def given(field: str) -> str:
        return f"{dotted(name, field)}={getattr(config, field)!r}"

    if config.floor and config.schedule != "decay":
        raise ValueError(f"{given('floor')}: only {dotted(name, 'schedule')}='decay' has a floor.")
    if config.floor > config.weight:
        raise ValueError(f"{given('floor')}: expected at most {given('weight')}.")
    if config.excess_over and (config.kind != "frobenius" or not config.squared):
        raise ValueError(
            f"{given('excess_over')}: only the squared Frobenius norm has it; {given('kind')} and "
            f"{given('squared')} were given."
        )
    heads = config.map in ("prior", "posterior")
    if heads and config.inputs == "stoch":
        raise ValueError(f"{given('inputs')}: {given('map')} does not depend on it; use 'deter'.")
    if heads and config.policy == "included":
        raise ValueError(f"{given('policy')}: no action enters {given('map')}; use 'fixed'.")
    if config.kind == "log_norm" and SQUARE_MAPS.get(config.map) != config.inputs:
        allowed = "; ".join(f"map={m!r} with inputs={i!r}" for m, i in SQUARE_MAPS.items())
        raise ValueError(
            f"{given('kind')} needs a map from a state to the next: {allowed}; "
            f"{given('map')} and {given('inputs')} were given."
        )


def weight_schedule(config: PenaltyConfig) -> Schedule:
    """The weight as a function of the number of updates."""
    if config.schedule == "warmup":
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
    side = InputProjection if config.side == "input" else OutputProjection
    estimator = Exact() if probes is None else side(probes)
    penalty = jacobian_penalty(step, inputs, estimator, squared=config.squared)
    return (penalty - config.excess_over).clamp(min=0.0) if config.excess_over else penalty


def describe_penalty(config: PenaltyConfig, inputs: int, outputs: int) -> str:
    """The weight with its normalisation, for the log; `inputs` = n and `outputs` = C.

    >>> print(describe_penalty(PenaltyConfig(weight=0.01), inputs=20, outputs=30))
    Jacobian penalty: weight 0.01 × mean over all states of ‖J‖_F², the sum of 30 × 20 squared
    derivatives (weight 6 on their mean), no factor ½; J = ∂ full / ∂ both, policy fixed; estimated
    by 1 rademacher probe(s) per state on the output side.
    """
    some = f"a random {100 * config.fraction:g} % of the states"
    states = "all states" if config.fraction == 1 else some
    head = f"Jacobian penalty: weight {weight_schedule(config)} × mean over {states} of "
    entering = "deter" if config.map in ("prior", "posterior") else config.inputs
    entering += " and embed" if (config.map, config.inputs) == ("posterior", "both") else ""
    jacobian = f"J = ∂ {config.map} / ∂ {entering}, policy {config.policy}"
    period = "step"
    if config.map == "multi_step":
        jacobian += f", {config.steps} steps"
        period = f"{config.steps} steps"
    if config.kind == "log_norm":
        return (
            f"{head}max(0, λ − {config.log_norm_threshold:g}), λ the rate of mean-square growth "
            f"per {period}; {jacobian}; exact."
        )
    size = f"{outputs} × {inputs} squared derivatives"
    norm = f"‖J‖_F², the sum of {size} (weight {config.weight * outputs * inputs:g} on their mean)"
    if config.excess_over:
        norm = f"its excess over {config.excess_over:g}; that is of {norm}"
    if not config.squared:
        norm = f"‖J‖_F, the root of the sum of {size}"
    how = "exact"
    if config.estimator != "exact":
        how = f"estimated by {config.probes} {config.estimator} probe(s) per state"
        how += f" on the {config.side} side"
    return f"{head}{norm}, no factor ½; {jacobian}; {how}."

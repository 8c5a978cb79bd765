"""Penalties on the Jacobian of a step function; the step may belong to anybody's model.

Three lines in somebody else's trainer, here with a bare GRU cell:

>>> cell, generator = torch.nn.GRUCell(3, 5), torch.Generator().manual_seed(0)
>>> x, h = torch.ones(7, 3), torch.zeros(7, 5)
>>> loss = cell(x, h).square().mean()
>>> probes = rademacher_probes(1, h, generator)
>>> penalty = jacobian_penalty(lambda h: cell(x, h), h, InputProjection(probes))
>>> (loss + 0.01 * penalty).backward()

**Which derivatives.** J is the derivative of all outputs of the step by the tensors given as
`inputs`, deter, stoch or both; the rest is held fixed in a closure, as `x` above. `step` is called
with the inputs in their order and treats rows independently (`check_step`). A
straight-through sample has no derivative that means anything (S25): pass a smooth map, mean and
standard deviation or class probabilities.

**Normalisation.** The mean over the B rows given of ‖J_b‖_F², the sum of all C·n squared
derivatives: no factor ½, no division by C or n. `describe_penalty` says it for the log.

Gradients go to the parameters of the step, and into the inputs unless these are detached; an
ordinary `backward()` follows. Everything but the drawing of probes and rows works inside
`torch.compile(fullgraph=True)`. Statement numbers: `paper_checks/MATHEMATICS.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le

from sdewm.base.checks import check_count, check_finite_number
from sdewm.base.fields import NonNegativeFloat, PositiveInt, check_fields, dotted
from sdewm.base.jacobians import Step, Tensors, pull_back, push_forward, row_jacobians
from sdewm.base.jacobians import check_step as check_step
from sdewm.base.jacobians import step_log_norms as step_log_norms
from sdewm.base.probes import gaussian_probes as gaussian_probes
from sdewm.base.probes import rademacher_probes as rademacher_probes
from sdewm.base.probes import sphere_probes as sphere_probes
from sdewm.base.schedules import Constant, InverseRootDecay, LinearWarmUp, Schedule

PROBES = {"gaussian": gaussian_probes, "rademacher": rademacher_probes, "sphere": sphere_probes}
SQUARE_MAPS = {"deterministic": "deter", "full": "both", "multi_step": "both"}
ROOT_GUARD = 1e-12


def _row_sums(squares_of: torch.Tensor) -> torch.Tensor:
    """Squares summed over all but the first axis, at least in float32."""
    wide = squares_of.to(torch.promote_types(squares_of.dtype, torch.float32))
    return wide.square().flatten(1).sum(1)


@dataclass(frozen=True, eq=False)
class Exact:
    """‖J_b‖_F² for every row (B,), in min(C, n) passes; preferred up to some 64 of them."""

    def __call__(self, step: Step, inputs: Tensors) -> torch.Tensor:
        """The squared norms (B,)."""
        return _row_sums(row_jacobians(step, inputs))


@dataclass(frozen=True, eq=False)
class InputProjection:
    """|J_b v|² averaged over K probes: unbiased for ‖J_b‖_F², one product J v per probe (S22).

    Attributes:
        probes: (K, B, n) with E v vᵀ = I, such as `rademacher_probes(K, inputs, generator)`; n
            orthogonal ones of length √n give the exact value.
    """

    probes: torch.Tensor

    def __call__(self, step: Step, inputs: Tensors) -> torch.Tensor:
        """The estimates (B,)."""
        return _mean_over_probes(push_forward(step, inputs), self.probes)


@dataclass(frozen=True, eq=False)
class OutputProjection:
    """|J_bᵀ v|² averaged over K probes: unbiased for ‖J_b‖_F², one product Jᵀv per probe (S22).

    Attributes:
        probes: (K, B, C) with E v vᵀ = I, such as `rademacher_probes(K, outputs, generator)`; C
            orthogonal ones of length √C give the exact value.
    """

    probes: torch.Tensor

    def __call__(self, step: Step, inputs: Tensors) -> torch.Tensor:
        """The estimates (B,)."""
        return _mean_over_probes(pull_back(step, inputs)[1], self.probes)


Estimator = Callable[[Step, Tensors], torch.Tensor]


def _mean_over_probes(
    image: Callable[[torch.Tensor], torch.Tensor], probes: torch.Tensor
) -> torch.Tensor:
    """Mean over K of |image(v_k)|², shape (B,)."""
    if probes.dim() != 3:
        raise ValueError(f"probes have shape {tuple(probes.shape)}; expected (K, B, n or C).")
    if len(probes) == 1:
        return _row_sums(image(probes[0]))
    images = torch.func.vmap(image)(probes)  # (K, B, C or n)
    return _row_sums(images.movedim(0, 1)) / len(probes)


def jacobian_penalty(
    step: Step, inputs: Tensors, estimator: Estimator, *, squared: bool = True
) -> torch.Tensor:
    """Mean over the rows of ‖J_b‖_F², or of ‖J_b‖_F if not `squared`.

    Args:
        step: function of the inputs in their order; outputs a tensor or tuple of tensors (B, …).
        inputs: tensor or tuple of tensors (B, …) by which it is differentiated.
        estimator: `Exact()`, `InputProjection(probes)` or `OutputProjection(probes)`.
        squared: the square is unbiased under probes. The root, √(mean over probes + 1e-12) row by
            row, is biased low, less so with more probes (S23); it is taken after that mean.

    Returns:
        A scalar, at least in float32, without its weight.

    Raises:
        ValueError: shapes that do not fit.

    >>> step = lambda h, z: (2 * h + z[:, :2], z.square())
    >>> inputs = torch.zeros(4, 2), torch.ones(4, 3)
    >>> jacobian_penalty(step, inputs, Exact())  # 2 · 2² + 2 · 1² + 3 · 2²
    tensor(22.)
    """
    squares = estimator(step, inputs)
    return squares.mean() if squared else (squares + ROOT_GUARD).sqrt().mean()


def log_norm_penalty(step: Step, inputs: Tensors, threshold: float = 0.0) -> torch.Tensor:
    """Mean over the rows of max(0, `step_log_norms` − threshold), a scalar without its weight."""
    return (step_log_norms(step, inputs) - threshold).clamp(min=0.0).mean()


def draw_rows(total: int, fraction: float, generator: torch.Generator) -> torch.Tensor:
    """Indices of a random subset of rows: round(fraction · total), at least 1, no row twice.

    Penalties are means over the rows they are given, so a fraction changes the variance and the
    cost, not the weight.

    >>> draw_rows(10, 0.3, torch.Generator().manual_seed(0)).shape
    torch.Size([3])
    """
    if not 0.0 < check_finite_number("fraction", fraction) <= 1.0:
        raise ValueError(f"fraction={fraction!r}: expected a fraction of the rows in (0, 1].")
    count = max(1, round(fraction * check_count("total", total)))
    return torch.randperm(total, generator=generator, device=generator.device)[:count]


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
    multi_step: the full map applied several times."""
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
    log_norm_threshold: float = 0.0
    """Logarithmic norm (rate per step) below which nothing is penalised."""


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
    some = f"a random {100 * config.fraction:g} % of the states"
    states = "all states" if config.fraction == 1 else some
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

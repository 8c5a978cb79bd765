"""Rows that a world model visits along recorded inputs, at which its contract is checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sdewm.base.checks import check_output
from sdewm.latent_sde.inputs import ModelInputs, embed_by_time
from sdewm.latent_sde.model_parts import Rows
from sdewm.latent_sde.models import REFUSALS, LatentModel, StepModel, factored_law
from sdewm.latent_sde.noise_factor import FactoredModel

EPISODES = 4  # that are followed
STEPS = 16  # that they are followed for, from the first row on
FEW = (slice(EPISODES), slice(STEPS))
ROWS = 32  # of all that they visit, at which everything is checked
NUMBERS = 1 << 22  # of the noise factors of these rows, (N, D, M)
NAN = "look for it in the weights, a division by zero or the logarithm of zero"
Function = Callable[..., Any]


def first_inputs(inputs: ModelInputs) -> ModelInputs:
    """Copies of the first inputs."""
    actions, seen = inputs.actions, inputs.observations
    return ModelInputs(
        None if actions is None else actions[FEW].clone(),
        None if seen is None else seen[FEW].clone(),
        inputs.policy,
    )


def embeds_of(model: LatentModel, inputs: ModelInputs) -> Tensor | None:
    """Embeds (T, E, …), or None for a model that takes no observations."""
    seen = inputs.observations
    if seen is None or (isinstance(model, StepModel) and model.encoder is None):
        return None
    found = embed_by_time(model, seen.clone())
    shape = (*seen.shape[1::-1], *getattr(found, "shape", (0, 0))[2:])
    like = torch.zeros((), dtype=torch.float64, device=seen.device)
    return check_output("model.embed", found, shape, like=like)


def start_rows(model: LatentModel, inputs: ModelInputs, embeds: Tensor | None) -> Rows:
    """The initial state with the inputs of the first step."""
    table, seen = inputs.actions, inputs.observations
    count, place = (EPISODES, None) if table is None else (len(table), table.device)
    first, shape = model.initial(count), (count, model.state_size)
    like = torch.zeros((), dtype=torch.float64, device=getattr(first, "device", None))
    state = check_output("model.initial", first, shape, like=like).to(place)
    if table is None:
        assert inputs.policy is not None
        action = called("policy", inputs.policy, (state,))
        check_output("policy", action, (count, *getattr(action, "shape", (0,))[1:]), like=state)
    else:
        action = table[:, 0]
    noise = _noise(model, count, torch.Generator(state.device).manual_seed(0), embeds is None)
    if embeds is None or seen is None:
        return Rows(state, action, noise, state)
    return Rows(state, action, noise, state, embeds[0], seen[:, 0])


def _noise(model: LatentModel, count: int, generator: torch.Generator, prior: bool) -> Tensor:
    if prior:
        drawn = torch.randn(count, model.noise_size, generator=generator, device=generator.device)
        return drawn.double()
    return model.draw_noise((count,), generator)


def visited_rows(
    model: LatentModel, start: Rows, inputs: ModelInputs, embeds: Tensor | None
) -> Rows:
    """Rows of some paths from the initial state, spread over their steps."""
    seen, table = inputs.observations, inputs.actions
    steps = STEPS if table is None else table.shape[1]
    generator = torch.Generator(start.state.device).manual_seed(0)
    state, count, rows = start.state, len(start.state), []
    for t in range(steps):
        if table is not None:
            action = table[:, t]
        else:
            assert inputs.policy is not None
            action = called("policy", inputs.policy, (state,))
        noise = _noise(model, count, generator, embeds is None)
        if embeds is None:
            law = partial(factored_law, model)
            mean, factor = called("the world model", law, (state, action, None))
            after, predicted = mean + factor.product(noise), mean
        else:
            given = (state, action, embeds[t], noise)
            after, predicted = called("the world model", model.sample, given)
        if not bool(torch.isfinite(after).all()):
            break  # the computation itself says where paths leave the finite numbers
        row = {"state": state, "action": action, "noise": noise, "predicted": predicted}
        if embeds is not None and seen is not None:
            row |= {"embed": embeds[t], "observation": seen[:, t]}
        rows.append(row)
        state = after
    if not rows:
        raise ValueError(f"the first step from the initial state has nan or infinity: {NAN}")
    joined = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    total = len(rows) * count
    size = model.state_size * (max(1, model.noise_size) if is_dense(model) else 1)
    kept = max(4, min(ROWS, NUMBERS // size))
    chosen = torch.linspace(0, total - 1, min(total, kept)).round().long().to(state.device)
    return Rows(**{name: table[chosen] for name, table in joined.items()})


def is_dense(model: LatentModel) -> bool:
    """Whether the entries of the noise factor are those of the matrix."""
    return isinstance(model, StepModel) or not isinstance(model, FactoredModel)


def called(name: str, function: Function, arguments: tuple[Tensor | None, ...]) -> Any:
    """The function of copies of its arguments; its errors say what it was given."""
    try:
        return function(*(None if part is None else part.clone() for part in arguments))
    except torch.OutOfMemoryError:
        raise
    except REFUSALS as problem:
        shapes = ", ".join(str(tuple(part.shape)) for part in arguments if part is not None)
        raise ValueError(
            f"{name} does not take these inputs (float64, {shapes}): {problem}"
        ) from problem

"""Inputs of a world model: recorded actions and observations, or a policy in the loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sdewm.base.checks import check_place
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import REFUSALS, LatentModel

_EMBEDS: WeakKeyDictionary[LatentModel, tuple[Any, Tensor]] = WeakKeyDictionary()
LatentPolicy = Callable[[Tensor], Tensor]  # states (B, D) to actions (B, A)


@dataclass(frozen=True)
class ModelInputs:
    """What a world model takes at each step besides its state.

    Attributes:
        actions: (E, T, A), float64; None: those of the policy.
        observations: (E, T, *shape); None: the model imagines.
        policy: states (B, D) -> actions (B, A), instead of `actions`.
    """

    actions: Tensor | None
    observations: Tensor | None = None
    policy: LatentPolicy | None = None


def episode_inputs(episodes: Episodes, policy: LatentPolicy | None = None) -> ModelInputs:
    """The inputs of recorded episodes; a policy is checked besides the recorded actions."""
    return ModelInputs(episodes.previous_actions.double(), episodes.observations, policy)


def model_inputs(
    actions: Tensor | None, policy: LatentPolicy | None, observations: Tensor | None
) -> ModelInputs:
    """The inputs as a user gives them, (T, …) or (E, T, …), checked.

    Raises:
        ValueError: both or neither of actions and policy, or shapes that do not fit.
    """
    if (actions is None) == (policy is None):
        both = "neither" if actions is None else "both"
        raise ValueError(f"{both} of actions and policy given: expected exactly one of them.")
    if policy is not None and not callable(policy):
        raise ValueError(f"policy={policy!r}: expected a function of the states (B, D).")
    table = None if actions is None else by_time("actions", actions, 1).transpose(0, 1).double()
    seen = None if observations is None else _observations_by_time(observations).transpose(0, 1)
    if table is not None and seen is not None and table.shape[:2] != seen.shape[:2]:
        raise ValueError(
            f"observations have (T, E) = {tuple(seen.shape[1::-1])}, actions "
            f"{tuple(table.shape[1::-1])}: expected the same."
        )
    return ModelInputs(table, seen, policy)


def embed_by_time(model: LatentModel, observations: Tensor) -> Tensor:
    """Embeds (T, E, …) of observations (T, *shape) or (E, T, *shape); images are uint8.

    Raises:
        ValueError: a shape that the encoder does not take.
    """
    rows = _observations_by_time(observations)
    try:
        return model.embed(rows)
    except torch.OutOfMemoryError:
        raise
    except REFUSALS as problem:
        images = " (images are uint8 with channels last: observation.double() / 255 converts them)"
        raise ValueError(
            f"the encoder does not take observations {tuple(observations.shape)} of "
            f"{observations.dtype}{images if observations.dtype == torch.uint8 else ''}: {problem}"
        ) from problem


def recorded_embeds(model: LatentModel, observations: Tensor) -> Tensor:
    """`embed_by_time` of recorded observations, which a frozen model encodes once.

    The embeds of the last ones are kept, by a digest of their bytes. Other models are asked again,
    as their weights may have changed.
    """
    if not (getattr(model, "frozen", False) and isinstance(observations, Tensor)):
        return embed_by_time(model, observations)
    key = digest_of(observations)
    if _EMBEDS.get(model, (None,))[0] != key:
        _EMBEDS[model] = (key, embed_by_time(model, observations))
    return _EMBEDS[model][1]


def digest_of(values: Tensor) -> tuple[Any, ...]:
    """A key that equal tensors share: a digest of their bytes, with shape, dtype and device."""
    plain = values.detach().cpu().contiguous()
    digest = hashlib.blake2b(plain.view(torch.uint8).numpy().data, digest_size=16).digest()
    return digest, values.shape, values.dtype, values.device


def _observations_by_time(observations: Tensor) -> Tensor:
    images = getattr(observations, "dtype", None) == torch.uint8
    return by_time("observations", observations, 3 if images else 1)


def by_time(name: str, table: Tensor, shape: int) -> Tensor:
    """(T, E, …) from (T, …) or (E, T, …), where a row has `shape` axes."""
    if not isinstance(table, Tensor):
        raise ValueError(f"{name} is a {type(table).__name__}: expected a tensor.")
    check_place(name, table)
    if table.dim() == shape + 1:
        return table.unsqueeze(1)
    if table.dim() != shape + 2 or table.numel() == 0:
        raise ValueError(
            f"{name} have shape {tuple(table.shape)}: expected (T, …) or (E, T, …) with {shape} "
            "axes after them."
        )
    return table.transpose(0, 1)

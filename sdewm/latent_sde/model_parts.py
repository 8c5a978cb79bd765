"""Parts that a world model may have besides its step: decoder, heads, policy; and their absence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sdewm.base.checks import check_choice, check_output
from sdewm.model.heads import ScalarHead

StateFunction = Callable[[Tensor], Tensor]  # of states (B, D)

REMEDIES = {
    "decoder": "pass decoder= to sdewm.RSSM or sdewm.StepModel",
    "reward": "pass reward= to sdewm.RSSM or sdewm.StepModel",
    "critic": "pass critic= to sdewm.RSSM or sdewm.StepModel",
    "policy": "pass policy= to sdewm.RSSM or sdewm.StepModel",
    "kl": "it compares laws of z given h; sdewm.RSSM knows them with gaussian= or onehot=, but a "
    "deterministic z (noise_size=0) has none",
}


class Decoder(Protocol):
    """Maps states (…, D) to a prediction of the observation."""

    def loss(self, features: Tensor, observation: Tensor) -> Tensor:
        """Reconstruction loss per state, summed over the observation's components: (…)."""
        ...

    def predict(self, features: Tensor) -> Tensor:
        """Expected observation in the environment's units; images as floats in [0, 1]."""
        ...


@dataclass(frozen=True)
class FunctionDecoder:
    """A decoder of a function states (B, D) -> predicted observations (B, *shape).

    >>> decoder = FunctionDecoder(lambda states: 2 * states)
    >>> decoder.loss(torch.ones(1, 2), torch.zeros(1, 2))  # Σ (x − x̂)²
    tensor([8.])
    """

    function: StateFunction

    def predict(self, features: Tensor) -> Tensor:
        """The predicted observations (B, *shape)."""
        return self.function(features)

    def loss(self, features: Tensor, observation: Tensor) -> Tensor:
        """Σ (x − x̂)² over the observation's components (B,); images are scaled to [0, 1]."""
        target = observation / 255 if observation.dtype == torch.uint8 else observation
        shape = tuple(target.shape)
        predicted = check_output("decoder", self.predict(features), shape, like=features)
        return (predicted - target).square().flatten(1).sum(1)


class HeadMean:
    """The mean of a head as a function of states, from a copy of the head in float64."""

    def __init__(self, head: ScalarHead) -> None:
        self.head = copy.deepcopy(head).double().requires_grad_(False).eval()

    def __call__(self, states: Tensor) -> Tensor:
        """The mean (…) at states (…, D)."""
        return self.head.mean(self.head(states))


def missing_part(model: object, name: str) -> str | None:
    """The reason why a part of a model cannot be used, with a remedy; None if the part is there.

    >>> missing_part(object(), "critic")
    'object has no critic: pass critic= to sdewm.RSSM or sdewm.StepModel'
    """
    check_choice("name", name, REMEDIES)
    if getattr(model, name, None) is not None:
        return None
    return f"{type(model).__name__} has no {name}: {REMEDIES[name]}"


def required_part(model: object, name: str) -> Any:
    """A part of a model.

    Raises:
        ValueError: the model does not have it; names what to pass.
    """
    if (reason := missing_part(model, name)) is not None:
        raise ValueError(f"world_model={reason}.")
    return getattr(model, name)


@dataclass(frozen=True)
class Rows:
    """What a model is given along its paths, each (N, …); without observations None."""

    state: Tensor
    action: Tensor
    noise: Tensor
    predicted: Tensor
    embed: Tensor | None = None
    observation: Tensor | None = None


@dataclass(frozen=True)
class Part:
    """A function of a model, what it is given, and the shapes of what it returns; None: any."""

    function: Callable[..., Any]
    arguments: tuple[Tensor, ...]
    shapes: tuple[tuple[int, ...] | None, ...]


def consecutive(latent: object, size: int) -> slice:
    """The components z of a state of `size` numbers, as a slice from start to stop; None: all.

    Raises:
        ValueError: no slice, or one of other than consecutive components, at least one.
    """
    given = slice(None) if latent is None else latent
    start, stop, stride = given.indices(size) if isinstance(given, slice) else (0, 0, 1)
    if stride != 1 or stop <= start:
        raise ValueError(
            f"latent={latent!r}: expected a slice of one or more of the {size} components, one "
            "after the other."
        )
    return slice(start, stop)


def sensible_moments(encoder: Callable[..., Any], noise_size: int, *given: Tensor) -> Any:
    """What an encoder returns, as it is.

    Raises:
        ValueError: standard deviations below 0, such as logarithms, or above 0 without noise.
    """
    value = encoder(*given)
    if not isinstance(value, tuple | list) or len(value) != 2 or not isinstance(value[1], Tensor):
        return value
    std = value[1]
    if bool((std < 0).any()):
        raise ValueError(
            f"encoder returned a standard deviation of {float(std.min()):.3g}: expected numbers of "
            "at least 0; of a logarithm, return the exponential."
        )
    if noise_size == 0 and bool((std > 0).any()):
        raise ValueError(
            f"encoder returned a standard deviation of {float(std.max()):.3g}, and the model has "
            "no noise (noise_size=0): expected z alone, (B, Z)."
        )
    return value


def initial_row(name: str, row: object, size: int) -> Tensor:
    """A row (size,) of an initial state, as a copy in float64 without gradient.

    Raises:
        ValueError: not a tensor of that shape.
    """
    if not isinstance(row, Tensor) or tuple(row.shape) != (size,):
        given = tuple(row.shape) if isinstance(row, Tensor) else type(row).__name__
        raise ValueError(f"{name}={given}: expected a tensor of shape ({size},).")
    return row.detach().to(torch.float64, copy=True)

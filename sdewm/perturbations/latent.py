"""Errors injected into the latent state after the encoder, while a policy acts.

With σ the standard deviation of each component of stoch in unperturbed episodes, and ξ drawn anew
at every step, stoch receives

    latent-noise    s·σ·ξ, ξ standard normal                     (zero drift)
    latent-heavy    s·σ·ξ, ξ Student's t with 3 degrees of freedom, scaled to unit variance
    latent-scale    s·ξ·stoch, ξ standard normal                 (multiplicative)
    latent-drift    s·σ·c, c a sign for each component, fixed for the episode
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdewm.perturbations.named import NamedPerturbation

DEGREES = 3  # of freedom: the fourth moment is infinite


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _student(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    normal = torch.randn((DEGREES + 1, *shape), generator=generator)
    chi = normal[1:].square().mean(0)
    return normal[0] / chi.sqrt() / math.sqrt(DEGREES / (DEGREES - 2))


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator).sign()


DRAWS: dict[str, Callable[[tuple[int, ...], torch.Generator], Tensor]] = {
    "latent-noise": _normal,
    "latent-heavy": _student,
    "latent-scale": _normal,
    "latent-drift": _signs,
}


@dataclass(frozen=True)
class LatentPerturbation(NamedPerturbation):
    """An error of the latent state with its strength s, at least 0.

    Raises:
        ValueError: an unknown name, or a strength out of range.

    >>> LatentPerturbation("latent-drift", 0.3).label
    'latent-drift:0.3'
    """

    allowed = tuple(DRAWS)

    @property
    def every_step(self) -> bool:
        """Whether it is drawn anew at every step of an episode."""
        return self.name != "latent-drift"

    def error(self, stoch: Tensor, deviation: Tensor, generator: torch.Generator) -> Tensor:
        """What is added to stoch (Z,), given its standard deviations (Z,)."""
        drawn = DRAWS[self.name](tuple(stoch.shape), generator).to(stoch)
        scale = stoch if self.name == "latent-scale" else deviation.to(stoch)
        return self.strength * drawn * scale

"""What the Jacobian penalty is compared with: other ways to make a world model robust.

Each is one number of `ComparatorConfig`, off at 0, and acts in training only:

- noise or masks on what the encoder sees, with clean targets (matched augmentation);
- zero-drift noise in the latent state (Lim et al. 2021, arXiv 2102.04877: noise in a recurrent
  network acts like a penalty on its Jacobian);
- the same energy as drift, with a sign that is fixed along a sequence (a negative control: the
  implicit regulariser needs zero drift).

Weight decay on the dynamics is in `train.optimiser`; the hinge above the memory floor, GPLD's
posterior map and the logarithmic norm are settings of the penalty (`jacobian.penalty_config`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sdewm.base.fields import NonNegativeFloat, UnitInterval
from sdewm.perturbations.observation import ObservationPerturbation

SCALE_RATE = 0.01  # of the running standard deviation of the latent


@dataclass(frozen=True)
class ComparatorConfig:
    """Alternatives to the Jacobian penalty, in training only."""

    input_noise: NonNegativeFloat = 0.0
    """Standard deviation of Gaussian noise on the encoder's input; targets stay clean."""
    input_mask: UnitInterval = 0.0
    """Probability that a component (of an image: a pixel) of the encoder's input is set to 0."""
    latent_noise: NonNegativeFloat = 0.0
    """White noise added to stoch at every time step, in standard deviations of stoch."""
    latent_drift: NonNegativeFloat = 0.0
    """Constant of random sign added to stoch along a sequence, in standard deviations of stoch."""


class Disturbance(NamedTuple):
    """What is drawn before an update: the encoder's input, and a standardised latent error."""

    observation: Tensor | None  # (B, T, …)
    latent: Tensor | None  # (B, T, Z), in standard deviations of stoch


class Comparators(nn.Module):
    """The comparators of a run, with the running standard deviation of stoch.

    The standard deviation is that over batch and time, component by component, averaged over
    updates with rate 0.01 and corrected for its start at 0. Before the first update it counts as 0.

    Args:
        config: see `ComparatorConfig`.
        size: number Z of components of stoch.
    """

    spread: Tensor
    weight: Tensor

    def __init__(self, config: ComparatorConfig, size: int) -> None:
        super().__init__()
        self.config = config
        self.inputs = [
            ObservationPerturbation(name, strength)
            for name, strength in (("noise", config.input_noise), ("mask", config.input_mask))
            if strength
        ]
        self.disturbs = bool(config.latent_noise or config.latent_drift)
        self.register_buffer("spread", torch.zeros(size))
        self.register_buffer("weight", torch.zeros(()))

    @property
    def on(self) -> bool:
        """Whether anything differs from plain training."""
        return bool(self.inputs) or self.disturbs

    def draw(self, observation: Tensor, generator: torch.Generator) -> Disturbance:
        """The disturbance of one update for observations (B, T, *shape)."""
        seen, latent = None, None
        if self.inputs:
            seen = observation
            for perturb in self.inputs:
                seen = perturb(seen, generator)
        if self.disturbs:
            shape = (*observation.shape[:2], len(self.spread))
            drawn = torch.randn(shape, generator=generator, device=generator.device)
            signs = torch.randn(
                (shape[0], 1, shape[2]), generator=generator, device=generator.device
            ).sign()
            latent = self.config.latent_noise * drawn + self.config.latent_drift * signs
        return Disturbance(seen, latent)

    def latent_error(self, drawn: Disturbance) -> Tensor | None:
        """What is added to stoch: (B, T, Z)."""
        if drawn.latent is None:
            return None
        return drawn.latent * (self.spread / self.weight.clamp(min=1e-12))

    @torch.no_grad()
    def measure(self, stoch: Tensor) -> None:
        """Update the running standard deviation with stoch (B, T, Z) of a batch."""
        if self.disturbs:
            self.spread.lerp_(stoch.float().flatten(0, 1).std(0), SCALE_RATE)
            self.weight.lerp_(torch.ones_like(self.weight), SCALE_RATE)

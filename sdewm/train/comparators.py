"""What the Jacobian penalty is compared with: other ways to make a world model robust.

Each is one number of `ComparatorConfig`, off at 0, and acts in training only:

- noise or masks on what the encoder sees, with clean targets (matched augmentation);
- zero-drift noise in the latent state (Lim et al. 2021, arXiv 2102.04877: noise in a recurrent
  network acts like a penalty on its Jacobian);
- the same energy as drift, with signs that are fixed along a training sequence and drawn anew for
  the next one, also of the same episode (a negative control: the implicit regulariser needs zero
  drift);
- the spread of imagined rollouts from one state as a further loss (Young & Pugeault 2024, arXiv
  2410.10674, who add it to the actor's objective; here it shapes the world model);
- an exponential running mean of the world model's weights, used after training alone.

Weight decay on the dynamics is in `train.optimiser`; the hinge above the memory floor, GPLD's
posterior map and the logarithmic norm are settings of the penalty (`jacobian.penalty_config`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from sdewm.base.fields import NonNegativeFloat, UnitInterval
from sdewm.model.latents import Latent
from sdewm.model.rssm import State
from sdewm.model.world_model import WorldModel
from sdewm.perturbations.observation import ObservationPerturbation

SCALE_RATE = 0.01  # of the running standard deviation of the latent
SPREAD_COPIES, SPREAD_STEPS, SPREAD_STRIDE = 3, 5, 4  # rollouts, their length, rows between starts


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
    """Constant added to stoch along a training sequence, in standard deviations of stoch; its signs
    are drawn for each sequence, not for each episode."""
    rollout_spread: NonNegativeFloat = 0.0
    """Weight of the spread of imagined rollouts in the loss."""
    average_decay: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Decay rate of a running mean of the world model's weights; 0: none. The mean takes their
    place where a trained run is read (`sdewm evaluate`, `sdewm analyse`, end points of studies of
    world models). Training acts, and evaluates its agent, with the weights themselves, so that its
    returns are those without a mean; studies of agents refuse it. The mean starts at the initial
    weights, which are 37 % of it after 1000 updates at 0.999."""


class Disturbance(NamedTuple):
    """What is drawn before an update: the encoder's input, and a standardised latent error."""

    observation: Tensor | None = None  # (B, T, …)
    latent: Tensor | None = None  # (B, T, Z), in standard deviations of stoch
    rollouts: Tensor | None = None  # (steps, N·copies, …), the noise of stoch in imagined rollouts


class Comparators(nn.Module):
    """The comparators of a run, with the running standard deviation of stoch.

    The standard deviation is that over batch and time, component by component, averaged over
    updates with rate 0.01 and corrected for its start at 0. Before the first update it counts as 0.

    Args:
        config: see `ComparatorConfig`.
        latent: the law of stoch.
    """

    spread: Tensor
    weight: Tensor

    def __init__(self, config: ComparatorConfig, latent: Latent) -> None:
        super().__init__()
        self.config, self.latent = config, latent
        self.inputs = [
            ObservationPerturbation(name, strength)
            for name, strength in (("noise", config.input_noise), ("mask", config.input_mask))
            if strength
        ]
        self.disturbs = bool(config.latent_noise or config.latent_drift)
        self.register_buffer("spread", torch.zeros(latent.size))
        self.register_buffer("weight", torch.zeros(()))

    @property
    def on(self) -> bool:
        """Whether anything differs from plain training."""
        return bool(self.inputs) or self.disturbs

    def draw(self, observation: Tensor, generator: torch.Generator) -> Disturbance:
        """The disturbance of one update for observations (B, T, *shape)."""
        seen, latent, rollouts = None, None, None
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
        if self.config.rollout_spread:
            batch, length = observation.shape[:2]
            starts = batch * len(range(0, length - SPREAD_STEPS, SPREAD_STRIDE))
            rollouts = self.latent.draw_noise((SPREAD_STEPS, starts * SPREAD_COPIES), generator)
        return Disturbance(seen, latent, rollouts)

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


def rollout_spread(
    world_model: WorldModel, state: State, previous_action: Tensor, noise: Tensor
) -> Tensor:
    """Mean over starts, steps 1 … K and components of the spread of 3 imagined rollouts.

    The spread is the standard deviation over the rollouts of the decoder's output, averaged over
    its components, plus that of deter. Starts are every fourth posterior state, without gradient;
    the actions are those of the batch.

    Args:
        world_model: receives the gradient.
        state: posterior states (B, T, …).
        previous_action: (B, T, A).
        noise: (K, N·3, …) of `Comparators.draw`.
    """
    steps, length = len(noise), previous_action.shape[1]
    rows = torch.arange(0, length - steps, SPREAD_STRIDE, device=noise.device)
    now = State(
        *(
            part[:, rows].detach().flatten(0, 1).repeat_interleave(SPREAD_COPIES, 0)
            for part in state
        )
    )
    spreads = []
    for step, drawn in enumerate(noise.unbind(0), start=1):
        actions = previous_action[:, rows + step].flatten(0, 1)
        now = world_model.rssm.imagine_step(now, actions.repeat_interleave(SPREAD_COPIES, 0), drawn)
        for values in (world_model.decoder.predict(now.features), now.deter):
            apart = values.float().unflatten(0, (-1, SPREAD_COPIES)).flatten(2)
            variance = apart.var(1)
            # The slope of a root is infinite at 0, where a collapsed model would be.
            spreads.append((variance + 1e-8).sqrt().mean())
    return torch.stack(spreads).sum() / steps


class RunningMean:
    """Exponential running mean of weights, from the first ones on.

    mean ← decay·mean + (1 − decay)·weight; before the first update it is the weight itself. After n
    updates the initial weight has the share decayⁿ: .37 for n = 1000 and decay .999.

    Args:
        weights: by name; they are read at every update.
        decay: of the mean.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.weights, self.decay = weights, decay
        self.means = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        for name, weight in self.weights.items():
            self.means[name].lerp_(weight, 1 - self.decay)

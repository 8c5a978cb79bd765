"""A world model whose values are known: the Kalman filter of a linear system (S35)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import StepModel

F64 = torch.float64
SIZE = 2  # of the state of the system, and of an observation


@dataclass(frozen=True)
class KnownFilter:
    """y' = A y + b a + √q w, o = y + √r v in the plane, A = ρ times a rotation, and its filter.

    The state of the model is (m, z): mean of the law of y given the observations, and a draw of it.
    Negative controls change a field.

    Attributes:
        growth: ρ < 1.
        angle: of the rotation in a step.
        noise: q.
        observed: r.
        gain: factor of Kalman's gain in the filter; 1: the exact one.
    """

    growth: float = 0.95
    angle: float = 0.3
    noise: float = 0.04
    observed: float = 0.25
    gain: float = 1.0

    @cached_property
    def prior(self) -> float:
        """Variance p⁻ of y given the observations before it: p⁻ = ρ² p⁻r/(p⁻ + r) + q."""
        half = (self.observed * (1 - self.growth**2) - self.noise) / 2
        return -half + math.sqrt(half**2 + self.noise * self.observed)

    @property
    def kalman(self) -> float:
        """Gain K = p⁻/(p⁻ + r)."""
        return self.prior / (self.prior + self.observed)

    @property
    def posterior(self) -> float:
        """Variance p = (1 − K) p⁻."""
        return (1 - self.kalman) * self.prior

    def ahead(self, steps: int) -> float:
        """Variance of y `steps` steps after the last observation, given all."""
        square = self.growth ** (2 * steps)
        return square * self.posterior + self.noise * (1 - square) / (1 - self.growth**2)

    @cached_property
    def matrix(self) -> Tensor:
        """A (2, 2)."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        return self.growth * torch.tensor([[cosine, -sine], [sine, cosine]], dtype=F64)

    @cached_property
    def model(self) -> StepModel:
        """The filter as a world model."""
        matrix, deviation = self.matrix, math.sqrt(self.noise)
        gain, spread = self.gain * self.kalman, math.sqrt(self.posterior)

        def step(state: Tensor, action: Tensor, noise: Tensor) -> Tensor:
            mean, drawn = (part @ matrix.T + action for part in state.split(SIZE, 1))
            return torch.cat((mean, drawn + deviation * noise[:, SIZE:]), 1)

        def encoder(predicted: Tensor, observation: Tensor) -> tuple[Tensor, Tensor]:
            mean = predicted[:, :SIZE] + gain * (observation - predicted[:, :SIZE])
            std = torch.cat((torch.zeros_like(mean), torch.full_like(mean, spread)), 1)
            return torch.cat((mean, mean), 1), std

        return StepModel(
            step,
            state_size=2 * SIZE,
            noise_size=2 * SIZE,
            encoder=encoder,
            decoder=lambda state: state[:, SIZE:],
            reward=lambda state: state[:, SIZE],
            critic=lambda state: state[:, SIZE:].square().sum(1),
        )

    def episodes(self, count: int, steps: int, seed: int) -> tuple[Episodes, Tensor]:
        """Episodes that begin when the filter is in its stationary state, and y (E, T, 2)."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=F64)

        actions = 0.3 * normal(count, steps, SIZE)
        actions[:, 0] = 0
        y, rows = math.sqrt(self.posterior) * normal(count, SIZE), []
        for t in range(steps):
            y = y @ self.matrix.T + actions[:, t] + math.sqrt(self.noise) * normal(count, SIZE)
            rows.append(y)
        states = torch.stack(rows, 1)
        seen = states + math.sqrt(self.observed) * normal(count, steps, SIZE)
        return Episodes(seen, actions, seen[..., 0].clone()), states

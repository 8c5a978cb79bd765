"""Distributions of the stochastic latent: categorical groups or a diagonal Gaussian.

The parameters of a distribution are one tensor, `stats`, so that sequences can be stacked:
log-probabilities (…, S, K), or mean and standard deviation (…, 2, Z).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sdewm.model.distributions import (
    LOG_2PI,
    categorical_kl,
    mix_uniform,
    normal_kl,
    sample_one_hot,
    straight_through,
    widen,
)


class Latent(Protocol):
    """Interface of a distribution of the stochastic latent."""

    size: int  # of a flat sample
    raw_size: int  # of the linear layer that feeds `stats`

    def stats(self, raw: Tensor) -> Tensor:
        """Parameters of the distribution from the output (…, raw_size) of a linear layer."""
        ...

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Noise for `sample` with leading axes `shape`, on the generator's device."""
        ...

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """A flat sample (…, size), with gradients to `stats`."""
        ...

    def mean(self, stats: Tensor) -> Tensor:
        """The mean (…, size): smooth in `stats`."""
        ...

    def std(self, stats: Tensor) -> Tensor:
        """The standard deviation of each component (…, size): smooth in `stats`."""
        ...

    def kl(self, stats_p: Tensor, stats_q: Tensor) -> Tensor:
        """KL(p ‖ q) per state, in nats, summed over components."""
        ...

    def entropy(self, stats: Tensor) -> Tensor:
        """Entropy per state, in nats, summed over components."""
        ...


class CategoricalLatent:
    """S independent one-hot groups of K classes, mixed with the fraction `unimix` of a uniform law.

    Samples are straight-through: one-hot in value, probabilities in gradient. Smooth maps (Jacobian
    penalty, latent SDE) use `mean` and `std` instead: mean π, variance π(1 − π) of each indicator.

    >>> law = CategoricalLatent(groups=1, classes=2, unimix=0.0)
    >>> law.sample(law.stats(torch.zeros(1, 2)), torch.tensor([[0.7]]))
    tensor([[0., 1.]])
    """

    def __init__(self, groups: int, classes: int, unimix: float) -> None:
        self.groups, self.classes, self.unimix = groups, classes, unimix
        self.size = self.raw_size = groups * classes

    def stats(self, raw: Tensor) -> Tensor:
        """Log-probabilities (…, S, K) in float32 or wider."""
        # The compiler stops at `unflatten` inside the penalty's mode (`base.elementary`).
        logits = widen(raw).reshape(*raw.shape[:-1], self.groups, self.classes)
        return mix_uniform(logits, self.unimix)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Uniforms (…, S)."""
        return torch.rand((*shape, self.groups), generator=generator, device=generator.device)

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """Straight-through one-hot draw (…, S·K) by inversion of `noise`."""
        probabilities = stats.exp()
        return straight_through(sample_one_hot(probabilities, noise), probabilities).flatten(-2)

    def mean(self, stats: Tensor) -> Tensor:
        """Probabilities (…, S·K)."""
        return stats.exp().flatten(-2)

    def std(self, stats: Tensor) -> Tensor:
        """√(π(1 − π)) of each indicator (…, S·K); positive for unimix > 0."""
        probabilities = stats.exp()
        return torch.sqrt(probabilities * (1 - probabilities)).flatten(-2)

    def kl(self, stats_p: Tensor, stats_q: Tensor) -> Tensor:
        """Σ_s Σ_k p ln(p/q): (…)."""
        return categorical_kl(stats_p, stats_q)

    def entropy(self, stats: Tensor) -> Tensor:
        """−Σ_s Σ_k p ln p: (…)."""
        return -(stats.exp() * stats).sum((-2, -1))


class GaussianLatent:
    """Diagonal Gaussian of Z components, standard deviation 2·sigmoid(x/2) + min_std."""

    def __init__(self, size: int, min_std: float) -> None:
        self.size, self.min_std = size, min_std
        self.raw_size = 2 * size

    def stats(self, raw: Tensor) -> Tensor:
        """Mean and standard deviation (…, 2, Z) in float32 or wider."""
        mean, free = widen(raw).chunk(2, -1)
        return torch.stack([mean, 2 * torch.sigmoid(free / 2) + self.min_std], -2)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normals (…, Z)."""
        return torch.randn((*shape, self.size), generator=generator, device=generator.device)

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """Reparameterised draw mean + std·noise."""
        return stats[..., 0, :] + stats[..., 1, :] * noise

    def mean(self, stats: Tensor) -> Tensor:
        """Mean (…, Z)."""
        return stats[..., 0, :]

    def std(self, stats: Tensor) -> Tensor:
        """Standard deviation (…, Z)."""
        return stats[..., 1, :]

    def kl(self, stats_p: Tensor, stats_q: Tensor) -> Tensor:
        """Closed form, summed over components: (…)."""
        p, q = stats_p.unbind(-2), stats_q.unbind(-2)
        return normal_kl(p[0], p[1], q[0], q[1])

    def entropy(self, stats: Tensor) -> Tensor:
        """Differential entropy Σ ln std + Z/2·(1 + ln 2π): (…)."""
        std = stats[..., 1, :]
        return (torch.log(std) + 0.5 * (1 + LOG_2PI)).sum(-1)

"""Heads that predict a scalar from features: symexp two-hot, unit normal, binary."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdewm.model.distributions import LOG_2PI, symexp_bins, symmetric_mean, two_hot_loss
from sdewm.model.networks import MLP


class ScalarHead(Protocol):
    """A law of one real number given features."""

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of `target` (…) per state: (…)."""
        ...

    def mean(self, features: Tensor) -> Tensor:
        """Its mean: (…)."""
        ...


class TwoHotHead(nn.Module):
    """255 bins, symexp-spaced; cross-entropy with the two-hot target. Zero everywhere at first.

    Args:
        features: size F.
        units: units of the hidden layers.
        layers: hidden layers.
        norm: see `make_norm`.
        activation: "silu" or "elu".
    """

    bins: Tensor

    def __init__(self, features: int, units: int, layers: int, norm: str, activation: str) -> None:
        super().__init__()
        self.register_buffer("bins", symexp_bins(), persistent=False)
        self.layers = MLP(features, units, layers, len(self.bins), norm, activation, 0.0)

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """−Σ_k two_hot(target)_k ln p_k."""
        log_p = functional.log_softmax(self.layers(features).float(), -1)
        return two_hot_loss(log_p, target, self.bins)

    def mean(self, features: Tensor) -> Tensor:
        """Σ_k p_k bin_k."""
        return symmetric_mean(torch.softmax(self.layers(features).float(), -1), self.bins)


class NormalHead(nn.Module):
    """A normal law of standard deviation 1. Zero everywhere at first."""

    def __init__(self, features: int, units: int, layers: int, norm: str, activation: str) -> None:
        super().__init__()
        self.layers = MLP(features, units, layers, 1, norm, activation, 0.0)

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """½(target − mean)² + ½ ln 2π."""
        return 0.5 * (target - self.mean(features)) ** 2 + 0.5 * LOG_2PI

    def mean(self, features: Tensor) -> Tensor:
        """The mean: (…)."""
        return self.layers(features).squeeze(-1).float()


class ContinueHead(nn.Module):
    """Probability that the episode goes on after a state."""

    def __init__(self, features: int, units: int, layers: int, norm: str, activation: str) -> None:
        super().__init__()
        self.layers = MLP(features, units, layers, 1, norm, activation)

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy with target (…) in [0, 1]."""
        logits = self.layers(features).squeeze(-1).float()
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def mean(self, features: Tensor) -> Tensor:
        """The probability: (…)."""
        return torch.sigmoid(self.layers(features).squeeze(-1).float())


SCALAR_HEADS = {"two_hot": TwoHotHead, "normal": NormalHead}

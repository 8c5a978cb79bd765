"""Heads that predict a scalar from features: symexp two-hot, unit-variance Gaussian, Bernoulli."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdewm.model.distributions import LOG_2PI, symexp_bins, symmetric_mean, two_hot_loss, widen
from sdewm.model.networks import MLP


class ScalarHead(nn.Module):
    """Distribution of a real number given features; `law` holds its parameters."""

    def forward(self, features: Tensor) -> Tensor:
        """Parameters of the distribution at each state: (…, F) → (…, K)."""
        raise NotImplementedError

    def loss(self, law: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of `target` (…) per state: (…)."""
        raise NotImplementedError

    def mean(self, law: Tensor) -> Tensor:
        """The mean: (…)."""
        raise NotImplementedError


class TwoHotHead(ScalarHead):
    """Symexp-spaced bins, cross-entropy with the two-hot target; the initial prediction is 0.

    Args:
        features: size F.
        units: units of the hidden layers.
        layers: hidden layers.
        bins: odd number of bins on ±(e²⁰ − 1).
        norm: see `make_norm`.
        activation: "silu" or "elu".
    """

    bins: Tensor

    def __init__(
        self, features: int, units: int, layers: int, bins: int, norm: str, activation: str
    ) -> None:
        super().__init__()
        self.register_buffer("bins", symexp_bins(bins), persistent=False)
        self.layers = MLP(features, units, layers, bins, norm, activation, 0.0)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities of the bins (…, K)."""
        return functional.log_softmax(widen(self.layers(features)), -1)

    def loss(self, law: Tensor, target: Tensor) -> Tensor:
        """−Σ_k two_hot(target)_k ln p_k."""
        return two_hot_loss(law, target, self.bins)

    def mean(self, law: Tensor) -> Tensor:
        """Σ_k p_k bin_k."""
        return symmetric_mean(law.exp(), self.bins)


class NormalHead(ScalarHead):
    """Gaussian of standard deviation 1; the initial prediction is 0. `bins` is not used."""

    def __init__(
        self, features: int, units: int, layers: int, bins: int, norm: str, activation: str
    ) -> None:
        super().__init__()
        self.layers = MLP(features, units, layers, 1, norm, activation, 0.0)

    def forward(self, features: Tensor) -> Tensor:
        """The mean (…, 1)."""
        return widen(self.layers(features))

    def loss(self, law: Tensor, target: Tensor) -> Tensor:
        """½(target − mean)² + ½ ln 2π."""
        return 0.5 * (target - law.squeeze(-1)) ** 2 + 0.5 * LOG_2PI

    def mean(self, law: Tensor) -> Tensor:
        """The mean: (…)."""
        return law.squeeze(-1)


class ContinueHead(ScalarHead):
    """Probability that the episode continues after a state."""

    def __init__(self, features: int, units: int, layers: int, norm: str, activation: str) -> None:
        super().__init__()
        self.layers = MLP(features, units, layers, 1, norm, activation)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (…, 1)."""
        return widen(self.layers(features))

    def loss(self, law: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy with target (…) in [0, 1]."""
        logits = law.squeeze(-1)
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def mean(self, law: Tensor) -> Tensor:
        """The probability: (…)."""
        return torch.sigmoid(law.squeeze(-1))


SCALAR_HEADS = {"two_hot": TwoHotHead, "normal": NormalHead}

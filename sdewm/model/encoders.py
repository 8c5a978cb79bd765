"""Interfaces of encoders and decoders of observations, and the perceptrons for vectors."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from sdewm.model.distributions import symexp, symlog, widen
from sdewm.model.networks import MLP


class Encoder(Protocol):
    """Maps observations (…, *obs_shape) in the environment's units to embeds (…, E)."""

    size: int

    def __call__(self, observation: Tensor) -> Tensor:
        """The embeds (…, E) of the observations."""
        ...


class Decoder(Protocol):
    """Maps features (…, F) to a prediction of the observation."""

    def loss(self, features: Tensor, observation: Tensor) -> Tensor:
        """Reconstruction loss per state, summed over the observation's components: (…)."""
        ...

    def predict(self, features: Tensor) -> Tensor:
        """Expected observation in the environment's units; images as floats in [0, 1]."""
        ...


class VectorEncoder(nn.Module):
    """Multilayer perceptron on the observation, after symlog if `symlog_inputs`."""

    def __init__(
        self, inputs: int, units: int, layers: int, symlog_inputs: bool, norm: str, activation: str
    ) -> None:
        super().__init__()
        self.layers = MLP(inputs, units, layers, None, norm, activation)
        self.size, self.symlog_inputs = units, symlog_inputs

    def forward(self, observation: Tensor) -> Tensor:
        """(…, D) → (…, units)."""
        return self.layers(symlog(observation) if self.symlog_inputs else observation)


class VectorDecoder(nn.Module):
    """Multilayer perceptron with a squared-error loss, summed over components.

    With `symlog_inputs` the error is taken in symlog space, without the factor ½ (DreamerV3).
    Otherwise the loss has the factor ½: it is the negative log-likelihood of a Gaussian with unit
    variance, up to a constant.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        units: int,
        layers: int,
        symlog_inputs: bool,
        norm: str,
        activation: str,
    ) -> None:
        super().__init__()
        self.layers = MLP(features, units, layers, outputs, norm, activation)
        self.symlog_inputs = symlog_inputs

    def loss(self, features: Tensor, observation: Tensor) -> Tensor:
        """Σ_d (symlog x_d − x̂_d)², or ½ Σ_d (x_d − x̂_d)²: (…)."""
        predicted = widen(self.layers(features))
        if self.symlog_inputs:
            return ((symlog(observation) - predicted) ** 2).sum(-1)
        return 0.5 * ((observation - predicted) ** 2).sum(-1)

    def predict(self, features: Tensor) -> Tensor:
        """(…, F) → (…, D)."""
        predicted = widen(self.layers(features))
        return symexp(predicted) if self.symlog_inputs else predicted

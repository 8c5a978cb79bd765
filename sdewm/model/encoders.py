"""Observations to vectors and back: perceptrons for vectors, convolutions for 64×64 images."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from sdewm.model.distributions import symexp, symlog, widen
from sdewm.model.networks import ACTIVATIONS, MLP, BlockLinear, Dense, make_norm


class Encoder(Protocol):
    """Observations (…, *obs_shape) in the environment's units to embeds (…, E)."""

    size: int

    def __call__(self, observation: Tensor) -> Tensor:
        """The embed."""
        ...


class Decoder(Protocol):
    """Features (…, F) to a prediction of the observation."""

    def loss(self, features: Tensor, observation: Tensor) -> Tensor:
        """Reconstruction loss per state, summed over the observation's components: (…)."""
        ...

    def predict(self, features: Tensor) -> Tensor:
        """The observation expected: environment's units, images as float in [0, 1]."""
        ...


class VectorEncoder(nn.Module):
    """Perceptron on the observation, through symlog if `symlog_inputs`."""

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
    """Perceptron whose squared error, summed over components, is the loss.

    With `symlog_inputs` the error is taken in symlog space, without a factor ½ (DreamerV3);
    else it is ½ per component, the negative log-likelihood of a unit normal up to a constant.
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


def image_planes(observation: Tensor) -> Tensor:
    """uint8 images (N, 64, 64, C) to floats in [−½, ½], (N, C, 64, 64)."""
    return observation.permute(0, 3, 1, 2).float() / 255 - 0.5


class ChannelNorm(nn.Module):
    """Normalisation over the channels of each pixel."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.norm = make_norm(kind, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same."""
        if isinstance(self.norm, nn.Identity):
            return x
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PooledEncoder(nn.Module):
    """DreamerV3: four times (conv 5×5, max-pool 2×2, norm, activation).

    Channels are depth·(2, 3, 4, 4).
    """

    def __init__(self, depth: int, norm: str, activation: str) -> None:
        super().__init__()
        channels = [3, *(depth * factor for factor in (2, 3, 4, 4))]
        self.stages = nn.Sequential()
        for a, b in zip(channels, channels[1:], strict=False):
            self.stages.append(nn.Conv2d(a, b, 5, padding=2))
            self.stages.append(nn.MaxPool2d(2))
            self.stages.append(ChannelNorm(norm, b))
            self.stages.append(ACTIVATIONS[activation]())
        self.size = channels[-1] * 4 * 4

    def forward(self, observation: Tensor) -> Tensor:
        """(…, 64, 64, 3) → (…, 64·depth)."""
        planes = image_planes(observation.flatten(0, -4))
        return self.stages(planes).flatten(1).unflatten(0, observation.shape[:-3])


class StridedEncoder(nn.Module):
    """DreamerV2: four convolutions 4×4 of stride 2 without padding, channels depth·(1,2,4,8)."""

    def __init__(self, depth: int, norm: str, activation: str) -> None:
        super().__init__()
        channels = [3, *(depth * factor for factor in (1, 2, 4, 8))]
        self.stages = nn.Sequential()
        for a, b in zip(channels, channels[1:], strict=False):
            self.stages.append(nn.Conv2d(a, b, 4, stride=2))
            self.stages.append(ChannelNorm(norm, b))
            self.stages.append(ACTIVATIONS[activation]())
        self.size = channels[-1] * 2 * 2

    def forward(self, observation: Tensor) -> Tensor:
        """(…, 64, 64, 3) → (…, 32·depth)."""
        planes = image_planes(observation.flatten(0, -4))
        return self.stages(planes).flatten(1).unflatten(0, observation.shape[:-3])


class ImageDecoder(nn.Module):
    """Squared error of images, summed over pixels and channels; `planes` is the subclasses' part.

    `half_error` gives ½ per component (the likelihood of DreamerV2), else 1 (DreamerV3).
    """

    half_error: bool

    def planes(self, state: Tensor) -> Tensor:
        """Features (N, F) to images (N, 3, 64, 64) in [0, 1] units."""
        raise NotImplementedError

    def loss(self, features: Tensor, observation: Tensor) -> Tensor:
        """Σ over pixels of (x/255 − x̂)², times ½ if `half_error`: (…)."""
        target = image_planes(observation.flatten(0, -4)) + 0.5
        error = (widen(self.planes(features.flatten(0, -2))) - target) ** 2
        total = error.sum((1, 2, 3)) * (0.5 if self.half_error else 1.0)
        return total.unflatten(0, features.shape[:-1])

    def predict(self, features: Tensor) -> Tensor:
        """(…, F) → (…, 64, 64, 3), float."""
        planes = widen(self.planes(features.flatten(0, -2)))
        return planes.permute(0, 2, 3, 1).unflatten(0, features.shape[:-1])


class UpsampledDecoder(ImageDecoder):
    """DreamerV3: projections of h and z to 4×4 are added, then four times (upsample, conv 5×5).

    Args:
        deter: size of h, the first part of the features.
        stoch: size of z, the rest.
        depth: channels are depth·(4, 3, 2) on the way, 3 at the end, through a sigmoid.
        units: width of the layer before the projection of z is 2·units.
        blocks: h is projected by a linear layer of so many blocks.
        norm: see `make_norm`.
        activation: a key of `ACTIVATIONS`.
    """

    half_error = False

    def __init__(
        self,
        deter: int,
        stoch: int,
        depth: int,
        units: int,
        blocks: int,
        norm: str,
        activation: str,
    ) -> None:
        super().__init__()
        self.deter, self.channels = deter, 4 * depth
        size = 16 * self.channels
        self.of_deter = BlockLinear(deter, size, blocks)
        self.of_stoch = nn.Sequential(
            Dense(stoch, 2 * units, norm, activation), nn.Linear(2 * units, size)
        )
        self.start = nn.Sequential(ChannelNorm(norm, self.channels), ACTIVATIONS[activation]())
        channels = [depth * factor for factor in (4, 4, 3, 2)] + [3]
        self.stages = nn.Sequential()
        for index, (a, b) in enumerate(zip(channels, channels[1:], strict=False)):
            self.stages.append(nn.Upsample(scale_factor=2, mode="nearest"))
            self.stages.append(nn.Conv2d(a, b, 5, padding=2))
            if index < 3:
                self.stages.append(ChannelNorm(norm, b))
                self.stages.append(ACTIVATIONS[activation]())

    def planes(self, state: Tensor) -> Tensor:
        """(N, F) → (N, 3, 64, 64) in [0, 1]."""
        deter, stoch = state[:, : self.deter], state[:, self.deter :]
        x = (self.of_deter(deter) + self.of_stoch(stoch)).unflatten(-1, (self.channels, 4, 4))
        return torch.sigmoid(self.stages(self.start(x)))


class StridedDecoder(ImageDecoder):
    """DreamerV2: a linear layer to 1×1, then transposed convolutions 5, 5, 6, 6 of stride 2."""

    half_error = True

    def __init__(self, features: int, depth: int, norm: str, activation: str) -> None:
        super().__init__()
        channels = [32 * depth, *(depth * factor for factor in (4, 2, 1)), 3]
        self.start = nn.Linear(features, channels[0])
        self.stages = nn.Sequential()
        for index, kernel in enumerate((5, 5, 6, 6)):
            a, b = channels[index], channels[index + 1]
            self.stages.append(nn.ConvTranspose2d(a, b, kernel, stride=2))
            if index < 3:
                self.stages.append(ChannelNorm(norm, b))
                self.stages.append(ACTIVATIONS[activation]())

    def planes(self, state: Tensor) -> Tensor:
        """(N, F) → (N, 3, 64, 64); the mean is not confined to [0, 1]."""
        return self.stages(self.start(state)[..., None, None]) + 0.5

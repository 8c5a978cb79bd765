"""Encoders and decoders of 64×64 images: DreamerV3 and V2 convolutions, and patches for CPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdewm.model.distributions import widen
from sdewm.model.networks import ACTIVATIONS, BlockLinear, Dense, make_norm

PATCH = 8  # pixels on a side


def image_planes(observation: Tensor) -> Tensor:
    """uint8 images (N, 64, 64, C) to floats in [−½, ½], (N, C, 64, 64)."""
    return centred(observation.permute(0, 3, 1, 2))


def centred(pixels: Tensor) -> Tensor:
    """uint8 to floats in [−½, ½]."""
    return pixels.float().div_(255).sub_(0.5)


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
        planes = image_planes(observation.flatten(0, -4)).to(next(self.parameters()).dtype)
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
        planes = image_planes(observation.flatten(0, -4)).to(next(self.parameters()).dtype)
        return self.stages(planes).flatten(1).unflatten(0, observation.shape[:-3])


class ImageDecoder(nn.Module):
    """Image decoder with a squared-error loss, summed over pixels and channels.

    Subclasses implement `planes`. With `half_error` the loss has the factor ½ (DreamerV2's
    likelihood), otherwise 1 (DreamerV3).
    """

    half_error: bool

    def planes(self, state: Tensor) -> Tensor:
        """Features (N, F) to images (N, 3, 64, 64) in [0, 1] units."""
        raise NotImplementedError

    def loss(self, features: Tensor, observation: Tensor) -> Tensor:
        """Σ over pixels and channels of (x/255 − x̂)², times ½ if `half_error`: (…)."""
        target = image_planes(observation.flatten(0, -4)) + 0.5
        error = (widen(self.planes(features.flatten(0, -2))) - target) ** 2
        total = error.sum((1, 2, 3)) * (0.5 if self.half_error else 1.0)
        return total.unflatten(0, features.shape[:-1])

    def predict(self, features: Tensor) -> Tensor:
        """(…, F) → (…, 64, 64, 3), float."""
        planes = widen(self.planes(features.flatten(0, -2)))
        return planes.permute(0, 2, 3, 1).unflatten(0, features.shape[:-1])


class UpsampledDecoder(ImageDecoder):
    """DreamerV3: sum of projections of h and z to 4×4, then four times (upsample, conv 5×5).

    Args:
        deter: size of h, the first part of the features.
        stoch: size of z, the rest.
        depth: the intermediate layers have depth·(4, 3, 2) channels; the last has 3 and a sigmoid.
        units: the layer before the projection of z has 2·units units.
        blocks: number of blocks of the block-linear projection of h.
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
        """(N, F) → (N, 3, 64, 64); values may lie outside [0, 1]."""
        return self.stages(self.start(state)[..., None, None]) + 0.5


def image_patches(observation: Tensor) -> Tensor:
    """uint8 images (N, 64, 64, 3) to floats in [−½, ½], (N, 64 patches, 8·8·3)."""
    cut = observation.unflatten(1, (-1, PATCH)).unflatten(3, (-1, PATCH))  # (N, 8, 8, 8, 8, 3)
    return centred(cut.transpose(2, 3).flatten(3).flatten(1, 2))


class PatchEncoder(nn.Module):
    """One dense layer of 4·depth units on each patch of 8×8 pixels, then one of 32·depth on all.

    Intended for CPUs, where convolutions with few channels are slow.
    """

    def __init__(self, depth: int, norm: str, activation: str) -> None:
        super().__init__()
        self.size = 32 * depth
        self.patch = Dense(3 * PATCH**2, 4 * depth, norm, activation)
        self.whole = Dense((64 // PATCH) ** 2 * 4 * depth, self.size, norm, activation)

    def forward(self, observation: Tensor) -> Tensor:
        """(…, 64, 64, 3) → (…, 32·depth)."""
        pixels = image_patches(observation.flatten(0, -4)).to(next(self.parameters()).dtype)
        patches = self.patch(pixels)
        return self.whole(patches.flatten(1)).unflatten(0, observation.shape[:-3])


class PatchDecoder(nn.Module):
    """Counterpart of `PatchEncoder`; the loss is ½ Σ over pixels and channels of (x/255 − x̂)²."""

    def __init__(self, features: int, depth: int, norm: str, activation: str) -> None:
        super().__init__()
        patches = (64 // PATCH) ** 2
        self.whole = Dense(features, 32 * depth, norm, activation)
        self.start = nn.Sequential(
            nn.Linear(32 * depth, patches * 4 * depth),
            nn.Unflatten(-1, (patches, 4 * depth)),
            make_norm(norm, 4 * depth),
            ACTIVATIONS[activation](),
        )
        self.patch = nn.Linear(4 * depth, 3 * PATCH**2)

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) → (N, 64 patches, 8·8·3); values may lie outside [−½, ½]."""
        return self.patch(self.start(self.whole(features)))

    def loss(self, features: Tensor, observation: Tensor) -> Tensor:
        """½ Σ over pixels and channels of (x/255 − x̂)²: (…)."""
        target = image_patches(observation.flatten(0, -4))
        predicted = widen(self(features.flatten(0, -2)))
        error = functional.mse_loss(predicted, target, reduction="none")
        return 0.5 * error.sum((1, 2)).unflatten(0, features.shape[:-1])

    def predict(self, features: Tensor) -> Tensor:
        """(…, F) → (…, 64, 64, 3), float."""
        patches = widen(self(features.flatten(0, -2))) + 0.5
        cut = patches.unflatten(1, (64 // PATCH, -1)).unflatten(3, (PATCH, -1))
        return cut.transpose(2, 3).reshape(*features.shape[:-1], 64, 64, 3)

"""Observations that hold an image and a vector: (…, 12288 + D) floats, the image in [0, 1] first.

Encoder and decoder are those of the two parts, side by side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sdewm.model.encoders import Decoder, Encoder

IMAGE = (64, 64, 3)
PIXELS = math.prod(IMAGE)


def image_and_vector(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of image and vector in observations of shape (12288 + D,).

    Raises:
        ValueError: another shape.

    >>> image_and_vector((12293,))
    ((64, 64, 3), (5,))
    """
    if len(shape) != 1 or shape[0] <= PIXELS:
        raise ValueError(f"observation_shape={shape}: expected (D,) with D above {PIXELS}.")
    return IMAGE, (shape[0] - PIXELS,)


def split(observation: Tensor) -> tuple[Tensor, Tensor]:
    """The image (…, 64, 64, 3) in the range of bytes, [0, 255], and the vector (…, D)."""
    return 255 * observation[..., :PIXELS].unflatten(-1, IMAGE), observation[..., PIXELS:]


class ImageAndVectorEncoder(nn.Module):
    """The embeds of both parts, concatenated."""

    def __init__(self, image: Encoder, vector: Encoder) -> None:
        super().__init__()
        self.image, self.vector = image, vector
        self.size = image.size + vector.size

    def forward(self, observation: Tensor) -> Tensor:
        """(…, 12288 + D) → (…, E)."""
        image, vector = split(observation)
        return torch.cat([self.image(image), self.vector(vector)], -1)


class ImageAndVectorDecoder(nn.Module):
    """Decoders of both parts on the same features; the loss is the sum of theirs."""

    def __init__(self, image: Decoder, vector: Decoder) -> None:
        super().__init__()
        self.image, self.vector = image, vector

    def loss(self, features: Tensor, observation: Tensor) -> Tensor:
        """(…)."""
        image, vector = split(observation)
        return self.image.loss(features, image) + self.vector.loss(features, vector)

    def predict(self, features: Tensor) -> Tensor:
        """(…, F) → (…, 12288 + D)."""
        return torch.cat(
            [self.image.predict(features).flatten(-3), self.vector.predict(features)], -1
        )

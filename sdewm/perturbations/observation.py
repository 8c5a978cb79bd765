"""Perturbations of observations by name: what an encoder is shown in place of the clean ones.

Each is drawn anew for every copy of an episode; `noise` and `mask` anew at every step, the others
once for the copy. Images are uint8 and stay so: clipped to 0 … 255 and rounded, as a camera's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from sdewm.base.checks import check_choice, check_finite_number

PerturbByStrength = Callable[[Tensor, float, torch.Generator], Tensor]


def _random(like: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(like.device)


def _noise(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(x.shape, generator=generator, device=generator.device).to(x.device)
    return x + strength * drawn


def _mask(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    shape = (*x.shape[:-1], 1) if x.dim() == 5 else tuple(x.shape)  # whole pixels
    return torch.where(_random(x, shape, generator) < strength, 0.0, x)


def _shift(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return x + strength


def _rotation(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """By an angle uniform in ± strength degrees about the middle; what turns in is black."""
    copies, steps = x.shape[:2]
    angle = math.radians(strength) * (2 * _random(x, (copies,), generator) - 1)
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    rows = [torch.stack(row, 1) for row in ((cosine, -sine, zero), (sine, cosine, zero))]
    turn = torch.stack(rows, 1).repeat_interleave(steps, 0)  # (N·T, 2, 3)
    planes = x.flatten(0, 1).permute(0, 3, 1, 2)
    grid = affine_grid(turn, list(planes.shape), align_corners=False)
    turned = grid_sample(planes, grid, align_corners=False)
    return turned.permute(0, 2, 3, 1).unflatten(0, (copies, steps))


def _occlusion(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A black square that covers the share `strength` of the image, somewhere."""
    side = round(64 * math.sqrt(strength))
    corner = (_random(x, (len(x), 2), generator) * (64 - side + 1)).long()
    pixel = torch.arange(64, device=x.device)
    inside = (pixel >= corner[..., None]) & (pixel < corner[..., None] + side)  # (N, 2, 64)
    square = inside[:, 0, :, None] & inside[:, 1, None, :]
    return torch.where(square[:, None, :, :, None], 0.0, x)


@dataclass(frozen=True)
class _Kind:
    perturb: PerturbByStrength
    greatest: float
    observations: tuple[str, ...]
    unit: str


BOTH, IMAGES = ("vectors", "images"), ("images",)
KINDS = {
    "noise": _Kind(_noise, math.inf, BOTH, "standard deviation of white Gaussian noise"),
    "mask": _Kind(_mask, 1.0, BOTH, "share of the components, or pixels, set to zero"),
    "shift": _Kind(_shift, math.inf, ("vectors",), "constant that is added"),
    "brightness": _Kind(_shift, 1.0, IMAGES, "constant that is added, of a range of 1"),
    "rotation": _Kind(_rotation, 180.0, IMAGES, "degrees, angle uniform in ±"),
    "occlusion": _Kind(_occlusion, 1.0, IMAGES, "share of the image under a black square"),
}


@dataclass(frozen=True)
class ObservationPerturbation:
    """A perturbation of observations with its strength.

    Attributes:
        name: "noise" (standard deviation), "mask" (share of components or pixels set to zero);
            of vectors also "shift" (constant); of images "brightness" (constant), "rotation"
            (degrees, the angle uniform in ±), "occlusion" (share of the image under a square).
        strength: in the units said; images count from 0 to 1, vectors in the environment's units.

    Raises:
        ValueError: an unknown name, or a strength out of range.

    >>> brighter = ObservationPerturbation("brightness", 0.1)
    >>> image = torch.full((1, 1, 64, 64, 3), 100, dtype=torch.uint8)
    >>> brighter(image, torch.Generator()).unique()  # 100 + 25.5, rounded
    tensor([126], dtype=torch.uint8)
    """

    name: str
    strength: float

    def __post_init__(self) -> None:
        check_choice("perturbation", self.name, KINDS)
        greatest, strength = (
            KINDS[self.name].greatest,
            check_finite_number("strength", self.strength),
        )
        least = -greatest if self.name in ("shift", "brightness") else 0.0
        if not least <= strength <= greatest:
            raise ValueError(
                f"strength={strength}: {self.name} takes a number from {least:g} to {greatest:g} "
                f"({KINDS[self.name].unit})."
            )

    def __call__(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        """Perturbed copies of observations (N, T, *shape), of the same dtype.

        Raises:
            ValueError: not for such observations.
        """
        kind, images = KINDS[self.name], observations.dtype == torch.uint8
        if ("images" if images else "vectors") not in kind.observations:
            raise ValueError(
                f"perturbation={self.name!r} is for {' and '.join(kind.observations)}, not for "
                f"observations of {observations.dtype}."
            )
        if not images:
            return kind.perturb(observations, self.strength, generator)
        changed = kind.perturb(observations.float() / 255, self.strength, generator)
        return (255 * changed).clamp_(0, 255).round_().to(torch.uint8)

"""Observation perturbations by name: noise, mask, shift, brightness, rotation and occlusion.

`noise` and `mask` are drawn independently at every step of every copy of an episode; the others are
drawn once for each copy. Images remain uint8, clipped to 0 … 255 and rounded as by a camera.
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
    """Rotate by an angle uniform in ± strength degrees about the centre; exposed corners black."""
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
    """A black square, at a uniformly random place, that covers the fraction `strength`."""
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
    "mask": _Kind(_mask, 1.0, BOTH, "probability that a component, or a pixel, is set to zero"),
    "shift": _Kind(_shift, math.inf, ("vectors",), "constant added to every component"),
    "brightness": _Kind(_shift, 1.0, IMAGES, "constant added, pixel values ranging from 0 to 1"),
    "rotation": _Kind(_rotation, 180.0, IMAGES, "largest angle in degrees, uniform in ± strength"),
    "occlusion": _Kind(_occlusion, 1.0, IMAGES, "fraction of the image under a black square"),
}


STEPWISE, HELD = ("noise", "mask"), "-held"


@dataclass(frozen=True)
class ObservationPerturbation:
    """An observation perturbation with its strength.

    Attributes:
        name: for vectors and images "noise" (strength: standard deviation of white Gaussian noise)
            and "mask" (probability that a component or pixel is set to zero); for vectors also
            "shift" (constant added); for images also "brightness" (constant added), "rotation"
            (largest angle in degrees, uniform in ± strength) and "occlusion" (fraction of the
            image under a black square).
        strength: in the units above; pixel values range from 0 to 1, vectors are in the
            environment's units.
        held: in acting, whether noise and masks are drawn once for an episode instead of at every
            step; all others are drawn once for an episode in any case.

    Raises:
        ValueError: an unknown name, or a strength out of range.

    >>> brighter = ObservationPerturbation("brightness", 0.1)
    >>> image = torch.full((1, 1, 64, 64, 3), 100, dtype=torch.uint8)
    >>> brighter(image, torch.Generator()).unique()  # 100 + 25.5, rounded
    tensor([126], dtype=torch.uint8)
    """

    name: str
    strength: float
    held: bool = False

    @property
    def label(self) -> str:
        """Name and strength, as `parse_perturbations` reads them."""
        return f"{self.name}{HELD if self.held else ''}:{self.strength:g}"

    @property
    def every_step(self) -> bool:
        """Whether it is drawn anew at every step of an episode."""
        return self.name in STEPWISE and not self.held

    def __post_init__(self) -> None:
        check_choice("perturbation", self.name, KINDS)
        if self.held and self.name not in STEPWISE:
            raise ValueError(
                f"perturbation='{self.name}{HELD}': {self.name} is drawn once an episode; "
                f"only {' and '.join(STEPWISE)} can be held."
            )
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

    def check_fits(self, observations: str) -> None:
        """Refuse "vectors" or "images" to which this perturbation does not apply."""
        kinds = KINDS[self.name].observations
        if observations not in kinds:
            raise ValueError(
                f"perturbation={self.name!r} is for {' and '.join(kinds)}, not for {observations}."
            )

    def __call__(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        """Perturbed copies of observations (N, T, *shape), of the same dtype.

        Raises:
            ValueError: this perturbation does not apply to such observations.
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


def parse_perturbations(word: str) -> list[ObservationPerturbation]:
    """Perturbations from a text: a name, or "noise-held" and "mask-held", and its strengths.

    Raises:
        ValueError: no strength, an unknown name, or a strength out of range.

    >>> [one.label for one in parse_perturbations("noise-held:0.1,0.2")]
    ['noise-held:0.1', 'noise-held:0.2']
    """
    name, _, strengths = word.partition(":")
    if not strengths:
        raise ValueError(f"perturbation={word!r}: expected NAME:STRENGTH,STRENGTH,…")
    held = name.endswith(HELD)
    found = []
    for text in strengths.split(","):
        try:
            strength = float(text)
        except ValueError as problem:
            raise ValueError(
                f"perturbation={word!r}: {text!r} is no number; expected NAME:STRENGTH,STRENGTH,…"
            ) from problem
        found.append(ObservationPerturbation(name.removesuffix(HELD), strength, held))
    return found

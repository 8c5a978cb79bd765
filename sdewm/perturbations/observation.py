"""Observation perturbations by name: noise, masks, jitter, shift, brightness, rotation, occlusion.

`noise`, `mask`, `mask-noise` and `jitter` are drawn independently at every step of every copy of an
episode; `rotation`, `occlusion` and `occlusion-noise` are drawn once for each copy. Images remain
uint8, clipped to 0 … 255 and rounded as by a camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from sdewm.base.checks import check_choice, check_finite_number

PerturbByStrength = Callable[..., Tensor]  # (observations, strength, generator[, held])


def _random(like: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(like.device)


def _noise(x: Tensor, strength: float, generator: torch.Generator, held: bool = False) -> Tensor:
    shape = _drawn_shape(x, held)
    drawn = torch.randn(shape, generator=generator, device=generator.device).to(x.device)
    return x + strength * drawn


def _drawn_shape(x: Tensor, held: bool) -> tuple[int, ...]:
    """That of x, with one time step if the draw is the same at all."""
    return (len(x), 1 if held else x.shape[1], *x.shape[2:])


def _mask(x: Tensor, strength: float, generator: torch.Generator, held: bool = False) -> Tensor:
    shape = _drawn_shape(x, held)
    shape = (*shape[:-1], 1) if x.dim() == 5 else shape  # whole pixels
    return torch.where(_random(x, shape, generator) < strength, 0.0, x)


def _mask_noise(
    x: Tensor, strength: float, generator: torch.Generator, held: bool = False
) -> Tensor:
    """As `_mask`, with uniform noise in [0, 1] in images and standard normal noise in vectors."""
    hidden = _mask(torch.ones_like(x), strength, generator, held) == 0
    shape, images = _drawn_shape(x, held), x.dim() == 5
    draw = torch.rand if images else torch.randn
    return torch.where(hidden, draw(shape, generator=generator).to(x.device), x)


def _jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Shift every image along either axis by pixels uniform in −s, −s + 1, …, s; edges repeat."""
    copies, steps, *size = x.shape[:4]
    most, shape = int(strength), (copies, steps, 2)
    by = torch.randint(-most, most + 1, shape, generator=generator, device=generator.device)
    by = by.to(x.device)
    rows, columns = (
        (torch.arange(n, device=x.device) + by[..., axis, None]).clamp(0, n - 1)
        for axis, n in enumerate(size)
    )  # (N, T, H), (N, T, W)
    which = torch.arange(copies, device=x.device)[:, None, None, None]
    when = torch.arange(steps, device=x.device)[None, :, None, None]
    return x[which, when, rows[..., :, None], columns[..., None, :]]


def _shift(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return x + strength


def _rotation(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate by an angle uniform in ± strength degrees about the centre; exposed corners black."""
    copies, steps = x.shape[:2]
    angle = math.radians(strength) * (2 * _random(x, (copies,), generator) - 1)
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    # In the coordinates of the grid height and width are both 2.
    shape = x.shape[2] / x.shape[3]
    both = ((cosine, -sine * shape, zero), (sine / shape, cosine, zero))
    rows = [torch.stack(row, 1) for row in both]
    turn = torch.stack(rows, 1).repeat_interleave(steps, 0)  # (N·T, 2, 3)
    planes = x.flatten(0, 1).permute(0, 3, 1, 2)
    grid = affine_grid(turn, list(planes.shape), align_corners=False)
    turned = grid_sample(planes, grid, align_corners=False)
    return turned.permute(0, 2, 3, 1).unflatten(0, (copies, steps))


def _occlusion(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A black square, at a uniformly random place, that covers the fraction `strength`."""
    return torch.where(_square(x, strength, generator), 0.0, x)


def _occlusion_noise(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """As `_occlusion`, with uniform noise in [0, 1] in place of black."""
    square = _square(x, strength, generator)
    return torch.where(square, _random(x, (len(x), 1, *x.shape[2:]), generator), x)


def _square(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Whether a pixel lies in the square: (N, 1, H, W, 1); of the image's proportions."""
    place, inside = _random(x, (len(x), 2), generator), []
    for axis, n in enumerate(x.shape[2:4]):
        side = round(n * math.sqrt(strength))
        first = (place[:, axis, None] * (n - side + 1)).long()
        pixel = torch.arange(n, device=x.device)
        inside.append((pixel >= first) & (pixel < first + side))  # (N, H), (N, W)
    square = inside[0][:, :, None] & inside[1][:, None, :]
    return square[:, None, :, :, None]


@dataclass(frozen=True)
class _Kind:
    perturb: PerturbByStrength
    greatest: float
    observations: tuple[str, ...]
    unit: str
    whole: bool = False  # whether the strength is a whole number


BOTH, IMAGES = ("vectors", "images"), ("images",)
KINDS = {
    "noise": _Kind(_noise, math.inf, BOTH, "standard deviation of white Gaussian noise"),
    "mask": _Kind(_mask, 1.0, BOTH, "probability that a component, or a pixel, is set to zero"),
    "mask-noise": _Kind(_mask_noise, 1.0, BOTH, "probability that it is replaced by noise"),
    "jitter": _Kind(_jitter, 32.0, IMAGES, "largest shift in pixels, uniform in ± strength", True),
    "shift": _Kind(_shift, math.inf, ("vectors",), "constant added to every component"),
    "brightness": _Kind(_shift, 1.0, IMAGES, "constant added, pixel values ranging from 0 to 1"),
    "rotation": _Kind(_rotation, 180.0, IMAGES, "largest angle in degrees, uniform in ± strength"),
    "occlusion": _Kind(_occlusion, 1.0, IMAGES, "fraction of the image under a black square"),
    "occlusion-noise": _Kind(_occlusion_noise, 1.0, IMAGES, "fraction under a square of noise"),
}


def kind_of(obs: str, images: bool) -> str:
    """What perturbations tell apart: observations that are "vectors", "images" or "both" at once.

    Args:
        obs: that of the run or of the dataset; "both": image and vector as one array of floats.
        images: whether the observations are images alone.
    """
    return obs if obs == "both" else "images" if images else "vectors"


def refuse_both(name: str, observations: str) -> None:
    """Refuse observations that hold an image and a vector, whose parts have other units."""
    if observations == "both":
        raise ValueError(
            f"perturbation={name!r} is for images or for vectors, not for both at once "
            "(obs='both'); what can be perturbed there are dynamics (dmc:) and latents."
        )


STEPWISE, HELD = ("noise", "mask", "mask-noise", "jitter"), "-held"
HOLDABLE = ("noise", "mask", "mask-noise")


@dataclass(frozen=True)
class ObservationPerturbation:
    """An observation perturbation with its strength.

    Attributes:
        name: for vectors and images "noise" (strength: standard deviation of white Gaussian
            noise), "mask" (probability that a component or pixel is set to zero) and "mask-noise"
            (that it is replaced by noise); for vectors also "shift" (constant added); for images
            also "brightness" (constant added), "rotation" (largest angle in degrees, uniform in
            ± strength), "occlusion" (fraction of the image under a black square),
            "occlusion-noise" (the same under noise) and "jitter" (largest shift in whole pixels,
            uniform in ± strength along either axis).
        strength: in the units above; pixel values range from 0 to 1, vectors are in the
            environment's units.
        held: whether noise, mask or mask-noise is drawn once for an episode instead of at every
            step. Jitter is drawn at every step in any case, and what else is random once for an
            episode.

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
        if self.held and self.name not in HOLDABLE:
            raise ValueError(
                f"perturbation='{self.name}{HELD}': only {', '.join(HOLDABLE)} can be held for an "
                "episode."
            )
        greatest, strength = (
            KINDS[self.name].greatest,
            check_finite_number("strength", self.strength),
        )
        least = -greatest if self.name in ("shift", "brightness") else 0.0
        whole = KINDS[self.name].whole
        if not least <= strength <= greatest or (whole and strength != int(strength)):
            raise ValueError(
                f"strength={strength}: {self.name} takes a {'whole ' if whole else ''}number from "
                f"{least:g} to {greatest:g} ({KINDS[self.name].unit})."
            )

    def check_fits(self, observations: str) -> None:
        """Refuse observations to which this perturbation does not apply.

        Args:
            observations: "vectors", "images" or "both", see `kind_of`.

        Raises:
            ValueError: vectors or images that it does not fit, or both.
        """
        refuse_both(self.name, observations)
        kinds = KINDS[self.name].observations
        if observations not in kinds:
            raise ValueError(
                f"perturbation={self.name!r} is for {' and '.join(kinds)}, not for {observations}."
            )

    def __call__(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        """Perturbed copies of observations (N, T, *shape), of the same dtype.

        Bytes are images, and floats vectors: those of obs="both" cannot be told from vectors here,
        so that `check_fits` has to refuse them.

        Raises:
            ValueError: this perturbation does not apply to such observations.
        """
        kind, images = KINDS[self.name], observations.dtype == torch.uint8
        if ("images" if images else "vectors") not in kind.observations:
            raise ValueError(
                f"perturbation={self.name!r} is for {' and '.join(kind.observations)}, not for "
                f"observations of {observations.dtype}."
            )
        perturb = partial(kind.perturb, held=True) if self.held else kind.perturb
        if not images:
            return perturb(observations, self.strength, generator)
        changed = perturb(observations.float() / 255, self.strength, generator)
        return (255 * changed).clamp_(0, 255).round_().to(torch.uint8)

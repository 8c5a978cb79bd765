"""Rendered manifolds: images of a system whose state moves on a circle, an arc, a sphere, a torus.

An antipode is the state with its last angle turned by π, or the opposite point of the sphere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from paper_checks.approximation.rasteriser import balls, blobs, periodic_blobs, rods

ARC = 0.5 * math.pi  # largest angle of the arc, in radians; less than π
RADIUS = 0.6  # of the orbit of the spot
LENGTHS = (0.5, 0.4)  # of the links of the arm
Draw = Callable[[int, np.random.Generator], torch.Tensor]


@dataclass(frozen=True)
class Manifold:
    """A law on states and the image of a state.

    Attributes:
        dimension: d of the manifold.
        latents: sizes of the latent that are tried; the last one admits an embedding.
        bounded: whether Borsuk and Ulam's theorem bounds the error through `dimension` numbers.
        draw: (count, generator) -> states `(count, …)`, uniform.
        render: states `(B, …)` -> images (B, SIZE, SIZE).
        antipode: states -> their antipodes.
    """

    dimension: int
    latents: tuple[int, ...]
    bounded: bool
    draw: Draw
    render: Callable[[torch.Tensor], torch.Tensor]
    antipode: Callable[[torch.Tensor], torch.Tensor]


def direction(angle: torch.Tensor) -> torch.Tensor:
    """(sin, −cos) `(B, 2)` of angles `(B,)` from the lower vertical, counter-clockwise."""
    return torch.stack([torch.sin(angle), -torch.cos(angle)], dim=-1)


def pendulum(states: torch.Tensor) -> torch.Tensor:
    """A rod from the centre at the angle `(B, 1)`."""
    tip = 0.8 * direction(states[:, 0])
    return rods(torch.zeros_like(tip), tip)


def arm(states: torch.Tensor) -> torch.Tensor:
    """Two rods, of angles `(B, 2)`, the second from the tip of the first; brightnesses add."""
    elbow = LENGTHS[0] * direction(states[:, 0])
    tip = elbow + LENGTHS[1] * direction(states[:, 1])
    return rods(torch.zeros_like(elbow), elbow) + 0.7 * rods(elbow, tip)


def _angles(count: int, source: np.random.Generator, number: int, largest: float) -> torch.Tensor:
    return torch.from_numpy(source.uniform(-largest, largest, size=(count, number)))


def _turn(states: torch.Tensor) -> torch.Tensor:
    return torch.cat([states[:, :-1], states[:, -1:] + math.pi], dim=1)


def _directions(count: int, source: np.random.Generator) -> torch.Tensor:
    found = source.standard_normal((count, 3))
    return torch.from_numpy(found / np.linalg.norm(found, axis=1, keepdims=True))


def _angle_law(number: int, largest: float = math.pi) -> Draw:
    return lambda count, source: _angles(count, source, number, largest)


MANIFOLDS = {
    "arc": Manifold(1, (1,), False, _angle_law(1, ARC), pendulum, _turn),
    "circle": Manifold(
        1,
        (1, 2),
        True,
        _angle_law(1),
        lambda states: blobs(RADIUS * direction(states[:, 0]), 0.25),
        _turn,
    ),
    "pendulum": Manifold(1, (1, 2), True, _angle_law(1), pendulum, _turn),
    "sphere": Manifold(2, (2, 3), True, _directions, balls, torch.neg),
    "torus": Manifold(
        2,
        (2, 4),
        False,
        _angle_law(2),
        lambda states: periodic_blobs(states / math.pi, 0.25),
        _turn,
    ),
    "arm": Manifold(2, (2, 4), False, _angle_law(2), arm, _turn),
}


def antipodal_unit(manifold: Manifold, states: torch.Tensor) -> float:
    """Half the least distance of a state's image from that of its antipode, over these states.

    S31 bounds the largest error from below by it; the unit in which errors are reported.
    """
    apart = manifold.render(states) - manifold.render(manifold.antipode(states))
    return 0.5 * float(apart.flatten(1).norm(dim=1).min())

"""Antialiased drawing into small images with numpy alone: boxes and thick segments.

An image is `(height, width, 3)` float32 with values in [0, 255]; a point is (column, row) in
pixels, and the centre of the top-left pixel is (0.5, 0.5). A shape covers each pixel by a fraction
in [0, 1]: exactly the covered area for boxes, and for segments the distance to the edge, clipped to
[0, 1]. A shape therefore moves smoothly when it moves by less than a pixel.
"""

from __future__ import annotations

import math

import numpy as np

Colour = tuple[float, float, float]


def _overlap(low: float, high: float, size: int) -> tuple[int, np.ndarray]:
    """First pixel that [low, high] touches, and the covered fractions from that pixel on."""
    start, stop = max(math.floor(low), 0), min(math.ceil(high), size)
    edges = np.arange(start, max(stop, start), dtype=np.float32)
    return start, np.minimum(edges + 1, high) - np.maximum(edges, low)


def _blend(image: np.ndarray, row: int, column: int, share: np.ndarray, colour: Colour) -> None:
    """Mix `colour` by `share` into the part of the image whose corner is (row, column)."""
    part = image[row : row + share.shape[0], column : column + share.shape[1]]
    part += share[:, :, None] * (np.asarray(colour, dtype=np.float32) - part)


def draw_box(
    image: np.ndarray, left: float, top: float, right: float, bottom: float, colour: Colour
) -> None:
    """Draw an axis-aligned box into `image`, clipped to the image.

    >>> image = np.zeros((3, 4, 3), np.float32)
    >>> draw_box(image, 0.5, 1, 3, 2, (100, 0, 0))
    >>> image[:, :, 0].tolist()
    [[0.0, 0.0, 0.0, 0.0], [50.0, 100.0, 100.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    row, down = _overlap(top, bottom, image.shape[0])
    column, across = _overlap(left, right, image.shape[1])
    _blend(image, row, column, np.outer(down, across), colour)


def draw_segment(
    image: np.ndarray,
    start: tuple[float, float],
    end: tuple[float, float],
    radius: float,
    colour: Colour,
) -> None:
    """Draw all points within `radius` of the segment from `start` to `end` into `image`.

    A pixel whose centre has distance d to the segment is covered by the fraction radius + 1/2 − d,
    clipped to [0, 1].

    >>> image = np.zeros((3, 3, 3), np.float32)
    >>> draw_segment(image, (1.5, 0.5), (1.5, 2.5), 0.5, (0, 80, 0))
    >>> image[:, :, 1].tolist()
    [[0.0, 80.0, 0.0], [0.0, 80.0, 0.0], [0.0, 80.0, 0.0]]
    """
    height, width = image.shape[:2]
    (x0, y0), (x1, y1), rim = start, end, radius + 0.5
    left, right = max(math.floor(min(x0, x1) - rim), 0), min(math.ceil(max(x0, x1) + rim), width)
    top, bottom = max(math.floor(min(y0, y1) - rim), 0), min(math.ceil(max(y0, y1) + rim), height)
    if left >= right or top >= bottom:
        return
    dx, dy = x1 - x0, y1 - y0
    x = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x0)  # (W,) from the start
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y0))[:, None]  # (H, 1)
    square = dx * dx + dy * dy
    along = (x * dx + y * dy) / np.float32(square if square > 0 else 1.0)  # (H, W)
    np.clip(along, 0, 1, out=along)
    across = np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2)
    _blend(image, top, left, np.clip(np.float32(rim) - across, 0, 1), colour)

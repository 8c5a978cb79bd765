"""Small grey images of simple shapes, vectorised over shapes: parameters `(B, …)` in, pixels out.

The image is the square [−1, 1]², x to the right and y upwards, with pixel centres at the middle of
SIZE × SIZE equal cells. A shape at distance d from a pixel's centre gives it exp(−d²/2w²), so that
images are Lipschitz functions of the parameters. There is no other anti-aliasing.
"""

from __future__ import annotations

import torch

SIZE = 16  # pixels on a side
WIDTH = 0.2  # w, 1.6 pixels


def pixel_centres() -> torch.Tensor:
    """Coordinates (x, y) of the pixels, rows from top to bottom: (SIZE, SIZE, 2)."""
    edge = (torch.arange(SIZE, dtype=torch.float64) + 0.5) * 2.0 / SIZE - 1.0
    y, x = torch.meshgrid(-edge, edge, indexing="ij")
    return torch.stack([x, y], dim=-1)


def rods(start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Rods between two points `(B, 2)`: (B, SIZE, SIZE)."""
    offset = pixel_centres() - start[:, None, None]  # (B, SIZE, SIZE, 2)
    along = (end - start)[:, None, None]
    share = ((offset * along).sum(-1) / along.square().sum(-1)).clamp(0.0, 1.0)
    squared = (offset - share[..., None] * along).square().sum(-1)
    return torch.exp(-squared / (2.0 * WIDTH**2))


def blobs(centre: torch.Tensor, width: float) -> torch.Tensor:
    """Round spots at `(B, 2)`: (B, SIZE, SIZE)."""
    squared = (pixel_centres() - centre[:, None, None]).square().sum(-1)
    return torch.exp(-squared / (2.0 * width**2))


def periodic_blobs(centre: torch.Tensor, width: float) -> torch.Tensor:
    """Round spots at `(B, 2)` that leave at one edge and enter at the opposite one.

    The distance along an axis is that of the points on a circle of circumference 2, with chord
    (2/π)|sin(πΔ/2)|, which is smooth.
    """
    apart = pixel_centres() - centre[:, None, None]
    squared = (torch.sin(0.5 * torch.pi * apart) * 2.0 / torch.pi).square().sum(-1)
    return torch.exp(-squared / (2.0 * width**2))


def balls(light: torch.Tensor) -> torch.Tensor:
    """A ball of radius 1 lit from the direction `(B, 3)`: ((1 + ⟨n, light⟩)/2)² at the normal n.

    Unlike Lambert's law this distinguishes all directions, those from behind included.
    """
    centres = pixel_centres()
    depth = 1.0 - centres.square().sum(-1)  # z² of the surface
    normals = torch.cat([centres, depth.clamp(min=0.0).sqrt()[..., None]], dim=-1)
    shade = (0.5 + 0.5 * torch.einsum("ijk,bk->bij", normals, light)).square()
    return shade * (depth > 0)

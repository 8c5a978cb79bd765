"""Krylov spaces of many linear maps at once, by Lanczos' and Arnoldi's iteration.

No matrix is formed: each iteration applies all maps once, row by row. Ritz values of symmetric maps
approach the largest eigenvalue from below, which suits an estimate and would not suit a
certificate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

_INVARIANT = 1e-10  # residual over image below which a Krylov space is complete

Operator = Callable[[torch.Tensor], torch.Tensor]


def krylov_space(
    operator: Operator, start: torch.Tensor, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal bases of span(v, Kv, …, K^{m−1}v) and the images of their vectors.

    With full reorthogonalisation. Where a space is complete after fewer dimensions, zero vectors
    fill the basis: they add the eigenvalue 0 to the projection of K.

    Args:
        operator: v `(S, D)` -> K v `(S, D)`, row by row its own K.
        start: v `(S, D)`, not zero.
        iterations: dimension m of the space, at most D.

    Returns:
        Basis Q and images QKᵀ, each `(S, m, D)`; Q (images)ᵀ is the projection of K.
    """
    dimension = min(iterations, start.shape[1])
    tiny = torch.finfo(start.dtype).tiny
    basis, images = [start / start.norm(dim=1, keepdim=True)], []
    while True:
        image = operator(basis[-1])
        images.append(image)
        if len(basis) == dimension:
            return torch.stack(basis, dim=1), torch.stack(images, dim=1)
        size = image.norm(dim=1, keepdim=True)
        for _ in range(2):  # twice is enough for orthogonality to rounding
            space = torch.stack(basis, dim=1)  # (S, k, D)
            overlap = (space @ image[:, :, None])[:, :, 0]
            image = image - (overlap[:, None] @ space)[:, 0]
        # A residual of rounding size means an invariant space: it must not be blown up to a
        # direction.
        rest = image.norm(dim=1, keepdim=True)
        basis.append(torch.where(rest > _INVARIANT * size, image / rest.clamp_min(tiny), 0.0))


def largest_ritz_pair(
    operator: Operator, start: torch.Tensor, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest Ritz value `(S,)` of symmetric maps and its unit vector `(S, D)`.

    The value is at most the largest eigenvalue, and equal to it after D iterations for almost every
    `start`. Arguments as in `krylov_space`.

    >>> matrix = torch.diag(torch.tensor([3.0, -5.0, 1.0], dtype=torch.float64))
    >>> largest_ritz_pair(lambda v: v @ matrix, torch.ones(1, 3, dtype=torch.float64), 3)[0]
    tensor([3.], dtype=torch.float64)
    """
    return ritz_pair(*krylov_space(operator, start, iterations))


def ritz_pair(space: torch.Tensor, mapped: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest Ritz value `(S,)` and its unit vector `(S, D)` from a `krylov_space`."""
    small = space @ mapped.mT
    # The eigenvalue 0 of a zero vector must not pass for the largest of a negative map.
    present = space.norm(dim=2) > 0.5
    least = -small.abs().sum(dim=(1, 2))[:, None] - 1.0
    small = small + torch.diag_embed(torch.where(present, 0.0, least))
    values, vectors = torch.linalg.eigh(0.5 * (small + small.mT))
    return values[:, -1], (vectors[:, None, :, -1] @ space)[:, 0]

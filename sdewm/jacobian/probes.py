"""Random probes v with E v vᵀ = I, so that E vᵀKv = tr K for every matrix K.

Each function draws `count` probes for each row of a batch, shape (K, B, n), where n is the number
of entries of one row of `like`. Variances of the resulting estimators: MATHEMATICS.md, S22.
"""

from __future__ import annotations

import torch

from sdewm.base.checks import check_count
from sdewm.jacobian.products import Tensors, as_rows, row_size


def gaussian_probes(count: int, like: Tensors, generator: torch.Generator) -> torch.Tensor:
    """Probes with standard normal entries, shape (K, B, n), dtype and device of `like`.

    >>> gaussian_probes(2, torch.zeros(3, 4), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 4])
    """
    rows = as_rows("like", like)
    shape = (check_count("count", count), rows[0].shape[0], row_size(rows))
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator={generator!r}: expected a torch.Generator.")
    if generator.device.type != rows[0].device.type:
        raise ValueError(
            f"generator is on {generator.device}, the tensors are on {rows[0].device}; use "
            f"torch.Generator({rows[0].device.type!r})."
        )
    return torch.randn(shape, generator=generator, device=rows[0].device).to(rows[0].dtype)


def rademacher_probes(count: int, like: Tensors, generator: torch.Generator) -> torch.Tensor:
    """Probes with entries ±1, probability ½ each; shape (K, B, n), dtype and device of `like`."""
    normal = gaussian_probes(count, like, generator)
    return torch.where(normal < 0, -torch.ones_like(normal), torch.ones_like(normal))


def sphere_probes(count: int, like: Tensors, generator: torch.Generator) -> torch.Tensor:
    """Probes uniform on the sphere of radius √n; shape (K, B, n), dtype and device of `like`.

    With v̂ = v/√n uniform on the unit sphere, |Jv|² = n |Jv̂|², the estimator of Hoffman, Roberts
    and Yaida (2019).
    """
    normal = gaussian_probes(count, like, generator)
    wide = normal.to(torch.promote_types(normal.dtype, torch.float32))
    radius = wide.norm(dim=-1, keepdim=True)
    return (wide * (wide.shape[-1] ** 0.5 / radius)).to(normal.dtype)

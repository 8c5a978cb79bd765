"""Growth rates of the difference of two paths, from the Jacobians of drift and diffusion (S9–S13).

A bound is a formula in these rates. It is a certificate if the rates are proven for all states that
the paths can reach, and an estimate if they are suprema over sampled states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch

CERTIFICATE, ESTIMATE = "certificate", "estimate"
SAMPLED = "certificate per path, mean over sampled paths"


@dataclass(frozen=True)
class Rates:
    """Upper bounds of growth rates at each of N steps of size Δ, in the Euclidean norm.

    With A = Df, A_k = Dg_k, sym A = ½(A + Aᵀ), for all states considered and all unit vectors v:

    Attributes:
        drift: α ≥ ‖A‖, shape `(N,)`.
        noise: β ≥ λ_max(Σ_k A_kᵀA_k)^½, `(N,)`; 0 for additive noise.
        log_norm: λ_p ≥ vᵀAv + ½ Σ|A_k v|² + ½(p − 2) Σ(vᵀA_k v)² for p = 1, 2, 4, `(3, N)`.
        least_log_norm: ν ≤ λ_min(sym A), `(N,)`.
        radial: κ² ≥ Σ_k (vᵀA_k v)², `(N,)`.
        step: a² ≥ λ_max((I + ΔA)ᵀ(I + ΔA) + Δ Σ A_kᵀA_k), the mean-square rate of a step, `(N,)`.
        fourth: a_4⁴ ≥ E|(I + ΔA + Σ A_k ΔB^k)v|⁴, the fourth-moment rate of a step, `(N,)`.
        blocks: S16's comparison matrix: μ(A_ii) on the diagonal, ‖A_ij‖ off it, `(N, b, b)`.
        step_blocks: ‖(I + ΔA)_ij‖, `(N, b, b)`.
        curvature: H ≥ |D²f[v, v]|, `(N,)`.
        noise_curvature: H̄² ≥ Σ_k |D²g_k[v, v]|², `(N,)`.
    """

    drift: torch.Tensor
    noise: torch.Tensor
    log_norm: torch.Tensor
    least_log_norm: torch.Tensor
    radial: torch.Tensor
    step: torch.Tensor
    fourth: torch.Tensor
    blocks: torch.Tensor
    step_blocks: torch.Tensor
    curvature: torch.Tensor
    noise_curvature: torch.Tensor

    @property
    def additive(self) -> bool:
        """Whether the noise is additive (β = 0), so that it cancels in differences of paths."""
        return not bool(self.noise.any())

    def repeated(self, steps: int) -> Rates:
        """Rates with N = 1 repeated for `steps` steps."""
        return Rates(
            **{f.name: getattr(self, f.name).repeat(_per_step(f.name, steps)) for f in fields(self)}
        )

    def to(self, like: torch.Tensor) -> Rates:
        """The rates in the dtype and on the device of `like`."""
        return Rates(**{f.name: getattr(self, f.name).to(like) for f in fields(self)})

    def lowered(self, factor: float) -> Rates:
        """All rates scaled by a factor below 1, as negative controls of bounds need.

        Logarithmic norms are instead lowered by (1 − factor) α, and ν, a lower bound, is raised by
        the same amount. No bound of `theory.bounds` increases.
        """
        down = (1.0 - factor) * self.drift
        scaled = {f.name: factor * getattr(self, f.name) for f in fields(self)}
        scaled["log_norm"] = self.log_norm - down
        scaled["least_log_norm"] = self.least_log_norm + down
        scaled["blocks"] = self.blocks - torch.diag_embed(
            down[:, None].expand(self.blocks.shape[:2])
        )
        return Rates(**scaled)


def _per_step(name: str, steps: int) -> tuple[int, ...]:
    if name == "log_norm":
        return (1, steps)
    return (steps, 1, 1) if name in ("blocks", "step_blocks") else (steps,)


@runtime_checkable
class ConstantJacobians(Protocol):
    """A system with affine drift and diffusion: A and A_k are constant, so rates are exact."""

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A `(D, D)` and the A_k `(M, D, D)`."""
        ...


@runtime_checkable
class CertifiedSystem(Protocol):
    """A system that provides proven rates."""

    def certified_rates(
        self, low: torch.Tensor, high: torch.Tensor, step_size: float, blocks: Sequence[slice]
    ) -> Rates:
        """Rates with N = 1 for all paths of the scheme that start in the box [low, high].

        Raises:
            ValueError: no rates are proven for this box or step; the message gives the reason.
        """
        ...


def no_proof(system: object) -> str:
    """What a system would need for proven rates that gives none.

    >>> print(no_proof(object()))
    object proves no rates; give it jacobians(), if its coefficients are affine, or ...
    """
    return (
        f"{type(system).__name__} proves no rates; give it jacobians(), if its coefficients are "
        "affine, or certified_rates(...), as sdewm.certificates.network_system has for networks "
        "that sdewm.certify supports; or use kind='estimate'."
    )


def block_slices(system: object, blocks: Sequence[slice] | None, size: int) -> list[slice]:
    """The blocks of the state that S16 compares.

    These are `blocks` if given, else `system.blocks`, else the single components.

    Raises:
        ValueError: the blocks do not partition 0 … D − 1 into consecutive slices.

    >>> block_slices(object(), None, 2), block_slices(object(), [slice(0, 2), slice(2, 3)], 3)
    ([slice(0, 1, None), slice(1, 2, None)], [slice(0, 2, None), slice(2, 3, None)])
    """
    own = getattr(system, "blocks", None)
    given = list(own.values() if isinstance(own, dict) else own or ()) if blocks is None else blocks
    allowed = f"expected consecutive slices that partition 0 … {size}."
    whole = isinstance(given, Sequence) and all(
        isinstance(part, slice) and isinstance(part.start, int) and isinstance(part.stop, int)
        for part in given
    )
    if not whole or any(part.step not in (None, 1) for part in given):
        raise ValueError(f"blocks={given!r}: {allowed}")
    parts = sorted(given, key=lambda part: part.start)
    if blocks is None and not parts:
        return [slice(i, i + 1) for i in range(size)]
    cut = [0, *(part.stop for part in parts)]
    starts = [part.start for part in parts]
    if starts != cut[:-1] or cut[-1] != size or any(b <= a for a, b in pairwise(cut)):
        raise ValueError(f"blocks={given!r}: {allowed}")
    return parts

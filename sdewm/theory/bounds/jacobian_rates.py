"""Growth rates computed from Jacobians: logarithmic, step, radial and block norms."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdewm.sde.rates import ConstantJacobians, Rates

_EXACT_SIZE = 16
# eigvalsh of an n×n matrix is backward stable: its error is a small multiple of n ε_mach ‖·‖.
_MARGIN = 64 * torch.finfo(torch.float64).eps


def exact_rates(system: ConstantJacobians, step_size: float, blocks: Sequence[slice]) -> Rates:
    """Rates, N = 1, of a system with constant Jacobians, including a margin for rounding."""
    drift, noise = system.jacobians()
    per_state = jacobian_rates(drift[None], noise[None], step_size, blocks)
    return Rates(**{name: _outward(name, value, drift, noise) for name, value in per_state.items()})


def _outward(
    name: str, value: torch.Tensor, drift: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    if name in ("curvature", "noise_curvature"):
        return value
    if name in ("noise", "radial") and not bool(noise.any()):
        return value  # exactly additive
    size = 1.0 + drift.norm() + noise.norm()
    margin = _MARGIN * len(drift) * size**2
    return value - margin if name == "least_log_norm" else value + margin


def jacobian_rates(
    drift: torch.Tensor,
    noise: torch.Tensor | None,
    step_size: float,
    blocks: Sequence[slice],
) -> dict[str, torch.Tensor]:
    """The rates at each of B states, by LAPACK; curvatures (of second derivatives) are set to 0.

    Args:
        drift: A `(B, D, D)`.
        noise: A_k `(B, M, D, D)`; for diagonal noise the rows ∇g_k `(B, D, D)`; None if all are 0.
        step_size: Δ.
        blocks: blocks of the state.

    Returns:
        {name of `Rates`: `(B,)`, `(B, b, b)`, or `(3, B)` for log_norm}.
    """
    batch, size = drift.shape[:2]
    zero = drift.new_zeros(batch)
    symmetric = 0.5 * (drift + drift.mT)
    step_map = torch.eye(size, dtype=drift.dtype, device=drift.device) + step_size * drift
    gram, radial, least, product = None, zero, zero, zero
    if noise is not None and bool(noise.any()):
        rows = noise if noise.dim() == 3 else noise.flatten(1, 2)
        gram = rows.mT @ rows  # Σ A_kᵀA_k
        radial, least = _radial(noise)
        product = _product(step_map, noise)
    spectrum = torch.linalg.eigvalsh(symmetric)
    second = largest_eigenvalue(symmetric + 0.5 * gram) if gram is not None else spectrum[:, -1]
    square = step_map.mT @ step_map
    if gram is not None:
        square = square + step_size * gram
    step_square = largest_eigenvalue(square).clamp_min(0)
    beta_square = zero if gram is None else largest_eigenvalue(gram).clamp_min(0)
    # Sums over drivers are crude where there are many: Σ (u · A_k v)² ≤ |u|² Σ |A_k v|².
    radial = torch.minimum(radial, beta_square)
    product = torch.minimum(product, step_square * beta_square)
    # E|Fv|⁴ = (E|Fv|²)² + 4Δ Σ ((I + ΔA)v · A_k v)² + at most 2Δ² (Σ|A_k v|²)²
    fourth = step_square**2 + 4 * step_size * product + 2 * step_size**2 * beta_square**2
    return {
        "drift": largest_singular_value(drift),
        "noise": beta_square.sqrt(),
        "log_norm": torch.stack((second - 0.5 * least, second, second + radial)),
        "least_log_norm": spectrum[:, 0],
        "radial": radial.sqrt(),
        "step": step_square.sqrt(),
        "fourth": fourth**0.25,
        "blocks": _block_norms(drift, blocks, logarithmic=True),
        "step_blocks": _block_norms(step_map, blocks, logarithmic=False),
        "curvature": zero,
        "noise_curvature": zero,
    }


def _radial(noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Upper and lower bound of Σ_k (vᵀA_k v)² over unit v, each `(B,)`."""
    if noise.dim() == 3:  # A_k = e_k rᵀ: the eigenvalues of sym A_k are ½(r_k ± |r|), or 0
        length, own = noise.norm(dim=2), noise.diagonal(dim1=1, dim2=2)
        upper = (0.5 * (own.abs() + length)).square().sum(1)
        upper = torch.minimum(upper, length.square().amax(1))  # Σ v_k² (r_k · v)²
        return upper, own.square().sum(1) if noise.shape[1] == 1 else torch.zeros_like(upper)
    spectrum = torch.linalg.eigvalsh(0.5 * (noise + noise.mT))  # (B, M, D)
    low, high = spectrum[..., 0], spectrum[..., -1]
    definite = torch.maximum(low, -high).clamp_min(0)
    return torch.maximum(-low, high).square().sum(1), definite.square().sum(1)


def _product(step_map: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Upper bound of Σ_k ((I + ΔA)v · A_k v)² over unit v, `(B,)`."""
    if noise.dim() == 3:  # (I + ΔA)ᵀ e_k rᵀ has rank one
        inner = (step_map * noise).sum(2).abs()
        return (0.5 * (inner + step_map.norm(dim=2) * noise.norm(dim=2))).square().sum(1)
    matrix = step_map.mT[:, None] @ noise
    spectrum = torch.linalg.eigvalsh(0.5 * (matrix + matrix.mT))
    return spectrum.abs().amax(dim=2).square().sum(1)


def largest_eigenvalue(matrix: torch.Tensor) -> torch.Tensor:
    """λ_max `(…,)` of symmetric matrices `(…, D, D)`."""
    return torch.linalg.eigvalsh(matrix)[..., -1]


def largest_singular_value(matrix: torch.Tensor) -> torch.Tensor:
    """‖·‖ `(…,)` of matrices `(…, n, m)`, from the smaller of the two Gram matrices."""
    if matrix.shape[-1] == 1 or matrix.shape[-2] == 1:
        return matrix.flatten(-2).norm(dim=-1)
    wide = matrix.shape[-1] > matrix.shape[-2]
    gram = matrix @ matrix.mT if wide else matrix.mT @ matrix
    return largest_eigenvalue(gram).clamp_min(0).sqrt()


def transition_norms(steps: torch.Tensor) -> torch.Tensor:
    """Upper bounds of ‖F_{n−1} ⋯ F_k‖ for maps `(P, N, D, D)`: `(P, N + 1, N + 1)`, 0 for n < k.

    Exact for D ≤ 16. For larger D, ‖X‖ ≤ ‖(XᵀX)⁴‖_F^(1/8), too large by at most a factor D^(1/16).

    >>> transition_norms(torch.full((1, 2, 1, 1), 0.5, dtype=torch.float64))[0]
    tensor([[1.0000, 0.0000, 0.0000],
            [0.5000, 1.0000, 0.0000],
            [0.2500, 0.5000, 1.0000]], dtype=torch.float64)
    """
    paths, count, size = steps.shape[:3]
    norms = torch.eye(count + 1, dtype=steps.dtype, device=steps.device).repeat(paths, 1, 1)
    products = steps[:, :0]  # Φ_{n,k} for k < n
    for n in range(count):
        products = torch.cat((steps[:, n : n + 1] @ products, steps[:, n : n + 1]), dim=1)
        exact = size <= _EXACT_SIZE
        norms[:, n + 1, : n + 1] = (
            largest_singular_value(products) if exact else _schatten(products)
        )
    return norms


def _schatten(matrix: torch.Tensor) -> torch.Tensor:
    scale = matrix.norm(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)
    gram = (matrix / scale).mT @ (matrix / scale)
    square = gram @ gram
    return scale[..., 0, 0] * (square @ square).norm(dim=(-2, -1)) ** 0.125


def _block_norms(matrix: torch.Tensor, blocks: Sequence[slice], logarithmic: bool) -> torch.Tensor:
    """Norms of the blocks `(B, b, b)`; `logarithmic` ones on the diagonal where asked for."""
    if all(part.stop - part.start == 1 for part in blocks):
        norms = matrix.abs()
        if logarithmic:
            norms = norms - torch.diag_embed(norms.diagonal(dim1=1, dim2=2))
            norms = norms + torch.diag_embed(matrix.diagonal(dim1=1, dim2=2))
        return norms
    rows = []
    for i, row in enumerate(blocks):
        cells = []
        for j, column in enumerate(blocks):
            block = matrix[:, row, column]
            if i == j and logarithmic:
                cells.append(largest_eigenvalue(0.5 * (block + block.mT)))
            else:
                cells.append(largest_singular_value(block))
        rows.append(torch.stack(cells, dim=1))
    return torch.stack(rows, dim=1)

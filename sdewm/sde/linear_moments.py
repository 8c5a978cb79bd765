"""Second moments of linear equations dx = A x dt + Σ_k A_k x dB^k (S12, S19).

They solve C' = 𝓛C with 𝓛C = AC + CAᵀ + Σ A_k C A_kᵀ. The D²×D² matrix of 𝓛 is formed for small D
only; otherwise all computations use D×D matrices.
"""

from __future__ import annotations

import math

import numpy as np
import torch

_DENSE = 16  # components up to which the matrix of 𝓛 is formed
_KRYLOV = 60  # Krylov vectors for more components
_SWEEPS = 60  # of the fixed point for the weight matrix


def moment_path(
    drift: torch.Tensor,
    noise: torch.Tensor,
    start: torch.Tensor,
    step_size: float,
    steps: int,
    *,
    scheme: bool,
) -> torch.Tensor:
    """E[x xᵀ] at 0, Δ, …, NΔ, shape `(N + 1, D, D)`, from E[x_0 x_0ᵀ] = C.

    Args:
        drift: A `(D, D)`.
        noise: A_k `(M, D, D)`.
        start: C `(D, D)`.
        step_size: Δ.
        steps: N.
        scheme: False: moments of the equation, by the exponential of Δ𝓛 (for large D as a series);
            True: moments of the Euler–Maruyama scheme, C ← (I + ΔA)C(I + ΔA)ᵀ + Δ Σ A_k C A_kᵀ.

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> for scheme in (False, True):  # dx = 0.2 x dt + 0.4 x dB: E x² = e^0.56, (1.1² + 0.08)²
    ...     moment_path(0.2 * one, 0.4 * one[None], one, 0.5, 2, scheme=scheme)[-1].item()
    1.7506725...
    1.6641
    """
    eye = torch.eye(len(drift), dtype=drift.dtype, device=drift.device)
    step_map, flow = eye + step_size * drift, None
    if not scheme and not bool(noise.any()):
        step_map, scheme = torch.linalg.matrix_exp(step_size * drift), True
    elif not scheme and len(drift) <= _DENSE:
        flow = torch.linalg.matrix_exp(step_size * _matrix(drift, noise))
    now, path = start, [start]
    for _ in range(steps):
        if scheme:
            now = step_map @ now @ step_map.T + step_size * _sandwich(noise, now)
        elif flow is not None:
            now = (flow @ now.flatten()).view_as(now)
        else:
            now = _exponential(drift, noise, now, step_size)
        path.append(now)
    return torch.stack(path)


def generator(drift: torch.Tensor, noise: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    """𝓛C = AC + CAᵀ + Σ A_k C A_kᵀ; transposed A and A_k give the adjoint 𝓛*C."""
    return drift @ moment + moment @ drift.T + _sandwich(noise, moment)


def _sandwich(noise: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    return (noise @ moment @ noise.mT).sum(0)


def _matrix(drift: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """A ⊗ I + I ⊗ A + Σ A_k ⊗ A_k `(D², D²)`."""
    eye = torch.eye(len(drift), dtype=drift.dtype, device=drift.device)
    matrix = torch.kron(drift, eye) + torch.kron(eye, drift)
    for one in noise:
        matrix = matrix + torch.kron(one, one)
    return matrix


def _exponential(
    drift: torch.Tensor, noise: torch.Tensor, moment: torch.Tensor, time: float
) -> torch.Tensor:
    """e^{t𝓛}C by the Taylor series on pieces with t‖𝓛‖ ≤ 1."""
    norm = 2 * float(drift.norm()) + float(noise.square().sum())
    pieces = max(1, math.ceil(abs(time) * norm))
    for _ in range(pieces):
        term = moment
        for order in range(1, 25):  # 1/25! < 1e-25
            term = (time / pieces / order) * generator(drift, noise, term)
            moment = moment + term
    return moment


def mean_square_growth_rate(drift: torch.Tensor, noise: torch.Tensor) -> float:
    """ρ = ½ max Re spec 𝓛, the exponential rate of (E‖Φ_t‖_F²)^½ (S12).

    >>> A = torch.tensor([[-0.6, 0.9], [0.2, -0.4]], dtype=torch.float64)
    >>> A_1 = torch.tensor([[[0.3, 0.1], [-0.2, 0.25]]], dtype=torch.float64)
    >>> mean_square_growth_rate(A, A_1)
    -0.0597326427
    """
    size = len(drift)
    if not bool(noise.any()):
        return float(torch.linalg.eigvals(drift).real.max())
    if size <= _DENSE:
        return 0.5 * float(torch.linalg.eigvals(_matrix(drift, noise)).real.max())
    from scipy.sparse.linalg import LinearOperator, eigs

    def product(flat: object) -> object:
        moment = torch.as_tensor(flat, dtype=drift.dtype).reshape(size, size)
        return generator(drift.cpu(), noise.cpu(), moment).flatten().numpy()

    operator = LinearOperator((size**2, size**2), matvec=product, dtype=float)  # type: ignore[call-arg]
    identity = torch.eye(size, dtype=drift.dtype).flatten().numpy()
    # With the 20 vectors of the default, eigenvalues of nearly equal real part are often confused.
    top = eigs(operator, k=1, which="LR", v0=identity, ncv=_KRYLOV, return_eigenvectors=False)
    least = float(torch.linalg.eigvals(drift).real.max())  # E|x|² grows no slower than |E x|²
    return max(0.5 * float(np.real(top).max()), least)


def weight_matrix(drift: torch.Tensor, noise: torch.Tensor, rate: float) -> torch.Tensor:
    """M ≻ 0 such that the growth rate in |x|_M = (xᵀMx)^½ is at most about r = `rate` > ρ (S12).

    M = ∫₀^∞ e^{−2rt} e^{t𝓛*} I dt solves 𝓛*M = 2rM − I. It tends to the Perron eigenmatrix of 𝓛*
    as r → ρ, and to the identity (up to scale) as r → ∞. The fixed-point iteration
    M ← Lyapunov(A − r, I + Σ A_kᵀMA_k) is stopped early if it converges slowly; the exact rate in
    the norm |·|_M must therefore be computed from M.

    Raises:
        ValueError: the rate does not exceed the real parts of the spectrum of A.
    """
    from scipy.linalg import solve_continuous_lyapunov

    size = len(drift)
    shifted = (drift - rate * torch.eye(size, dtype=drift.dtype, device=drift.device)).cpu()
    if float(torch.linalg.eigvals(shifted).real.max()) >= 0:
        raise ValueError(
            f"rate={rate!r}: expected a number above the real parts of the spectrum of A."
        )
    now = torch.zeros_like(shifted)
    eye, transposed = torch.eye(size, dtype=drift.dtype), noise.mT.cpu()
    for _ in range(_SWEEPS if bool(noise.any()) else 1):
        source = eye + _sandwich(transposed, now)
        solved = solve_continuous_lyapunov(shifted.T.numpy(), -source.numpy())
        following = torch.as_tensor(solved, dtype=drift.dtype)
        settled = float((following - now).norm()) <= 1e-10 * float(following.norm())
        now = 0.5 * (following + following.T)
        if settled:
            break
    return (now / now.trace() * size).to(drift.device)

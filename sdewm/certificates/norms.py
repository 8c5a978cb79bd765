"""Proven upper bounds of norms and eigenvalues of float64 matrices.

An eigenvalue solver only suggests a number s. If the Cholesky factorisation of s I − S succeeds, s
plus an explicit rounding term is a proven upper bound of the spectrum of S (Rump, Verification of
positive definiteness, BIT 46, 2006): the computed factor is exact for a matrix that differs from
s I − S by at most γ/(1 − γ) tr(s I − S), γ = γ_{n+1}, for any order of the operations.
"""

from __future__ import annotations

import math

import torch

from sdewm.certificates.interval import UNIT, above, gamma

LANCZOS_SIZE = 300  # from here on quicker than the whole spectrum
LANCZOS_STEPS = 128
# Norms from here to ∞ are sums of squares of which only negligible ones vanish.
LEAST_NORM = 2.0**-450
MODERATE = 2.0**100  # larger sizes, and those below its inverse, are scaled by powers of two


def frobenius(matrix: torch.Tensor) -> float:
    """An upper bound of the Frobenius norm (or the Euclidean norm of a vector)."""
    norm = float(torch.linalg.vector_norm(matrix))
    if not LEAST_NORM < norm < math.inf:  # squares may have vanished, or exceed all numbers
        largest = float(matrix.abs().max()) if matrix.numel() else 0.0
        if not 0.0 < largest < math.inf:
            return largest
        scale = _power_of_two(largest)
        norm = scale * float(torch.linalg.vector_norm(matrix / scale))
    return above(norm * (1.0 + gamma(matrix.numel())))


def _power_of_two(size: float) -> float:
    """A power of two near a positive number; the quotient by it is below 2."""
    return 2.0 ** max(-1022, min(math.frexp(size)[1], 1023))


def row_sums(matrix: torch.Tensor) -> torch.Tensor:
    """Upper bounds of Σ_j |a_ij|, shape (m,)."""
    return matrix.abs().sum(dim=1) * (1.0 + 2.0 * gamma(matrix.shape[1]))


def row_norms(matrix: torch.Tensor) -> torch.Tensor:
    """Upper bounds of the Euclidean norms of the rows, shape (m,).

    Where squares vanish or exceed all numbers, those by the sums of absolute values.
    """
    norms = torch.linalg.vector_norm(matrix, dim=1) * (1.0 + 2.0 * gamma(matrix.shape[1]))
    usual = (norms > LEAST_NORM) & (norms < math.inf)
    return norms if bool(usual.all()) else torch.where(usual, norms, row_sums(matrix))


def multiply(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The rounded product of two matrices and a bound of its error in the Frobenius norm."""
    result = left @ right
    return result, above(gamma(left.shape[1]) * frobenius(left) * frobenius(right))


def largest_eigenvalue(matrix: torch.Tensor, error: float = 0.0) -> float:
    """An upper bound of λ_max of every symmetric matrix within `error` of (S + Sᵀ)/2.

    Args:
        matrix: S, (n, n).
        error: bound of the distance in the 2-norm.

    >>> value = largest_eigenvalue(torch.tensor([[0.0, 2.0], [0.0, 0.0]], dtype=torch.float64))
    >>> 1.0 <= value < 1.0 + 1e-13
    True
    """
    if not (bool(torch.isfinite(matrix).all()) and math.isfinite(error)):
        return math.inf
    symmetric = (matrix + matrix.T) / 2
    size = len(symmetric)
    length = frobenius(symmetric)
    error = above(error + UNIT * length)  # of the sum above
    if length == 0.0:
        return error
    slack = 4.0 * (size + 8) * UNIT * length
    quick = size >= LANCZOS_SIZE
    suggested = leading(symmetric) if quick else float(torch.linalg.eigvalsh(symmetric)[-1])
    while slack <= 4.0 * length:
        shifted = -symmetric
        shifted.diagonal().add_(suggested + slack)
        if int(torch.linalg.cholesky_ex(shifted).info) == 0:
            trace = float(shifted.diagonal().sum())
            # Four times the theorem's term: kernels that multiply by reciprocals round once more.
            # It also covers the rounding of the diagonal of s I - S.
            return suggested + slack + above(4.0 * gamma(size + 1) * trace + error) + UNIT * length
        if quick:  # not converged: the whole spectrum, once
            quick, suggested = False, float(torch.linalg.eigvalsh(symmetric)[-1])
        else:
            slack *= 8.0
    return above(length + error)  # not reached for finite matrices: length bounds every eigenvalue


def leading(matrix: torch.Tensor) -> float:
    """A Lanczos estimate, from below, of λ_max of a symmetric matrix; not a proven bound.

    The iteration stops when the residual of the Ritz vector is at most 1e-8 |value|. The error of
    the value is then of the order of the squared residual over the spectral gap.
    """
    size = len(matrix)
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(size, dtype=torch.float64, generator=generator)
    basis = torch.zeros(LANCZOS_STEPS + 1, size, dtype=torch.float64)
    basis[0] = vector / torch.linalg.vector_norm(vector)
    small = torch.zeros(LANCZOS_STEPS + 1, LANCZOS_STEPS + 1, dtype=torch.float64)
    value = -math.inf
    for step in range(LANCZOS_STEPS):
        vector = matrix @ basis[step]
        small[step, step] = vector @ basis[step]
        known = basis[: step + 1]
        for _ in range(2):  # full orthogonalisation, twice is enough
            vector = vector - known.T @ (known @ vector)
        rest = float(torch.linalg.vector_norm(vector))
        last = step == LANCZOS_STEPS - 1
        if rest == 0.0 or last or step % 16 == 15:
            values, vectors = torch.linalg.eigh(small[: step + 1, : step + 1])
            value = float(values[-1])
            if rest * abs(float(vectors[-1, -1])) <= 1e-8 * abs(value):
                return value
        small[step, step + 1] = small[step + 1, step] = rest
        basis[step + 1] = vector / rest
    return value


def spectral_norm(matrix: torch.Tensor) -> float:
    """An upper bound of the 2-norm of A, (m, n).

    Computed from λ_max of the smaller Gram matrix; the relative excess is about
    max(m, n) min(m, n) 2⁻⁵².

    >>> value = spectral_norm(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    >>> 5.0 <= value < 5.0 + 1e-12
    True
    """
    if matrix.numel() == 0:
        return 0.0
    largest = float(matrix.abs().max())
    if not math.isfinite(largest):
        return math.inf
    if largest == 0.0:
        return 0.0
    scale = _power_of_two(largest)  # squares neither overflow nor vanish
    scaled = matrix / scale
    wide = scaled if len(scaled) <= scaled.shape[1] else scaled.T
    gram, rounding = multiply(wide, wide.T)
    return above(scale * math.sqrt(max(largest_eigenvalue(gram, rounding), 0.0)))


def scaled_norm(scale: torch.Tensor, matrix: torch.Tensor, norm: float | None = None) -> float:
    """An upper bound of the 2-norm of diag(scale) A.

    Args:
        scale: non-negative factors, (m,).
        matrix: A, (m, n).
        norm: an upper bound of |A|₂, if known; it suffices if `scale` is constant.
    """
    if not bool(torch.isfinite(scale).all()):
        return math.inf
    if norm is not None and bool((scale == scale[0]).all()):
        return above(norm * float(scale[0]))
    return above(spectral_norm(scale[:, None] * matrix) * (1.0 + 2.0**-50))


def joint_eigenvalue(
    matrix: torch.Tensor, left: torch.Tensor, right: torch.Tensor, error: float, rounds: int
) -> float:
    """An upper bound of λ_max(sym(S + A R B)) for every diagonal R with entries in [−1, 1].

    For every positive diagonal T, sym(A R B) ≤ (A T⁻¹ Aᵀ + Bᵀ T B)/2, hence the bound
    λ_max(sym S + (A T⁻¹ Aᵀ + Bᵀ T B)/2). T is initialised from the norms of the columns of A and
    rows of B. Each round moves it towards balance of the two terms on the leading eigenvectors, the
    condition for a minimum. The bound for the best T is then verified.

    Args:
        matrix: S, (n, n).
        left: A, (n, k).
        right: B, (k, n).
        error: bound of the 2-norm error of S.
        rounds: number of updates of T.
    """
    kept = (left != 0).any(dim=0) & (right != 0).any(dim=1)  # the other units add A R B = 0
    left, right = _balanced(left[:, kept], right[kept])
    symmetric = (matrix + matrix.T) / 2
    if left.shape[1] == 0:
        return largest_eigenvalue(symmetric, error)
    sizes = [float(part.abs().max()) for part in (symmetric, left, right)]  # nan if an entry is
    size = max(sizes[0], sizes[1] * sizes[2])
    if not all(map(math.isfinite, [*sizes, size])):
        return math.inf
    if not 1.0 / MODERATE < size < MODERATE:
        root = 2.0 ** (math.frexp(size)[1] // 2)
        parts = symmetric / root / root, left / root, right / root
        value = joint_eigenvalue(*parts, error / root / root + 2.0**-500, rounds)
        return above(value * root) * root
    weight_left, weight_right = (left**2).sum(dim=0), (right**2).sum(dim=1)
    log_scale = 0.5 * torch.log(weight_left / weight_right)
    log_scale = log_scale.nan_to_num(0.0, 0.0, 0.0)  # of units of which only rounding is left
    best, best_scale = math.inf, log_scale
    for index in range(rounds):
        scale = torch.exp(log_scale)
        whole = symmetric + ((left / scale) @ left.T + right.T @ (scale[:, None] * right)) / 2
        values, vectors = torch.linalg.eigh(whole)
        gain = best - float(values[-1])
        if gain > 0:
            best, best_scale = float(values[-1]), log_scale
        if index >= 5 and gain < 1e-4 * float(values[-1] - values[0]):
            break
        width = 0.1 * 0.8**index * float(values[-1] - values[0])
        share = torch.softmax((values - values[-1]) / max(width, 1e-300), dim=0)
        pulled = ((left.T @ vectors) ** 2) @ share
        pushed = ((right @ vectors) ** 2) @ share
        target = 0.5 * torch.log((pulled + 1e-300) / (pushed + 1e-300))
        log_scale = log_scale + 0.5 * (target - log_scale)
    root = torch.exp(0.5 * best_scale)
    outer, inner = left / root, root[:, None] * right
    first, first_error = multiply(outer, outer.T)
    second, second_error = multiply(inner.T, inner)
    total = symmetric + (first + second) / 2
    rounding = frobenius(outer) * frobenius(inner)  # of the entries of the two, per unit
    rounding = 4.0 * UNIT * (frobenius(symmetric) + frobenius(first) + frobenius(second) + rounding)
    return largest_eigenvalue(total, above(error + first_error + second_error + rounding))


def _balanced(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A S and S⁻¹ B with powers of two S, unless all sizes are moderate.

    The largest entries of a column of A S and of a row of S⁻¹ B are about equal.
    """
    sizes = torch.stack([left.abs().amax(dim=0), right.abs().amax(dim=1)])
    if bool(((sizes > 1.0 / MODERATE) & (sizes < MODERATE)).all()):
        return left, right
    powers = [math.frexp(size)[1] for size in sizes.flatten().tolist()]
    count = len(powers) // 2
    halves = [(b - a) // 2 for a, b in zip(powers[:count], powers[count:], strict=True)]
    scale = torch.tensor([2.0 ** max(-1022, min(half, 1022)) for half in halves], dtype=left.dtype)
    return left * scale, right / scale[:, None]


def joint_norm(
    matrix: torch.Tensor, left: torch.Tensor, right: torch.Tensor, error: float, rounds: int
) -> float:
    """An upper bound of the 2-norm of S + A R B, S (m, n), for every R as in `joint_eigenvalue`.

    The 2-norm of X = S + A R B is the largest eigenvalue of [[0, X], [Xᵀ, 0]].
    """
    rows, columns = matrix.shape
    whole = torch.zeros(rows + columns, rows + columns, dtype=torch.float64)
    whole[:rows, rows:] = matrix
    whole[rows:, :rows] = matrix.T
    units = left.shape[1]
    outer = torch.cat([2.0 * left, torch.zeros(columns, units, dtype=torch.float64)])
    inner = torch.cat([torch.zeros(units, rows, dtype=torch.float64), right], dim=1)
    return joint_eigenvalue(whole, outer, inner, error, rounds)

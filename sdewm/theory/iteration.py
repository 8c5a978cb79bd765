"""Rates of systems too large for LAPACK, by Lanczos' iteration on Jacobian products.

No Jacobian is formed: each iteration costs one batched Jacobian-vector product and one
vector-Jacobian product for all states at once. Ritz values approach the largest eigenvalue from
below, which suits an estimate and would not suit a certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.func import jvp, vjp

from sdewm.base.taylor import Tensors

LARGE = 64  # components above which this is used
_ITERATIONS = 10
_MOST_BLOCKS = 4  # of which norms are computed pair by pair

Operator = Callable[[torch.Tensor], torch.Tensor]


def lanczos_largest(operator: Operator, start: torch.Tensor, iterations: int) -> torch.Tensor:
    """The largest Ritz value of symmetric operators on the Krylov spaces of `start`, `(S,)`.

    With full reorthogonalisation; at most the largest eigenvalue, and equal to it after D steps.

    Args:
        operator: v `(S, D)` -> K v `(S, D)`, row by row its own K.
        start: `(S, D)`, not zero.
        iterations: dimension of the Krylov space.

    >>> matrix = torch.diag(torch.tensor([3.0, -5.0, 1.0], dtype=torch.float64))
    >>> lanczos_largest(lambda v: v @ matrix, torch.ones(1, 3, dtype=torch.float64), 3)
    tensor([3.], dtype=torch.float64)
    """
    tiny = torch.finfo(start.dtype).tiny
    now = start / start.norm(dim=1, keepdim=True)
    basis, images = [now], []
    for k in range(min(iterations, start.shape[1])):
        image = operator(basis[-1])
        images.append(image)
        if k + 1 == min(iterations, start.shape[1]):
            break
        for _ in range(2):  # twice is enough for orthogonality to rounding
            space = torch.stack(basis, dim=1)  # (S, k, D)
            overlap = (space @ image[:, :, None])[:, :, 0]
            image = image - (overlap[:, None] @ space)[:, 0]
        # A zero residual means an invariant space; the zero vector then adds the Ritz value 0 and
        # is left out below.
        basis.append(image / image.norm(dim=1, keepdim=True).clamp_min(tiny))
    space, mapped = torch.stack(basis, dim=1), torch.stack(images, dim=1)
    small = space @ mapped.mT
    present = space.norm(dim=2) > 0.5
    least = -small.abs().sum(dim=(1, 2))[:, None] - 1.0
    small = small + torch.diag_embed(torch.where(present, 0.0, least))
    return torch.linalg.eigvalsh(0.5 * (small + small.mT))[:, -1]


def iterated_rates(
    coefficients: Callable[..., Tensors],
    t: torch.Tensor,
    states: torch.Tensor,
    step_size: float,
    blocks: Sequence[slice],
) -> dict[str, torch.Tensor]:
    """What `jacobian_rates` gives, at states `(S, D)`, without the Jacobians.

    ν is replaced by −α, κ by β, and λ_1 by λ_2, which are admissible and no smaller (ν: no larger).
    Norms of more than four blocks are not computed: infinite.
    """
    zero = states.new_zeros(len(states))
    diffusion = coefficients(t, states)[1]

    def at(x: torch.Tensor) -> Tensors:
        return coefficients(t, x)

    pull = vjp(at, states)[1]
    no_noise = torch.zeros_like(diffusion)

    def push(v: torch.Tensor) -> Tensors:
        return jvp(at, (states,), (v,))[1]

    def pull_drift(v: torch.Tensor) -> torch.Tensor:
        return pull((v, no_noise))[0]

    def step(v: torch.Tensor) -> torch.Tensor:
        return v + step_size * push(v)[0]

    def step_back(v: torch.Tensor) -> torch.Tensor:
        return v + step_size * pull_drift(v)

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(states.shape, dtype=states.dtype, generator=generator).to(states.device)
    additive = not bool(push(start)[1].any())

    def noise_gram(v: torch.Tensor) -> torch.Tensor:
        return pull((torch.zeros_like(v), push(v)[1]))[0]

    def symmetric(v: torch.Tensor) -> torch.Tensor:
        drift, diffusion = push(v)
        half = 0.5 * (drift + pull_drift(v))
        return half if additive else half + 0.5 * pull((torch.zeros_like(v), diffusion))[0]

    def square(v: torch.Tensor) -> torch.Tensor:
        moved = step_back(step(v))
        return moved if additive else moved + step_size * noise_gram(v)

    def top(operator: Operator, within: slice | None = None) -> torch.Tensor:
        first = start if within is None else _inside(start, within)
        return lanczos_largest(operator, first, _ITERATIONS)

    drift = top(lambda v: pull_drift(push(v)[0])).clamp_min(0).sqrt()
    noise = zero if additive else top(noise_gram).clamp_min(0).sqrt()
    second, step_rate = top(symmetric), top(square).clamp_min(0).sqrt()
    # ((I + ΔA)v · A_k v)² sums to at most a² β²
    fourth = step_rate**4 + 4 * step_size * (step_rate * noise) ** 2 + 2 * step_size**2 * noise**4
    rates = {
        "drift": drift,
        "noise": noise,
        "log_norm": torch.stack((second, second, second + noise**2)),
        "least_log_norm": -drift,
        "radial": noise,
        "step": step_rate,
        "fourth": fourth**0.25,
    }
    count = len(blocks)
    if count > _MOST_BLOCKS or not additive:
        unknown = zero[:, None, None].expand(-1, count, count) + torch.inf
        return rates | {"blocks": unknown, "step_blocks": unknown}
    norms = zero[:, None, None].repeat(1, count, count)
    step_norms = norms.clone()
    for i, row in enumerate(blocks):
        for j, column in enumerate(blocks):

            def gram(v: torch.Tensor, row: slice = row, column: slice = column) -> torch.Tensor:
                return _inside(step_back(_inside(step(_inside(v, column)), row)), column)

            def part(v: torch.Tensor, own: slice = row) -> torch.Tensor:
                return _inside(symmetric(_inside(v, own)), own)

            step_norms[:, i, j] = top(gram, column).clamp_min(0).sqrt()
            if i == j:
                norms[:, i, j] = top(part, column)
            else:  # (I + ΔA)_ij = ΔA_ij
                norms[:, i, j] = step_norms[:, i, j] / step_size
    return rates | {"blocks": norms, "step_blocks": step_norms}


def _inside(v: torch.Tensor, part: slice) -> torch.Tensor:
    kept = torch.zeros_like(v)
    kept[:, part] = v[:, part]
    return kept

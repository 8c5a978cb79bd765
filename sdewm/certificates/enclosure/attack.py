"""Lower bounds of the divergence on one path: the largest distance that a search finds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sdewm.certificates.enclosure.rollout import Entry, Step

SMALL = 1e-5  # of the radius: step of the central differences


def attack_path(
    step: Step,
    x0: Tensor,
    directions: Tensor,
    *,
    steps: int,
    seed: int,
    samples: int = 400,
    ascents: int = 15,
    entry: Entry | None = None,
) -> Tensor:
    """The largest |X_k(e) − X_k(0)| found among |e|₂ ≤ 1, (N + 1,), for errors `directions` e.

    Three searches: random directions; the leading singular directions of the derivative of each
    X_k, both signs; and, from these and the best random direction for each k, ascent of the
    gradient of |X_k(e) − X_k(0)| through the model's step, where e moves to the direction of the
    gradient, or half of the way there if this is not better.

    Args:
        step: F_k, written in torch; takes any number of rows.
        x0: (D,).
        directions: A, (D, p).
        steps: N.
        seed: of the random directions.
        samples: number of random directions.
        ascents: number of steps of each ascent.
        entry: as in `rollout.follow`.
    """
    enter = entry or _as_it_is
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(samples, directions.shape[1], generator=generator).double()
    drawn = drawn / drawn.norm(dim=1, keepdim=True)

    def distances(e: Tensor) -> Tensor:
        """|X_k(e) − X_k(0)|, (N + 1, B)."""
        x = enter(torch.cat([x0[None], x0 + e @ directions.T]))
        found = [(x[1:] - x[0]).norm(dim=1)]
        for n in range(steps):
            x = step(n, x)
            found.append((x[1:] - x[0]).norm(dim=1))
        return torch.stack(found)

    with torch.no_grad():
        random = distances(drawn)
        leading = leading_directions(step, entry, x0, directions, steps)  # (N + 1, p)
        both = torch.cat([leading, -leading])
        singular = distances(both)
    best = torch.maximum(random.amax(1), singular.amax(1))
    aims = torch.arange(steps + 1)
    e = torch.cat([both, drawn[random.argmax(1)]])
    return _ascend(distances, e, aims.repeat(3), best, ascents)


def _ascend(
    distances: Callable[[Tensor], Tensor], e: Tensor, aims: Tensor, best: Tensor, ascents: int
) -> Tensor:
    """The largest distances at all times on the way; row i ascends the distance at aims[i]."""
    rows = torch.arange(len(e))
    value, slope = torch.full((len(e),), -torch.inf, dtype=torch.float64), torch.zeros_like(e)
    proposal, share = e, torch.ones(len(e), 1, dtype=torch.float64)
    for _ in range(ascents + 1):
        proposal = proposal.detach().requires_grad_()
        with torch.enable_grad():
            found = distances(proposal)
            aimed = found[aims, rows]
            (gradient,) = torch.autograd.grad(aimed.sum(), proposal)
        found, aimed = found.detach(), aimed.detach()
        best = torch.maximum(best, found.nan_to_num(nan=0.0).amax(1))
        better = (aimed > value)[:, None]
        value = torch.maximum(aimed, value)
        e, slope = torch.where(better, proposal.detach(), e), torch.where(better, gradient, slope)
        share = torch.where(better, 1.0, 0.5 * share)
        length = slope.norm(dim=1, keepdim=True)
        target = torch.where(length > 0, slope / length.clamp(min=1e-300), e)
        moved = e + share * (target - e)
        proposal = moved / moved.norm(dim=1, keepdim=True).clamp(min=1e-300)
    return best


def _as_it_is(x: Tensor) -> Tensor:
    return x


def leading_directions(
    step: Step, entry: Entry | None, x0: Tensor, directions: Tensor, steps: int
) -> Tensor:
    """The unit vectors e that the derivative of each X_k at e = 0 stretches most, (N + 1, p)."""
    moves, enter = SMALL * directions.T, entry or _as_it_is
    x = enter(torch.cat([x0 + moves, x0 - moves]))
    found = []
    for n in range(steps + 1):
        x = step(n - 1, x) if n else x
        here, there = x.chunk(2)
        jacobian = ((here - there) / (2.0 * SMALL)).T  # (D, p)
        known = jacobian.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        found.append(torch.linalg.svd(known, full_matrices=False).Vh[0])
    return torch.stack(found)

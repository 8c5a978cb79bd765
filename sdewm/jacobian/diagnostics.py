"""Metrics of size and growth of the Jacobian of a step, for each state, without gradients.

For a state x (n entries) and a step to the next state:

| metric | definition | meaning |
|---|---|---|
| `frobenius` | ‖J‖_F | the penalised norm |
| `top_singular_value` | σ_max(J) | largest growth factor of a small difference in one step |
| `log_norm` | λ_max(sym J) − 1 = μ(J − I) | growth rate per step, with x' = x + A x, A = J − I |
| `spectral_radius` | max abs of eigenvalues | growth factor per step over many steps, J constant |

One step expands a difference by at most σ_max, which is at least 1 + `log_norm` and at least
`spectral_radius`. The last two metrics require a square J (C = n) and are None otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from sdewm.base.checks import check_count
from sdewm.jacobian.probes import rademacher_probes
from sdewm.jacobian.products import (
    Step,
    Tensors,
    as_rows,
    join_rows,
    pull_back,
    push_forward,
    row_jacobians,
)

EXACT_UP_TO = 256  # inputs; above, the dense Jacobians and their eigenvalues take seconds


@dataclass(frozen=True)
class JacobianMetrics:
    """Jacobian metrics, one value per state, each (B,), float64 on the CPU.

    Attributes:
        frobenius: ‖J‖_F.
        top_singular_value: σ_max(J).
        log_norm: λ_max(sym J) − 1, None if J is not square.
        spectral_radius: largest absolute value of an eigenvalue, None if J is not square.
    """

    frobenius: torch.Tensor
    top_singular_value: torch.Tensor
    log_norm: torch.Tensor | None = None
    spectral_radius: torch.Tensor | None = None

    def summary(self) -> dict[str, float]:
        """Mean and maximum over the states: `frobenius_mean`, `frobenius_max` and so on.

        >>> step = lambda x: torch.stack([x[:, 0], 2 * x[:, 1]], dim=1)
        >>> exact_metrics(step, torch.zeros(3, 2)).summary()["log_norm_max"]
        1.0
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            f"{name}_{word}": float(number)
            for name, value in values.items()
            if value is not None
            for word, number in (("mean", value.mean()), ("max", value.max()))
        }


def jacobian_metrics(step: Step, inputs: Tensors, generator: torch.Generator) -> JacobianMetrics:
    """`exact_metrics` up to 256 inputs, `krylov_metrics` above."""
    rows = as_rows("inputs", inputs)
    if join_rows(rows).shape[1] <= EXACT_UP_TO:
        return exact_metrics(step, rows)
    return krylov_metrics(step, rows, generator)


@torch.no_grad()
def exact_metrics(step: Step, inputs: Tensors) -> JacobianMetrics:
    """The metrics from dense Jacobians: min(C, n) passes, then O(n³) per state on the CPU.

    >>> rotation = lambda x: torch.stack([-x[:, 1], x[:, 0]], dim=1)
    >>> metrics = exact_metrics(rotation, torch.zeros(1, 2))
    >>> metrics.frobenius, metrics.log_norm, metrics.spectral_radius
    (tensor([1.4142], dtype=torch.float64), tensor([-1.], dtype=torch.float64), tensor([1.],
    dtype=torch.float64))
    """
    jacobians = row_jacobians(step, inputs).to("cpu", torch.float64)  # (B, C, n)
    metrics = JacobianMetrics(
        jacobians.square().sum((1, 2)).sqrt(), torch.linalg.matrix_norm(jacobians, 2)
    )
    if jacobians.shape[1] != jacobians.shape[2]:
        return metrics
    symmetric = 0.5 * (jacobians + jacobians.mT)
    return JacobianMetrics(
        metrics.frobenius,
        metrics.top_singular_value,
        torch.linalg.eigvalsh(symmetric)[:, -1] - 1.0,
        torch.linalg.eigvals(jacobians).abs().amax(1),
    )


@torch.no_grad()
def krylov_metrics(
    step: Step,
    inputs: Tensors,
    generator: torch.Generator,
    *,
    iterations: int = 40,
    probes: int = 16,
) -> JacobianMetrics:
    """The metrics from products Jv and Jᵀu only, for large n.

    Each state has a separate Krylov space; all states are processed in one batch, without restarts.
    σ_max and `log_norm` are lower bounds whose relative error decreases exponentially in
    `iterations` (exact from n iterations on). `spectral_radius` is an estimate, which is poor if J
    is far from normal. `frobenius` is the root of the mean of `probes` squared projections (S22).

    Cost: about 5 · iterations + probes products, each about one backward pass of the step, and
    iterations · B · n numbers of memory.

    >>> step, generator = lambda x: 0.5 * torch.tanh(x), torch.Generator().manual_seed(0)
    >>> krylov_metrics(step, torch.zeros(2, 300), generator).spectral_radius
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    iterations = check_count("iterations", iterations, 2)
    rows = as_rows("inputs", inputs)
    state = join_rows(rows)
    outputs, pull = pull_back(step, rows)
    push = push_forward(step, rows)
    directions = rademacher_probes(probes, state, generator)
    squares = torch.stack([push(v).double().square().sum(1) for v in directions])
    gram = _projection(lambda v: pull(push(v)), state, iterations, generator)
    metrics = JacobianMetrics(
        squares.mean(0).sqrt().cpu(),
        torch.linalg.eigvalsh(0.5 * (gram + gram.mT))[:, -1].clamp(min=0.0).sqrt(),
    )
    if outputs.shape[1] != state.shape[1]:
        return metrics
    symmetric = _projection(lambda v: 0.5 * (pull(v) + push(v)), state, iterations, generator)
    return JacobianMetrics(
        metrics.frobenius,
        metrics.top_singular_value,
        torch.linalg.eigvalsh(0.5 * (symmetric + symmetric.mT))[:, -1] - 1.0,
        torch.linalg.eigvals(_projection(push, state, iterations, generator)).abs().amax(1),
    )


def _projection(
    apply: Callable[[torch.Tensor], torch.Tensor],
    like: torch.Tensor,
    iterations: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """QᵀMQ (B, m, m) on the CPU, Q an orthonormal basis of span(v, Mv, …, M^{m−1}v), v random.

    A space that is exhausted (Mv in it already) is continued in a random direction: its eigenvalues
    are then among those of QᵀMQ all the same.
    """
    size = min(iterations, like.shape[1])
    basis: list[torch.Tensor] = []  # of (B, n)
    images: list[torch.Tensor] = []
    while len(basis) < size:
        random = rademacher_probes(1, like, generator)[0].double()
        new = images[-1] if images else random
        for _ in range(3):  # the first leaves rounding errors along the basis, or nothing at all
            scale = new.norm(dim=1, keepdim=True)
            if basis:
                stacked = torch.stack(basis, dim=1)  # (B, m, n)
                new = new - ((stacked @ new[:, :, None]).mT @ stacked)[:, 0]
            new = torch.where(new.norm(dim=1, keepdim=True) > 1e-13 * scale, new, random)
            new = new / new.norm(dim=1, keepdim=True)
        basis.append(new)
        images.append(apply(new.to(like.dtype)).double())
    return (torch.stack(basis, 1) @ torch.stack(images, 1).mT).cpu()

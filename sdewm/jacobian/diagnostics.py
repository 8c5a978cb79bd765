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

from dataclasses import dataclass, fields

import torch
from torch.func import vmap

from sdewm.base.checks import check_count
from sdewm.jacobian.krylov import krylov_space, largest_ritz_pair, ritz_pair
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

    Cost: about 2 · iterations products for three vectors at once, each about one backward pass of
    the step, one for all probes, and 3 · iterations · B · n numbers of memory.

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
    squares = vmap(push)(directions).double().square().sum(2)  # (probes, B)
    frobenius = squares.mean(0).sqrt().cpu()
    start = rademacher_probes(1, state, generator)[0].double()
    if outputs.shape[1] != state.shape[1]:
        value, _ = largest_ritz_pair(lambda v: pull(push(v)).double(), start, iterations)
        return JacobianMetrics(frobenius, value.cpu().clamp(min=0.0).sqrt())

    def together(v: torch.Tensor) -> torch.Tensor:
        """JᵀJ, ½(J + Jᵀ) and J on the three thirds of the rows: one product Jv and one Jᵀu."""
        thirds = v.unflatten(0, (3, -1))
        pushed = vmap(push)(thirds).double()
        pulled = vmap(pull)(torch.stack([pushed[0], thirds[1]])).double()
        return torch.cat([pulled[0], 0.5 * (pulled[1] + pushed[1]), pushed[2]])

    spaces = krylov_space(together, start.repeat(3, 1), iterations)
    square, symmetric, plain = zip(*(part.chunk(3) for part in spaces), strict=True)
    space, mapped = plain
    return JacobianMetrics(
        frobenius,
        ritz_pair(*square)[0].cpu().clamp(min=0.0).sqrt(),
        ritz_pair(*symmetric)[0].cpu() - 1.0,
        torch.linalg.eigvals((space @ mapped.mT).cpu()).abs().amax(1),
    )

"""Penalties on the Jacobian of a step function of any model.

Using the penalty in an existing trainer takes three lines, here with a GRU cell:

>>> cell, generator = torch.nn.GRUCell(3, 5), torch.Generator().manual_seed(0)
>>> x, h = torch.ones(7, 3), torch.zeros(7, 5)
>>> loss = cell(x, h).square().mean()
>>> probes = rademacher_probes(1, h, generator)
>>> penalty = jacobian_penalty(lambda h: cell(x, h), h, InputProjection(probes))
>>> (loss + 0.01 * penalty).backward()

**Which derivatives.** J is the derivative of all outputs of the step with respect to the tensors
`inputs` (deter, stoch or both). All other arguments are held fixed in a closure, as `x` above.
`step` is called with the inputs in their order and must treat rows independently (`check_step`).
The derivative of a straight-through sample is not meaningful (S25): pass a smooth map instead, such
as mean and standard deviation or class probabilities.

**Normalisation.** The mean over the B rows of ‖J_b‖_F², the sum of all C·n squared derivatives,
without a factor ½ and without division by C or n. `describe_penalty` states this in the log.

Gradients flow to the parameters of the step, and to the inputs unless these are detached. Call
`backward()` as usual. Everything except drawing probes and rows works inside
`torch.compile(fullgraph=True)`. Statement numbers: `paper_checks/MATHEMATICS.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sdewm.base.checks import check_count, check_finite_number
from sdewm.jacobian.probes import gaussian_probes as gaussian_probes
from sdewm.jacobian.probes import rademacher_probes as rademacher_probes
from sdewm.jacobian.probes import sphere_probes as sphere_probes
from sdewm.jacobian.products import (
    Step,
    Tensors,
    as_rows,
    pull_back,
    push_forward,
    row_jacobians,
    row_size,
)
from sdewm.jacobian.products import step_log_norms as step_log_norms
from sdewm.jacobian.step_contract import check_step as check_step
from sdewm.jacobian.step_contract import inside_transform, require_sound_step

ROOT_GUARD = 1e-12


def _row_sums(squares_of: torch.Tensor) -> torch.Tensor:
    """Squares summed over all but the first axis, at least in float32."""
    wide = squares_of.to(torch.promote_types(squares_of.dtype, torch.float32))
    return wide.square().flatten(1).sum(1)


@dataclass(frozen=True, eq=False)
class Exact:
    """Exact ‖J_b‖_F² of each row, in min(C, n) passes; recommended up to about 64 passes."""

    def __call__(self, step: Step, inputs: Tensors) -> torch.Tensor:
        """The squared norms (B,)."""
        return _row_sums(row_jacobians(step, inputs))


@dataclass(frozen=True, eq=False)
class InputProjection:
    """|J_b v|² averaged over K probes: unbiased for ‖J_b‖_F², one product J v per probe (S22).

    Attributes:
        probes: (K, B, n) with E v vᵀ = I, such as `rademacher_probes(K, inputs, generator)`; n
            orthogonal probes of length √n give the exact value.
    """

    probes: torch.Tensor

    def __call__(self, step: Step, inputs: Tensors) -> torch.Tensor:
        """The estimates (B,)."""
        rows = as_rows("inputs", inputs)
        check_probes(self.probes, rows[0].shape[0], row_size(rows), "inputs")
        return _mean_over_probes(push_forward(step, inputs), self.probes)


@dataclass(frozen=True, eq=False)
class OutputProjection:
    """|J_bᵀ v|² averaged over K probes: unbiased for ‖J_b‖_F², one product Jᵀv per probe (S22).

    Attributes:
        probes: (K, B, C) with E v vᵀ = I, such as `rademacher_probes(K, outputs, generator)`; C
            orthogonal probes of length √C give the exact value.
    """

    probes: torch.Tensor

    def __call__(self, step: Step, inputs: Tensors) -> torch.Tensor:
        """The estimates (B,)."""
        outputs, pull = pull_back(step, inputs)
        check_probes(self.probes, outputs.shape[0], outputs.shape[1], "outputs")
        return _mean_over_probes(pull, self.probes)


Estimator = Callable[[Step, Tensors], torch.Tensor]


def check_probes(probes: torch.Tensor, rows: int, size: int, of: str) -> None:
    """Refuse probes of another shape than (K, B, size)."""
    if not isinstance(probes, torch.Tensor) or not probes.is_floating_point():
        given = probes.dtype if isinstance(probes, torch.Tensor) else type(probes).__name__
        raise ValueError(f"probes={given}: expected a floating-point tensor (K, {rows}, {size}).")
    if probes.dim() != 3 or len(probes) == 0 or tuple(probes.shape[1:]) != (rows, size):
        raise ValueError(
            f"probes have shape {tuple(probes.shape)}; expected (K, {rows}, {size}): K probes for "
            f"each row, in the space of the {of}."
        )


def _mean_over_probes(
    image: Callable[[torch.Tensor], torch.Tensor], probes: torch.Tensor
) -> torch.Tensor:
    """Mean over K of |image(v_k)|², shape (B,)."""
    if len(probes) == 1:
        return _row_sums(image(probes[0]))
    images = torch.func.vmap(image)(probes)  # (K, B, C or n)
    return _row_sums(images.movedim(0, 1)) / len(probes)


def jacobian_penalty(
    step: Step, inputs: Tensors, estimator: Estimator, *, squared: bool = True
) -> torch.Tensor:
    """Mean over the rows of ‖J_b‖_F², or of ‖J_b‖_F if not `squared`.

    Args:
        step: function of the inputs in their order; returns a tensor or tuple of tensors (B, …).
        inputs: tensor or tuple of tensors (B, …) with respect to which it is differentiated.
        estimator: `Exact()`, `InputProjection(probes)` or `OutputProjection(probes)`.
        squared: penalise the square, which probes estimate without bias. If False, each row gives
            √(mean over its probes + 1e-12), which is biased low; the bias decreases with the
            number of probes (S23).

    Returns:
        The unweighted penalty, a scalar of dtype float32 or wider.

    Raises:
        ValueError: the shapes do not match, the step does not depend on its inputs, or `check_step`
            finds something; it runs at the first call with a step, outside `torch.compile`.

    >>> step = lambda h, z: (2 * h + z[:, :2], z.square())
    >>> inputs = torch.zeros(4, 2), torch.ones(4, 3)
    >>> jacobian_penalty(step, inputs, Exact())  # 2 · 2² + 2 · 1² + 3 · 2²
    tensor(22.)
    """
    if isinstance(estimator, type) or not callable(estimator):
        name = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
        raise ValueError(f"estimator={name}: expected an object, such as Exact().")
    watched = not torch.compiler.is_compiling() and not inside_transform()
    if watched:
        require_sound_step(step, inputs)
    squares = estimator(step, inputs)
    if watched and torch.is_grad_enabled():
        if not squares.requires_grad and not bool(squares.any()):
            if not all(bool(torch.isfinite(row).all()) for row in as_rows("inputs", inputs)):
                raise ValueError("inputs hold numbers that are not finite.")
            raise ValueError(
                "step does not depend on its inputs: its Jacobian is zero and has no gradient. Is "
                "an input detached inside, is the step saturated, or are all probes zero?"
            )
    return squares.mean() if squared else (squares + ROOT_GUARD).sqrt().mean()


def log_norm_penalty(step: Step, inputs: Tensors, threshold: float = 0.0) -> torch.Tensor:
    """Mean over the rows of max(0, `step_log_norms` − threshold), an unweighted scalar."""
    if not torch.compiler.is_compiling():
        require_sound_step(step, inputs)
    return (step_log_norms(step, inputs) - threshold).clamp(min=0.0).mean()


def draw_rows(total: int, fraction: float, generator: torch.Generator) -> torch.Tensor:
    """Indices of a random subset of rows: round(fraction · total), at least 1, no row twice.

    Penalties are means over the rows they are given, so a fraction changes the variance and the
    cost, not the weight.

    >>> draw_rows(10, 0.3, torch.Generator().manual_seed(0)).shape
    torch.Size([3])
    """
    if not 0.0 < check_finite_number("fraction", fraction) <= 1.0:
        raise ValueError(f"fraction={fraction!r}: expected a fraction of the rows in (0, 1].")
    count = max(1, round(fraction * check_count("total", total)))
    return torch.randperm(total, generator=generator, device=generator.device)[:count]

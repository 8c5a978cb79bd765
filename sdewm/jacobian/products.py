"""Jacobians of a step function that treats the rows of a batch independently.

A *step* is a function of one or several tensors `(B, …)` that returns a tensor or a tuple of
tensors `(B, …)`. Row b of the outputs depends on row b of the inputs only. Flattened row by row and
joined in the order given, the inputs have n entries and the outputs C, and J_b is the C × n matrix
of derivatives at row b. Other arguments of the step (actions, weights, noise) are held fixed in a
closure or a `functools.partial` and are not differentiated.

Everything works inside `torch.compile(fullgraph=True)`. Gradients flow to the parameters of the
step, and to the inputs unless those are detached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sdewm.base.elementary import RIGHT_IN_REVERSE, ElementaryOperations

Tensors = torch.Tensor | tuple[torch.Tensor, ...]
Step = Callable[..., Any]  # of tensors (B, …), returning Tensors


def as_rows(name: str, tensors: Tensors) -> tuple[torch.Tensor, ...]:
    """The tensors as a tuple.

    Raises:
        ValueError: there is no tensor, one is not a floating-point tensor (B, …), or B differs.
    """
    if not isinstance(tensors, (torch.Tensor, tuple, list)):
        raise ValueError(f"{name} is {type(tensors).__name__}; expected tensors (B, …).")
    rows = (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)
    if not rows:
        raise ValueError(f"{name}=(): expected at least one tensor (B, …).")
    for tensor in rows:
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} holds {type(tensor).__name__}; expected tensors (B, …).")
        if tensor.is_meta:
            raise ValueError(f"{name} holds tensors on device 'meta'; expected tensors of numbers.")
        if tensor.layout is not torch.strided:
            raise ValueError(f"{name} holds tensors of {tensor.layout}; expected dense ones.")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} holds {tensor.dtype}; expected floating-point tensors.")
        if tensor.dim() == 0 or tensor.shape[0] != rows[0].shape[0]:
            shapes = [tuple(tensor.shape) for tensor in rows]
            raise ValueError(f"{name} has shapes {shapes}; expected (B, …) with the same B.")
    if rows[0].shape[0] == 0:
        raise ValueError(f"{name} has 0 rows; expected at least 1.")
    return rows


def row_size(rows: tuple[torch.Tensor, ...]) -> int:
    """Total number of entries of one row of all tensors: n for inputs, C for outputs."""
    return sum(tensor[0].numel() for tensor in rows)


def join_rows(rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The rows of all tensors flattened and joined, shape (B, n) or (B, C)."""
    return torch.cat(
        [tensor.flatten(1) if tensor.dim() > 1 else tensor[:, None] for tensor in rows], 1
    )


def joined_step(
    step: Step, rows: int, keep: frozenset[Any] = frozenset()
) -> Callable[..., torch.Tensor]:
    """The step with its outputs joined into one tensor (B, C); `keep`: see ElementaryOperations."""

    def joined(*inputs: torch.Tensor) -> torch.Tensor:
        with ElementaryOperations(keep):
            outputs = as_rows("the output of step", step(*inputs))
        if outputs[0].shape[0] != rows:
            raise ValueError(
                f"step returned {outputs[0].shape[0]} rows for inputs of {rows}; expected one "
                "row of output for each row of input."
            )
        if not row_size(outputs):
            raise ValueError("the output of step has rows without entries; expected numbers.")
        return join_rows(outputs)

    return joined


def pull_back(
    step: Step, inputs: Tensors
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """Outputs (B, C) of the step, and the map of covectors (B, C) to J_bᵀ u_b (B, n), by vjp.

    A gradient of the map is right to first order, which is what a penalty needs.
    """
    device = as_rows("inputs", inputs)[0].device.type
    # Under autocast torch's second derivative mixes precisions, and refuses.
    mixed = torch.is_autocast_enabled(device)
    return _pull_back(step, inputs, frozenset() if mixed else RIGHT_IN_REVERSE)


def _pull_back(
    step: Step, inputs: Tensors, keep: frozenset[Any]
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    rows = as_rows("inputs", inputs)
    found: Any = torch.func.vjp(joined_step(step, rows[0].shape[0], keep), *rows)
    outputs, pull = found
    return outputs, lambda covectors: join_rows(pull(covectors.to(outputs.dtype)))


def push_forward(step: Step, inputs: Tensors) -> Callable[[torch.Tensor], torch.Tensor]:
    """The map of directions (B, n) to J_b v_b (B, C), as the transpose of `pull_back`.

    u ↦ Jᵀu is linear, so its own vjp is v ↦ Jv. Forward mode (`torch.func.jvp`) gives the same and
    is no faster here; under `torch.compile` it fails with modules that this file has to adapt.
    """
    outputs, pull = _pull_back(step, inputs, frozenset())
    found: Any = torch.func.vjp(pull, torch.zeros_like(outputs))
    images, push = found
    return lambda directions: push(directions.to(images.dtype))[0]


def row_jacobians(step: Step, inputs: Tensors) -> torch.Tensor:
    """J_b of each row, shape (B, C, n), in min(C, n) passes.

    Unit vectors are pulled back (C ≤ n) or pushed forward (n < C), all at once under `vmap`. This
    takes min(C, n) times the memory of one pass.

    >>> row_jacobians(lambda x: (x.sum(1), 3 * x), torch.ones(1, 2))
    tensor([[[1., 1.],
             [3., 0.],
             [0., 3.]]])
    """
    rows = as_rows("inputs", inputs)
    outputs, pull = pull_back(step, rows)
    if outputs.shape[1] <= row_size(rows):
        return torch.func.vmap(pull)(_units(outputs)).movedim(0, 1)  # (C, B, n) to (B, C, n)
    push = push_forward(step, rows)
    return torch.func.vmap(push)(_units(join_rows(rows))).permute(1, 2, 0)  # from (n, B, C)


def _units(like: torch.Tensor) -> torch.Tensor:
    """Every unit vector for every row of `like` (B, D), shape (D, B, D)."""
    batch, size = like.shape
    units = torch.eye(size, dtype=like.dtype, device=like.device)
    return units[:, None].expand(size, batch, size)


def step_log_norms(step: Step, inputs: Tensors) -> torch.Tensor:
    """λ_max(sym J + ½ GᵀG) − 1 of each row (B,): the rate of mean-square growth per step (S24).

    The inputs are the state (n entries). The first n outputs of the step are the mean of the next
    state, with Jacobian J. Further outputs, if any, are standard deviations of independent noises,
    with Jacobian G. In the notation of S10 with a time step of 1, A = J − I and Σ A_kᵀA_k = GᵀG,
    and the result is λ_max(sym A + ½ Σ A_kᵀA_k). For a time step Δ divide by Δ.

    Each row takes a dense Jacobian and an eigenvalue problem of size n; use it for small n.

    Raises:
        ValueError: the step has fewer outputs than inputs.

    >>> step_log_norms(lambda x: (0.5 * x, 0.2 * x), torch.zeros(1, 3))
    tensor([-0.4800])
    """
    jacobians = row_jacobians(step, inputs)
    _, outer, inner = jacobians.shape
    if outer < inner:
        raise ValueError(
            f"step has {outer} outputs for {inner} inputs; expected at least {inner}, since a "
            "logarithmic norm needs the mean of the next state among the outputs."
        )
    jacobians = jacobians.to(torch.promote_types(jacobians.dtype, torch.float32))
    mean, noise = jacobians[:, :inner], jacobians[:, inner:]
    symmetric = 0.5 * (mean + mean.mT) + 0.5 * noise.mT @ noise
    return torch.linalg.eigvalsh(symmetric)[:, -1] - 1.0

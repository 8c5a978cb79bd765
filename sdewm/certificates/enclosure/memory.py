"""Memory that the enclosure of a step will need, from one run of the step on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sdewm.certificates.enclosure.execution import function_name
from sdewm.certificates.enclosure.rollout import Step

MIXING = ("linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "gru_cell")
ALIVE = 12  # sets and intermediate results that are in memory at a time


class _Sizes(TorchFunctionMode):
    """The largest tensor that a step computes, and the numbers that enter matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.mixed = 1, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.shape[:1] == (1,):  # not a weight
            self.largest = max(self.largest, found.numel())
        if function_name(func) in MIXING:
            given = (*args, *(kwargs or {}).values())
            wide = [one.shape[-1] for one in given if isinstance(one, Tensor) and one.dim()]
            self.mixed += max(wide, default=0)
        return found


def bytes_needed(step: Step, x0: Tensor, errors: int, order: int, columns: int) -> int:
    """About the bytes that the enclosure of one path takes.

    Args:
        step: F_k, written in torch.
        x0: (D,).
        errors: p.
        order: 1 or 2.
        columns: symbols kept from step to step.

    Raises:
        ValueError: the step fails for a state in float64.
    """
    try:
        with torch.no_grad(), _Sizes() as sizes:
            step(0, x0[None])
    except (RuntimeError, IndexError, TypeError) as problem:
        raise ValueError(
            f"the step fails for states (1, {len(x0)}) of torch.float64: {problem} (convert a "
            "module by .double(); the step takes any number of states)."
        ) from problem
    numbers = errors + (errors**2 if order == 2 else 0) + columns + sizes.mixed
    return 8 * ALIVE * max(sizes.largest, len(x0)) * numbers

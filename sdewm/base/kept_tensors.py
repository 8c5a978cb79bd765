"""Trying a function without a trace: tensors that it changes get their values back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Running statistics are arguments 3 and 4; the schemas do not say that they are changed.
_NORMALISATIONS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")


class _Changes(TorchDispatchMode):
    """Notes every tensor that an operation changes in place, with its value before."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation itself; what it is about to change is copied."""
        kwargs = kwargs or {}
        for place, argument in enumerate(func._schema.arguments):
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            written = argument.alias_info is not None and argument.alias_info.is_write
            if func.overloadpacket.__name__ in _NORMALISATIONS and place in (3, 4):
                written = True
            if written and isinstance(given, torch.Tensor):
                self.before.append((given, given.clone()))
        return func(*args, **kwargs)


@contextmanager
def kept_tensors() -> Iterator[None]:
    """Inside, changes of tensors in place last until the end; results must be copied out.

    >>> counter = torch.zeros(())
    >>> with kept_tensors():
    ...     _ = counter.add_(1)
    >>> counter
    tensor(0.)
    """
    changes = _Changes()
    try:
        with changes:
            yield
    finally:
        with torch.no_grad():
            for tensor, value in reversed(changes.before):
                if tensor.shape == value.shape:
                    tensor.copy_(value)


@contextmanager
def kept_random_stream() -> Iterator[None]:
    """Inside, numbers drawn from the global generators are drawn again after the end.

    Those of torch, NumPy and Python.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    legacy, own = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        np.random.set_state(legacy)
        random.setstate(own)

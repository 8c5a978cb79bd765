"""A device that is not the CPU and needs no hardware: tensors of the device "other".

Each holds a tensor of the CPU, and every operation is computed there. As on a GPU, an operation of
tensors of both devices is an error; also where torch lets numbers (0-dimensional tensors) of the
CPU through, because they would be copied at every call. What crosses between the devices is noted:

    copied      a tensor moved from one to the other
    read        a number read by Python (`item`, `float`, `if`)
    counted     a result whose size depends on values (`nonzero`, masks as indices)

Importing this file changes torch for the whole process, so tests use it in processes of their own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "other"
aten = torch.ops.aten
CROSSING = {aten._to_copy.default: "copied", aten.copy_.default: "copied"}
NOTED = {aten._local_scalar_dense.default: "read", aten.nonzero.default: "counted"}
noted: list[str] = []


class Module(_DummyBackendModule):
    """What torch.other has to have."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float32]


_setup_privateuseone_for_python_backend(NAME, backend_module=Module())
DEVICE = torch.device(NAME, 0)


class Other(torch.Tensor):
    """A tensor of the device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Other:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Other({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Generator(torch.Generator):
    """A generator that says it belongs to the device."""

    def __new__(cls, device: object = NAME) -> Generator:
        return super().__new__(cls)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation."""
    flat = tree_flatten((args, kwargs))[0]
    here = [one for one in flat if isinstance(one, Other)]
    strange = [one for one in flat if isinstance(one, torch.Tensor) and not isinstance(one, Other)]
    if func in CROSSING:
        wanted = kwargs.get("device", DEVICE)
        if strange or torch.device(wanted).type != NAME:
            noted.append(CROSSING[func])
    elif here and strange:
        shapes = [tuple(one.shape) for one in strange]
        raise RuntimeError(f"{func}: tensors of {DEVICE} and of the CPU, {shapes}")
    if func in NOTED or (func is aten.index.Tensor and any(_is_mask(one) for one in here[1:])):
        noted.append(NOTED.get(func, "counted"))
    at = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
    held = tree_map_only(Other, lambda one: one.held, (args, kwargs))
    given, named = held
    if at is not None:
        named = {**named, "device": "cpu"}
    found = func(*given, **named)
    if func._schema.is_mutable:
        return kwargs["out"] if "out" in kwargs else args[0] if found is not None else None
    if at not in (None, NAME) or not (here or at):
        return found
    return tree_map_only(torch.Tensor, Other, found)


def _is_mask(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.bool


def _fallback(func: Any, *args: Any, **kwargs: Any) -> Any:
    return compute(func, args, kwargs)


_library = torch.library.Library("_", "IMPL")
_library.fallback(_fallback, "PrivateUse1")
_library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
_autocast = torch.library.Library("aten", "IMPL")


def _in_bfloat16(op: Any) -> Any:
    """The operation as autocast computes it: on float32 numbers in bfloat16."""

    def cast(one: torch.Tensor) -> torch.Tensor:
        return one.to(torch.bfloat16) if one.dtype == torch.float32 else one

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(NAME, enabled=False):
            given, named = tree_map_only(torch.Tensor, cast, (args, kwargs))
            return op(*given, **named)

    return run


for _name in ("mm", "addmm", "bmm", "linear", "convolution", "matmul", "baddbmm"):
    _autocast.impl(_name, _in_bfloat16(getattr(aten, _name).default), "AutocastPrivateUse1")


@contextmanager
def crossings():
    """The list of what crosses within the block."""
    noted.clear()
    found: list[str] = []
    yield found
    found.extend(noted)

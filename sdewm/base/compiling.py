"""Optional compilation of tensor functions, with the uncompiled function as fallback."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from sdewm.base.taylor import record

OPTIONS = {"size_asserts": False}  # `Compiled` has looked at the sizes itself
LINKING_SECONDS = 60.0  # upper limit on the time that a linker takes


def remove_broken_libraries() -> list[Path]:
    """Remove the empty libraries that an interrupted compilation left in the compiler's cache.

    Ctrl-C in a terminal also interrupts the C++ compiler. torch would then load the empty library
    in every later run and fail with "file too short". Files younger than one minute are not
    touched, as they may still be being written.

    Returns:
        The paths of the removed files.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    removed = []
    for library in Path(cache_dir()).rglob("*.so"):
        facts = library.stat()
        if facts.st_size == 0 and time.time() - facts.st_mtime > LINKING_SECONDS:
            library.unlink(missing_ok=True)
            removed.append(library)
    return removed


def missing_compiler(device: torch.device) -> str | None:
    """What the compiler of tensor functions needs on this device and is not there; else None."""
    if device.type == "cpu":
        compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
        return None if shutil.which(compiler) else f"a C++ compiler ({compiler})"
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "triton"
    return f"a compiler for {device.type}"


def trace(
    function: Callable[..., tuple[torch.Tensor, ...]], example: tuple[torch.Tensor, ...]
) -> torch.fx.GraphModule:
    """The graph of all operations of `function`, gradients that it takes by autograd included."""
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    # One place for the shapes of all nodes: torch would make one for each, and look up the stack.
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(function)(*example)


def _compile_graph(
    graph_module: torch.fx.GraphModule, arguments: Sequence[torch.Tensor]
) -> Callable[..., Any]:
    """The graph compiled for the shapes of these arguments, or found on the disk.

    torch looks on the disk only with a record of shapes that could change; here none of them can.
    """
    from torch._inductor import compile as compile_graph
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv())
    examples: Any = [mode.from_tensor(one, static_shapes=True) for one in arguments]
    return compile_graph(graph_module, examples, OPTIONS)  # type: ignore[return-value]


class Compiled:
    """A function of tensors, compiled once per combination of shapes, dtypes and devices.

    The graph is first recorded and then compiled. If recording or compiling
    fails (a function that cannot be recorded, a machine without a compiler), or if the environment
    has TORCH_COMPILE_DISABLE=1, the function runs uncompiled. The compiled function gives the same
    values up to rounding. No gradients are recorded.

    Args:
        function: takes tensors and returns a tensor or a tuple of tensors.
        recorded: makes the graph; `record`, or `trace` for a function that takes gradients.

    Attributes:
        active: whether the last call ran compiled code; None before the first call.

    >>> twice = Compiled(lambda x: 2 * x)
    >>> twice(torch.ones(2)), twice.active in (True, False)
    (tensor([2., 2.]), True)
    """

    def __init__(
        self,
        function: Callable[..., Any],
        recorded: Callable[..., torch.fx.GraphModule] = record,
    ) -> None:
        self.function, self.recorded = function, recorded
        self.active: bool | None = None
        self._versions: dict[tuple, tuple[Callable[..., Any], bool]] = {}

    def __call__(self, *arguments: torch.Tensor) -> Any:
        """The value of the function, without gradient."""
        arguments = tuple([a.contiguous() for a in arguments])  # compiled for one memory layout
        return self.version(*arguments)(*arguments)

    def version(self, *arguments: torch.Tensor) -> Callable[..., Any]:
        """What to call for contiguous arguments of these shapes, dtypes and devices, many times."""
        kind = arguments[0].device.type
        cast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
        key = (cast, *[(a.shape, a.dtype, a.device) for a in arguments])
        if key not in self._versions:
            with torch.no_grad():
                found = self._compile(arguments)
            self._versions[key] = (_without_gradient(found), found is not self.function)
        version, self.active = self._versions[key]
        return version

    def _compile(self, arguments: tuple[torch.Tensor, ...]) -> Callable[..., Any]:
        one = False
        arguments = tuple(a.detach().clone() for a in arguments)  # views would be part of it

        def function(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            nonlocal one
            found = self.function(*inputs)
            one = isinstance(found, torch.Tensor)
            return (found,) if one else tuple(found)

        if os.environ.get("TORCH_COMPILE_DISABLE") == "1":  # as torch.compile does
            return self.function
        try:
            graph_module = self.recorded(function, arguments)
            with warnings.catch_warnings():  # torch's compiler warns of its own use of torch.jit
                warnings.simplefilter("ignore", DeprecationWarning)
                compiled = _compile_graph(graph_module, arguments)
                compiled(*arguments)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError):
            return self.function
        return (lambda *inputs: compiled(*inputs)[0]) if one else compiled


def _without_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with gradients off, which takes microseconds only where they are on."""

    def call(*arguments: torch.Tensor) -> Any:
        if not torch.is_grad_enabled():
            return function(*arguments)
        with torch.no_grad():
            return function(*arguments)

    return call

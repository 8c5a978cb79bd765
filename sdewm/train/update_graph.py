"""The device part of an update, recorded once as a CUDA graph and replayed from then on.

A small update consists of thousands of kernels, each of which takes longer to start than to run.
A graph starts them all at once. It repeats the recorded work on the recorded memory: whatever
changes between updates has to be in tensors, and nothing may be read on the host in between. The
first replays are therefore compared with ordinary updates from the same state.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree

WARM_UP = 3  # ordinary updates first: they create gradients, moments and compiled functions
CHECKED = 2  # replays compared with ordinary updates
# Largest differences, relative to the norm of each tensor: sums on a GPU are not in a fixed order,
# and the moments' scale turns the rounding errors of a gradient that is almost zero into changes.
TOLERANCE, MOVED = 1e-3, 0.05


class Recorder(Protocol):
    """Recording and replaying of work on a device."""

    def warm_up(self, run: Callable[[], Any]) -> Any:
        """Run as usual, in the way that recording needs."""
        ...

    def record(self, run: Callable[[], Any]) -> Any:
        """Record the work; the tensors returned have their values after each replay."""
        ...

    def replay(self) -> None:
        """Do the recorded work."""
        ...


class CudaRecorder:
    """A CUDA graph on the current device."""

    def warm_up(self, run: Callable[[], Any]) -> Any:
        """On a side stream, as torch asks for."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = run()
        torch.cuda.current_stream().wait_stream(stream)
        return found

    def record(self, run: Callable[[], Any]) -> Any:
        """Capture without running."""
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            return run()

    def replay(self) -> None:
        """Launch the graph."""
        self.graph.replay()


class UpdateGraph:
    """`learn` with the same arguments and results, replayed after some ordinary calls.

    If recording fails, or a replay gives other numbers than an ordinary update, all further calls
    are ordinary ones, and one sentence on stderr says why. So are calls with other shapes.

    Args:
        learn: takes nested tuples of tensors, changes tensors of `state` in place, and returns
            nested tuples and dictionaries of tensors.
        state: the tensors that `learn` changes, after the first calls always the same ones.
        recorder: a new one is made for each recording.

    Attributes:
        replayed: number of replays that stood as updates.
        problem: why the updates are ordinary ones; None as long as they are not.
    """

    def __init__(
        self,
        learn: Callable[..., Any],
        state: Callable[[], list[Tensor]],
        recorder: Callable[[], Recorder] = CudaRecorder,
    ) -> None:
        self._learn, self._state, self._make = learn, state, recorder
        self.problem: str | None = None
        self.replayed = 0
        self.forget()

    def forget(self) -> None:
        """Record anew; to be called when tensors of the state were replaced."""
        self._calls, self._inputs, self._outputs = 0, [], None
        self._recorder = self._make()

    def __call__(self, *arguments: Any) -> Any:
        """One update."""
        if self.problem is not None:
            return self._learn(*arguments)
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._recorder.warm_up(lambda: self._learn(*arguments))
        given = _pytree.tree_leaves(arguments)
        if self._calls == WARM_UP + 1 and not self._record(arguments):
            return self._learn(*arguments)
        if [_kind(x) for x in given] != [_kind(x) for x in self._inputs]:
            return self._learn(*arguments)
        for mine, theirs in zip(self._inputs, given, strict=True):
            if isinstance(mine, Tensor):
                mine.copy_(theirs)
        if self._calls <= WARM_UP + CHECKED:
            return self._compare(arguments)
        self._recorder.replay()
        self.replayed += 1
        return _copied(self._outputs)

    def _record(self, arguments: Any) -> bool:
        static = _copied(arguments)
        self._inputs = _pytree.tree_leaves(static)
        before = [part.detach().clone() for part in self._state()]
        try:
            self._outputs = self._recorder.record(lambda: self._learn(*static))
        except Exception as error:  # whatever a driver, a compiler or torch finds
            self._give_up(f"it cannot be recorded: {str(error).splitlines()[0]}")
        _restore(self._state(), before)  # some recorders run what they record
        return self.problem is None

    def _compare(self, arguments: Any) -> Any:
        """An ordinary update, and whether a replay does the same."""
        before = [part.detach().clone() for part in self._state()]
        try:
            self._recorder.replay()
        except Exception as error:
            self._give_up(f"its replay fails: {str(error).splitlines()[0]}")
        outputs, state = _copied(self._outputs), _copied(self._state())
        _restore(self._state(), before)
        found = self._learn(*arguments)
        if self.problem is None:
            pairs = zip(*map(_pytree.tree_leaves, (outputs, found)), strict=True)
            apart = max(_distance(a, b) for a, b in pairs if isinstance(a, Tensor))
            changes = zip(state, self._state(), before, strict=True)
            moved = max(_distance(a - old, b - old) for a, b, old in changes)
            if not (apart <= TOLERANCE and moved <= MOVED):
                self._give_up(
                    "a replay differs from an ordinary update, in its results by "
                    f"{apart:.2g}, in the change of weights and moments by {moved:.2g}"
                )
        return found

    def _give_up(self, problem: str) -> None:
        self.problem = problem
        with suppress(OSError):
            sys.stderr.write(f"Updates run without a CUDA graph, more slowly: {problem}.\n")


def _kind(x: Any) -> Any:
    return (x.shape, x.dtype, x.device) if isinstance(x, Tensor) else x


def _copied(tree: Any) -> Any:
    return _pytree.tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, tree)


@torch.no_grad()
def _restore(state: list[Tensor], values: list[Tensor]) -> None:
    for part, value in zip(state, values, strict=True):
        part.copy_(value)


def _distance(ours: Tensor, theirs: Tensor) -> float:
    """‖ours − theirs‖/‖theirs‖ in float64; 0 for two zeros."""
    a, b = ours.detach().double(), theirs.detach().double()
    gap = float((a - b).norm())
    return gap / float(b.norm().clamp(min=1e-30)) if gap else 0.0

"""Step of a system of variations, and functions of its end states, recorded and checked once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from sdewm.base.checks import check_output
from sdewm.base.derivative_checks import check_derivatives
from sdewm.base.taylor import Tensors, fuse


class VariationStep:
    """Drift and noise increment of stacked states, from derivatives of the system's coefficients.

    Args:
        name: name of the coefficients in error messages.
        coefficients: (t, v, *inputs) -> drift and noise increment of the system.
        inputs: stacked state -> the inputs in which the coefficients are differentiated.
        propagate: (coefficients, t, stacked state, v) -> stacked drift and noise increment.
        fused: True: evaluate the step by a recorded graph (`base.taylor.fuse`) if it can be
            recorded; False: by the definition, nested jvp, which is slower. Recording takes up to
            seconds for each new batch size and is worthwhile from about a hundred evaluations.

    Raises:
        ValueError: at the first step, if automatic derivatives of the coefficients are wrong.
    """

    def __init__(
        self,
        name: str,
        coefficients: Callable[..., Tensors],
        inputs: Callable[[torch.Tensor], Tensors],
        propagate: Callable[..., Tensors],
        fused: bool,
    ) -> None:
        self.name, self.coefficients, self.inputs = name, coefficients, inputs
        self.propagate, self.fused = propagate, fused
        self._steps: dict[tuple, Callable[..., Tensors]] = {}

    def __call__(
        self, t: torch.Tensor, state: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stacked drift and noise increment at t, for increments v of the drivers."""
        key = (state.shape, state.dtype, state.device)
        with torch.no_grad():
            if key not in self._steps:
                self._steps[key] = self._prepare(t, state, v)
            drift, noise = self._steps[key](t, state, v)
        return drift, noise

    def _prepare(
        self, t: torch.Tensor, state: torch.Tensor, v: torch.Tensor
    ) -> Callable[..., Tensors]:
        """The step for one batch size: through recorded coefficients, and itself recorded."""
        offset = torch.linspace(0.01, 0.1, state.shape[1], dtype=state.dtype, device=state.device)
        state = state + offset  # away from variations that are zero at the start
        inputs = self.inputs(state)
        coefficients = fuse(self.coefficients, (t, v, *inputs))
        if not self._steps:
            check_derivatives(self.name, partial(coefficients, t, v), inputs)
        step = partial(self.propagate, coefficients)
        return fuse(step, (t, state, v)) if self.fused else step


class StateFunction:
    """A scalar function of states, checked where it is evaluated and recorded once.

    Args:
        name: of the function, in messages.
        function: states `(B, D)` -> `(B,)`.
    """

    def __init__(self, name: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.name, self.function = name, function
        self._recorded: Callable[..., Tensors] | None = None

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Its values `(B,)` at states `(B, D)`.

        Raises:
            ValueError: a value of another shape or dtype, or that is not finite.
        """
        with torch.no_grad():
            values = self.function(states)
        values = check_output(self.name, values, (states.shape[0],), like=states)
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            row = int(bad[0, 0])
            raise ValueError(
                f"{self.name} returned {float(values[row])} for the state {states[row].tolist()}; "
                "expected finite values."
            )
        return values

    def recorded(self, states: torch.Tensor) -> Callable[..., Tensors]:
        """The function as a tuple, recorded; its derivatives are checked at the first states."""
        if self._recorded is None:
            recorded = fuse(lambda y: (self.function(y),), (states,))
            check_derivatives(self.name, recorded, (states,))
            self._recorded = recorded
        return self._recorded

"""Systems with sympy expressions as coefficients, at which derivations are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp
import torch

from paper_checks.derivations.block_structure import Z_TILDE, H, S, Z
from paper_checks.derivations.variation import Coefficients, Jet
from sdewm.sde.world_model_sde import ClosedLoopTaskState, LatentWorldModel

TORCH = {"sin": torch.sin, "cos": torch.cos, "tanh": torch.tanh}
STATES, DRIVERS = 2, 2
JET = Jet(STATES)


def torch_function(
    variables: Sequence[sp.Symbol], expressions: Sequence[sp.Expr]
) -> Callable[..., torch.Tensor]:
    """The expressions as one function of equally shaped tensors, in a new last dimension."""
    function = sp.lambdify(variables, list(expressions), modules=[TORCH])

    def values(*inputs: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros_like(inputs[0])
        return torch.stack([zero + value for value in function(*inputs)], dim=-1)

    return values


def wave(size: float, a: float, b: float, phase: float) -> sp.Expr:
    """size · sin(a x₁ + b x₂ + phase)."""
    x, y = JET.x
    return size * sp.sin(a * x + b * y + phase)


class CurvedSystem:
    """Two states and two drivers. No first or second derivative of a coefficient vanishes.

    Every term of the variation equations therefore counts.
    """

    noise_type, sde_type = "general", "ito"

    def __init__(self) -> None:
        self.drift = [wave(0.9, 0.7, -1.1, 0.4), wave(0.8, 1.2, 0.6, -0.3)]
        self.shift = [wave(0.5, -0.8, 0.9, 1.0), wave(0.4, 1.1, 0.5, -0.9)]
        self.noise = [
            [wave(0.5, 0.6, 1.3, 0.9), wave(0.3, -1.0, 0.7, 0.6)],
            [wave(0.4, 1.4, -0.5, -0.7), wave(0.6, 0.8, 1.0, 0.8)],
        ]
        self.error = [
            [wave(0.6, -0.7, 1.2, 0.7), wave(0.4, 0.9, 0.8, -1.1)],
            [wave(0.5, 1.3, 0.4, -0.5), wave(0.3, -0.6, -1.2, 0.3)],
        ]
        x, y = JET.x
        self.cost = (y - 0.5) ** 2 + sp.sin(x) * y
        self._drift, self._shift = (torch_function(JET.x, e) for e in (self.drift, self.shift))
        self._noise, self._error = (
            torch_function(JET.x, [columns[k][i] for i in range(STATES) for k in range(DRIVERS)])
            for columns in (self.noise, self.error)
        )
        self._cost = torch_function(JET.x, [self.cost])
        self.x0 = torch.tensor([0.6, -0.4], dtype=torch.float64)

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 2)."""
        return self._drift(*y.unbind(1))

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, 2, 2)."""
        return self._noise(*y.unbind(1)).unflatten(1, (STATES, DRIVERS))

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift (B, 2)."""
        return self._shift(*y.unbind(1))

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion (B, 2, 2)."""
        return self._error(*y.unbind(1)).unflatten(1, (STATES, DRIVERS))

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The loss (B,)."""
        return self._cost(*y.unbind(1))[:, 0]

    def simulate(self, sizes: torch.Tensor, length: float, noise: torch.Tensor) -> torch.Tensor:
        """End states (B, 2) for sizes (ε_n, ε_d) and increments (B, N, 2), by Euler–Maruyama."""
        state, t = self.x0.expand(len(noise), -1), torch.zeros((), dtype=torch.float64)
        for increment in noise.unbind(1):
            drift = self.f(t, state) + sizes[1] * self.error_drift(t, state)
            diffusion = self.g(t, state) + sizes[0] * self.error_diffusion(t, state)
            state = state + length * drift + torch.einsum("bdm,bm->bd", diffusion, increment)
        return state

    def insert(self, value: Any) -> Any:
        """A derived expression or matrix with these coefficients for the unspecified ones."""
        unspecified = Coefficients(JET, DRIVERS)
        pairs = [
            *zip(unspecified.drift, self.drift, strict=True),
            *zip(unspecified.error_drift, self.shift, strict=True),
            (sp.Function("L")(*JET.x), self.cost),
        ]
        for columns, given in (
            (unspecified.diffusion, self.noise),
            (unspecified.error_diffusion, self.error),
        ):
            for column, values in zip(columns, given, strict=True):
                pairs += zip(column, values, strict=True)
        return value.subs(dict(pairs)).doit()


ACTION = 0.5 * sp.tanh(Z - H)
A = sp.Symbol("a", real=True)
SEQUENCE_NOISE = 0.2 * sp.sin(H) + 0.1 * Z * A
TASK_NOISE = 0.2 * sp.cos(S) + 0.1 * A * S
ENCODER_NOISE = 0.3 + 0.1 * sp.cos(H) * S


def closed_loop_model() -> LatentWorldModel:
    """A world model with one component per block whose diffusions of h and s are curved (S7)."""
    return LatentWorldModel(
        z_size=1,
        h_size=1,
        z_tilde_size=1,
        s_tilde_size=1,
        encoder=lambda h, s: torch.tanh(h + s),
        sequence=lambda h, z, a: torch.tanh(h + z + a),
        predictor=lambda h: torch.sin(h),
        decoder=lambda h, z_tilde: torch.tanh(z_tilde + h),
        policy=_network((H, Z), ACTION),
        encoder_diffusion=_network((H, S), ENCODER_NOISE),
        sequence_diffusion=_network((H, Z, A), SEQUENCE_NOISE),
        predictor_diffusion=_network((H,), 0.25 + 0.1 * sp.sin(H)),
        decoder_diffusion=_network((H, Z_TILDE), 0.1 * sp.cos(H * Z_TILDE)),
        task_state=ClosedLoopTaskState(
            1, drift=lambda s, a: a - s, diffusion=_network((S, A), TASK_NOISE)
        ),
    )


def _network(variables: Sequence[sp.Symbol], expression: sp.Expr) -> Callable[..., torch.Tensor]:
    function = torch_function(variables, [expression])
    return lambda *inputs: function(*(part[:, 0] for part in inputs))

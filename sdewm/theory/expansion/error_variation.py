"""First and second variation of a path in the size of the error (S1, S5b).

Path and variations form one system, which is solved jointly. The Euler–Maruyama step of the
variation equations is the derivative of the Euler–Maruyama step of the system. The recursions of
S5b are therefore exact for the scheme, without an Itô correction or the inverse of a fundamental
matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from sdewm.base.taylor import Tensors, second_order
from sdewm.sde.system import System
from sdewm.theory.expansion.perturbation import Perturbation, PerturbedSystem
from sdewm.theory.variation_step import VariationStep

ETA, XI = "eta", "xi"
SIZES = {ETA: "diffusion", XI: "drift"}  # of which each direction is the size


class ErrorVariation:
    """The joint system of a path and its first and second derivatives in the error sizes.

    With ε_n the size of σ̄ (direction eta) and ε_d that of σ (direction xi), at ε = 0

        y_a = ∂x/∂ε_a,   w_ab = ∂²x/∂ε_a∂ε_b,   y_a(0) = w_ab(0) = 0.

    For equal sizes, y and w of S1 are y_eta + y_xi and w_eta_eta + 2 w_eta_xi + w_xi_xi. Only
    directions with a nonzero error are propagated.

    Args:
        system: D components, M drivers.
        error: the perturbation.
        drivers: M.
        fused: see `VariationStep`.

    Raises:
        ValueError: at the first step, if automatic derivatives of the coefficients are wrong.
    """

    noise_type, sde_type = "general", "ito"

    def __init__(
        self, system: System, error: Perturbation, drivers: int, fused: bool = True
    ) -> None:
        self.system, self.error, self.drivers = system, error, drivers
        present = ((ETA, error.diffusion), (XI, error.drift))
        self.directions = [name for name, part in present if part is not None]
        count = len(self.directions)
        self.pairs = [(a, b) for a in range(count) for b in range(a, count)]
        self.width = 1 + count + len(self.pairs)  # state sizes D in the stacked state
        sizes = [f"the size of error.{SIZES[name]}" for name in self.directions]
        pairs = [" and ".join(dict.fromkeys((sizes[a], sizes[b]))) for a, b in self.pairs]
        self.variations = [
            *(f"the first derivative in {size}" for size in sizes),
            *(f"the second derivative in {both}" for both in pairs),
        ]
        name = "the coefficients (system.f, system.g, error.drift, error.diffusion)"
        self._step = VariationStep(name, self._coefficients, self._inputs, self._propagate, fused)

    def initial(self, x0: torch.Tensor) -> torch.Tensor:
        """The stacked initial state `(B, D·width)`: x0 and zeros."""
        return torch.cat((x0, x0.new_zeros(x0.shape[0], x0.shape[1] * (self.width - 1))), dim=1)

    def split(
        self, state: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[tuple[str, str], torch.Tensor]]:
        """x, {direction: y} and {(direction, direction): w} of the stacked state, each `(B, D)`."""
        parts = state.chunk(self.width, dim=1)
        count = len(self.directions)
        firsts = dict(zip(self.directions, parts[1 : 1 + count], strict=True))
        names = [(self.directions[a], self.directions[b]) for a, b in self.pairs]
        return parts[0], firsts, dict(zip(names, parts[1 + count :], strict=True))

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stacked drift and stacked noise increment `(B, D·width)`."""
        return self._step(t, y, v)

    def _coefficients(
        self,
        t: torch.Tensor,
        v: torch.Tensor,
        x: torch.Tensor,
        drift_size: torch.Tensor,
        diffusion_size: torch.Tensor,
    ) -> Tensors:
        perturbed = PerturbedSystem(
            self.system, self.error, self.drivers, drift_size, diffusion_size
        )
        return perturbed.f_and_g_prod(t, x, v)

    def _inputs(self, state: torch.Tensor) -> Tensors:
        """The state and the sizes 0 of both errors."""
        zero = state.new_zeros(())
        return state[:, : state.shape[1] // self.width], zero, zero.clone()

    def _propagate(
        self,
        coefficients: Callable[..., Tensors],
        t: torch.Tensor,
        state: torch.Tensor,
        v: torch.Tensor,
    ) -> Tensors:
        """One step of S5b, drift and noise apart, by propagation through `coefficients`."""
        parts = state.chunk(self.width, dim=1)
        x, count = parts[0], len(self.directions)
        zero, one = (
            torch.zeros((), dtype=x.dtype, device=x.device),
            torch.ones((), dtype=x.dtype, device=x.device),
        )
        directions = [
            (first, one if name == XI else zero, one if name == ETA else zero)
            for name, first in zip(self.directions, parts[1 : 1 + count], strict=True)
        ]
        seconds = {
            pair: (w, zero, zero) for pair, w in zip(self.pairs, parts[1 + count :], strict=True)
        }
        value, firsts, mixed = second_order(
            partial(coefficients, t, v), (x, zero, zero), directions, seconds
        )
        rows = [value, *firsts, *(mixed[pair] for pair in self.pairs)]
        drift, noise = (torch.cat([row[part] for row in rows], dim=1) for part in (0, 1))
        return drift.detach(), noise.detach()

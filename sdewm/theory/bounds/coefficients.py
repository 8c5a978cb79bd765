"""Drift, diffusion and their derivatives, recorded once and evaluated at many states."""

from __future__ import annotations

from functools import partial

import torch
from torch.func import jvp

from sdewm.base.derivative_checks import check_derivatives
from sdewm.base.elementary import ElementaryOperations
from sdewm.base.taylor import Tensors, fuse, second_order
from sdewm.sde.system import System, diffusion_entries

_ROWS_AT_ONCE = 4096  # states times components, of which derivatives are taken in one go


class Coefficients:
    """Drift and diffusion of a system with their derivatives, for batches of states.

    Args:
        system: D components. Of an `EntriesSystem` only the entries of the diffusion are evaluated,
            except for `jacobians`.
        t: a time at which the functions are recorded.
        points: states `(S, D)`, with the batch size of later calls.

    Raises:
        ValueError: automatic derivatives of the coefficients are wrong, or blocked by detach() or
            no_grad().
    """

    def __init__(self, system: System, t: torch.Tensor, points: torch.Tensor) -> None:
        self.system = system
        self.diagonal = system.noise_type == "diagonal"
        self._recorded = fuse(self.values, (t, points))
        name = "the coefficients (system.f, system.g)"
        check_derivatives(name, partial(self._recorded, t), (points,))
        # A recording differentiates through detach(); the functions themselves do not.
        along = torch.linspace(0.5, 1.5, points.numel()).to(points).reshape(points.shape)
        pair = [
            jvp(partial(one, t), (points,), (along,))[1] for one in (self._recorded, self.values)
        ]
        if not all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(*pair, strict=True)):
            raise ValueError(f"{name} block derivatives by detach() or no_grad(); remove these.")

    def drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift."""
        with ElementaryOperations():  # whose derivatives are right
            return self.system.f(t, y)

    def diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The entries of the diffusion."""
        with ElementaryOperations():
            return diffusion_entries(self.system, t, y)

    def values(self, t: torch.Tensor, y: torch.Tensor) -> Tensors:
        """Drift, and the entries of the diffusion."""
        return self.drift(t, y), self.diffusion(t, y)

    def _matrices(self, t: torch.Tensor, y: torch.Tensor) -> Tensors:
        """Drift and diffusion."""
        with ElementaryOperations():
            return self.system.f(t, y), self.system.g(t, y)

    def jacobians(
        self, t: torch.Tensor, points: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A `(S, D, D)` and A_k `(S, M, D, D)`, or rows ∇g_k `(S, D, D)` for diagonal noise.

        Computed by forward-mode derivatives along many components at once. The second value is
        None if all A_k are 0.

        Raises:
            FloatingPointError: a derivative is not finite.
        """
        states, size = points.shape
        unit = torch.eye(size, dtype=points.dtype, device=points.device)
        columns, noise = [], []
        for some in unit.split(max(1, _ROWS_AT_ONCE // states)):  # (C, D)
            rows, along = points.repeat(len(some), 1), some.repeat_interleave(states, dim=0)
            drift, diffusion = jvp(partial(self._matrices, t), (rows,), (along,))[1]
            finite = torch.isfinite(drift).all(1) & torch.isfinite(diffusion).flatten(1).all(1)
            if not bool(finite.all()):
                j = int(along[int((~finite).nonzero()[0, 0])].argmax())
                raise FloatingPointError(
                    f"the coefficients (system.f, system.g) have derivatives that are not finite "
                    f"in component {j} at t = {float(t):.6g}."
                )
            columns.append(drift.unflatten(0, (-1, states)))
            noise.append(diffusion.unflatten(0, (-1, states)))
        matrix = torch.cat(columns).permute(1, 2, 0)  # (S, D, D)
        diffusion = torch.cat(noise).movedim(0, -1)  # (S, D, D), or (S, D, M, D)
        if not bool(diffusion.any()):
            return matrix, None
        return matrix, diffusion if self.diagonal else diffusion.transpose(1, 2)

    def curvatures(
        self, t: torch.Tensor, points: torch.Tensor, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """|D²f[u, u]| and (Σ_k |D²g_k[u, u]|²)^½ for unit directions u, each `(S,)`."""
        zero = torch.zeros_like(points)
        _, _, mixed = second_order(
            partial(self._recorded, t), (points,), [(directions,)], {(0, 0): (zero,)}
        )
        drift, diffusion = mixed[0, 0]
        return drift.norm(dim=1).detach(), diffusion.flatten(1).norm(dim=1).detach()

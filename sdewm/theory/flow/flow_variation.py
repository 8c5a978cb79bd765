"""First and second variation of a path in its initial state: derivatives of the flow (S18, S5b).

Path and variations form one system, which is solved jointly. Its Euler–Maruyama step is the
derivative of the Euler–Maruyama step of the original system, so it is exact for the scheme.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from sdewm.base.checks import check_count
from sdewm.base.taylor import Tensors, second_order
from sdewm.sde.system import StepSystem, System, step_of
from sdewm.theory.variation_step import VariationStep


class FlowVariation:
    """The joint system of a path and its first and second derivatives in the initial state along e.

    Let x(s) be the path from x0 + s e along the same Brownian path. At s = 0

        y = ∂x/∂s    dy = A y dt + Σ_k A_k y dB^k,                                      y(0) = e
        w = ∂²x/∂s²  dw = (A w + D²f[y, y]) dt + Σ_k (A_k w + D²g_k[y, y]) dB^k,        w(0) = 0

    with A = Df, A_k = Dg_k on the path from x0, so that x(1) − x(0) = y + w/2 + O(|e|³) (S18). The
    factor ½ is not included in w. No Jacobian or Hessian is formed: one step costs about two
    (order 1) or four (order 2) steps of the system.

    Args:
        system: an Itô system with D components, given by f and g or by its step.
        order: 1: x and y; 2: also w.
        fused: see `VariationStep`.

    Raises:
        ValueError: the order is not 1 or 2; or, at the first step, automatic derivatives of the
            coefficients are wrong.

    >>> from sdewm.sde.noise import GaussianNoise
    >>> from sdewm.sde.solve import solve_path
    >>> class Cubic:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -y**3
    ...     def g(self, t, y): return 0 * y
    >>> x0, e = torch.full((1, 1), 2.0).double(), torch.ones(1, 1).double()
    >>> flow = FlowVariation(Cubic(), fused=False)
    >>> noise = GaussianNoise(drivers=1, steps=1, t1=0.1)
    >>> x, y, w = flow.split(solve_path(flow, flow.initial(x0, e), noise)[:, 0])
    >>> x.item(), y.item(), w.item()  # x − Δ x³, 1 − 3Δ x², −6Δ x
    (1.2, -0.2, -1.2)
    """

    noise_type, sde_type = "general", "ito"

    def __init__(self, system: System | StepSystem, order: int = 2, fused: bool = True) -> None:
        self.system, self.step = system, step_of(system)
        self.order = check_count("order", order, minimum=1, maximum=2)
        self.variations = ("the first derivative y", "the second derivative w")[: self.order]
        name = "the coefficients (system.f, system.g)"
        self._variation_step = VariationStep(
            name, self._coefficients, self._inputs, self._propagate, fused
        )

    def initial(self, x0: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """The stacked initial state `(B, D·(1 + order))` of starts and directions `(B, D)`.

        Raises:
            ValueError: x0 and e do not have the same shape (B, D).
        """
        if x0.dim() != 2 or x0.shape != e.shape:
            raise ValueError(
                f"x0 has shape {tuple(x0.shape)}, e {tuple(e.shape)}; expected (B, D) for both."
            )
        return torch.cat((x0, e, torch.zeros_like(e))[: 1 + self.order], dim=1)

    def split(self, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(x, y) or (x, y, w) of the stacked state, each `(B, D)`."""
        return state.chunk(1 + self.order, dim=1)

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stacked drift and stacked noise increment `(B, D·(1 + order))`."""
        return self._variation_step(t, y, v)

    def _coefficients(self, t: torch.Tensor, v: torch.Tensor, x: torch.Tensor) -> Tensors:
        return self.step(t, x, v)

    def _inputs(self, state: torch.Tensor) -> Tensors:
        return (self.split(state)[0],)

    def _propagate(
        self,
        coefficients: Callable[..., Tensors],
        t: torch.Tensor,
        state: torch.Tensor,
        v: torch.Tensor,
    ) -> Tensors:
        """One step of S5b, drift and noise apart, by propagation through `coefficients`."""
        x, y, *w = self.split(state)
        seconds = {(0, 0): (w[0],)} if w else {}
        value, (first,), mixed = second_order(partial(coefficients, t, v), (x,), [(y,)], seconds)
        rows = [value, first, *mixed.values()]
        drift, noise = (torch.cat([row[part] for row in rows], dim=1) for part in (0, 1))
        return drift.detach(), noise.detach()

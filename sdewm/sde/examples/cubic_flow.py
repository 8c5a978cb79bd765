"""O11: the contractive cubic flow, with closed-form derivatives in the initial state."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdewm.base.checks import check_finite_number, check_interval
from sdewm.sde.rates import Rates


class CubicFlow:
    r"""A deterministic scalar equation with a nonlinear flow (statement O11).

    dx = -x^3 dt + epsilon sigma_bar dB,   L = x^2. The drift is contractive (its derivative
    -3 x^2 is never positive), so the distance of two paths never grows. Without error, the state
    phi(x, t) at time t from x at time 0 and its derivatives in x are

        phi = x / sqrt(c),   phi' = c^(-3/2),   phi'' = -6 x t c^(-5/2),   c = 1 + 2 x^2 t.

    Noise type "diagonal": f, g and error_diffusion are (B, 1), loss is (B,); no drift error.

    Args:
        start: x0.
        t1: final time T.
        sigma_bar: error diffusion.

    Raises:
        ValueError: if a parameter is not a finite number or ``t1`` is not positive.

    >>> case = CubicFlow()
    >>> [round(float(value), 10) for value in case.flow(case.x0, case.t1)]
    [0.6701837442, 0.226153656, -0.3878358911]
    """

    noise_type = "diagonal"
    sde_type = "ito"
    state_size = 1
    error_drift = None

    def __init__(self, *, start: float = 1.1, t1: float = 0.7, sigma_bar: float = 0.5) -> None:
        """Store the parameters; see the class for their meaning."""
        self.x0 = torch.tensor([check_finite_number("start", start)], dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]
        self.sigma_bar = check_finite_number("sigma_bar", sigma_bar)

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 1)."""
        return -(y**3)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion, zero (B, 1)."""
        return torch.zeros_like(y)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, 1)."""
        return torch.full_like(y, self.sigma_bar)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The square x^2 (B,)."""
        return y[:, 0] ** 2

    def certified_rates(
        self, low: torch.Tensor, high: torch.Tensor, step_size: float, blocks: Sequence[slice]
    ) -> Rates:
        """Rates, N = 1, on the set |x| <= r, where r is the largest initial |x|.

        Steps up to 2/r^2 do not leave this set. On it -3 r^2 <= f' <= 0 and |f''| <= 6 r.

        Raises:
            ValueError: the step is larger, so that paths may leave the set.
        """
        r = torch.maximum(low.abs(), high.abs()) * (1.0 + 1e-15)  # (1,)
        if step_size * float(r) ** 2 > 2.0:
            raise ValueError(
                f"step_size={step_size:g}: expected at most 2/r² = {2.0 / float(r) ** 2:g}, where "
                "r is the largest initial |x|."
            )
        steepest, zero = 3.0 * r**2 * (1.0 + 1e-15), torch.zeros_like(r)
        step = (step_size * steepest - 1.0).clamp_min(1.0)
        return Rates(
            drift=steepest,
            noise=zero,
            log_norm=zero.expand(3, 1),
            least_log_norm=-steepest,
            radial=zero,
            step=step,
            fourth=step,
            blocks=zero[:, None, None],
            step_blocks=step[:, None, None],
            curvature=6.0 * r * (1.0 + 1e-15),
            noise_curvature=zero,
        )

    @staticmethod
    def flow(x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """phi, phi' and phi'': the state at time t >= 0 from x and its derivatives, elementwise."""
        spread = 1.0 + 2.0 * x**2 * t
        return x * spread**-0.5, spread**-1.5, -6.0 * x * t * spread**-2.5

"""O11: the cubic flow, contractive, with its derivatives in the initial state in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdewm.base.checks import check_finite_number, check_interval
from sdewm.sde.rates import Rates


class CubicFlow:
    r"""A deterministic scalar equation with a curved flow (statement O11).

    dx = -x^3 dt + epsilon sigma_bar dB,   L = x^2. The drift contracts (its derivative -3 x^2 is
    never positive), so that two paths never move apart. From x at time 0, without error,

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
        """Store the start; see the class for the meaning."""
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
        """Sigma-bar (B, 1)."""
        return torch.full_like(y, self.sigma_bar)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The square x^2 (B,)."""
        return y[:, 0] ** 2

    def certified_rates(
        self, low: torch.Tensor, high: torch.Tensor, step_size: float, blocks: Sequence[slice]
    ) -> Rates:
        """Rates, N = 1, on |x| <= r, r the largest start, which steps up to 2/r^2 keep.

        There -3 r^2 <= f' <= 0 and |f''| <= 6 r.

        Raises:
            ValueError: a larger step, for which paths may leave that set.
        """
        r = torch.maximum(low.abs(), high.abs()) * (1.0 + 1e-15)  # (1,)
        if step_size * float(r) ** 2 > 2.0:
            raise ValueError(f"step_size={step_size:g}: at most 2/r² = {2.0 / float(r) ** 2:g}.")
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
        """State after time t >= 0 from x, its first and its second derivative in x, elementwise."""
        spread = 1.0 + 2.0 * x**2 * t
        return x * spread**-0.5, spread**-1.5, -6.0 * x * t * spread**-2.5

"""O11: the cubic flow, contractive, with its derivatives in the initial state in closed form."""

from __future__ import annotations

import torch

from sdewm.base.checks import check_finite_number, check_interval


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

    @staticmethod
    def flow(x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """State after time t >= 0 from x, its first and its second derivative in x, elementwise."""
        spread = 1.0 + 2.0 * x**2 * t
        return x * spread**-0.5, spread**-1.5, -6.0 * x * t * spread**-2.5

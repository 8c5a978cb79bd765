"""O1: the Ornstein–Uhlenbeck process, whose expected loss is exactly quadratic in epsilon."""

from __future__ import annotations

import torch

from sdewm.base.checks import check_finite_number, check_interval
from sdewm.sde.examples.moments import MomentSystem, exact_terms


class OrnsteinUhlenbeck:
    r"""Linear scalar equation with constant noise (statement O1).

    dz = (-rate z + epsilon sigma) dt + (noise + epsilon sigma_bar) dB,   L = z^2   (driver "same"),
    or noise dB + epsilon sigma_bar dB' (driver "independent"). With E = exp(-rate T), K = (1 - E)
    / rate and V = (1 - E^2) / (2 rate): P = 2 noise sigma_bar V (same) or 0, S = 2 sigma_bar^2 V,
    P_drift = 2 z0 E sigma K, S_drift = 2 sigma^2 K^2, the rest is 0.

    Noise type "additive": f and error_drift are (B, 1), g and error_diffusion (B, 1, 1), loss is
    (B,).

    Args:
        rate: mean reversion, a in O1.
        noise: diffusion, q in O1.
        sigma: error drift.
        sigma_bar: error diffusion.
        start: z0.
        t1: final time T.

    Raises:
        ValueError: if a parameter is not a finite number or ``t1`` is not positive.

    >>> case = OrnsteinUhlenbeck()
    >>> round(case.exact_terms()["P"], 10), round(case.exact_terms(steps=50)["P"], 10)
    (0.3409807675, 0.3461154396)
    """

    noise_type = "additive"
    sde_type = "ito"
    state_size = 1

    def __init__(
        self,
        *,
        rate: float = 0.8,
        noise: float = 0.5,
        sigma: float = 0.4,
        sigma_bar: float = 0.6,
        start: float = 1.2,
        t1: float = 1.5,
    ) -> None:
        """Store the coefficients; see the class for their meaning."""
        self.rate = check_finite_number("rate", rate)
        self.noise = check_finite_number("noise", noise)
        self.sigma = check_finite_number("sigma", sigma)
        self.sigma_bar = check_finite_number("sigma_bar", sigma_bar)
        self.x0 = torch.tensor([check_finite_number("start", start)], dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 1)."""
        return -self.rate * y

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, 1, 1)."""
        return torch.full_like(y, self.noise).unsqueeze(-1)

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift sigma (B, 1)."""
        return torch.full_like(y, self.sigma)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, 1, 1)."""
        return torch.full_like(y, self.sigma_bar).unsqueeze(-1)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The square z^2 (B,)."""
        return y[:, 0] ** 2

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The constant Jacobians: -rate (1, 1) and 0 (1, 1, 1)."""
        drift = torch.tensor([[-self.rate]], dtype=torch.float64)
        return drift, torch.zeros(1, 1, 1, dtype=torch.float64)

    def moment_system(self) -> MomentSystem:
        """The coefficients as polynomials."""
        return MomentSystem(
            drift=[{(1,): -self.rate}],
            diffusion=[[{(0,): self.noise}]],
            error_drift=[{(0,): self.sigma}],
            error_diffusion=[[{(0,): self.sigma_bar}]],
            loss={(2,): 1.0},
        )

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The ten terms of S4: continuous time, or Euler–Maruyama with ``steps`` Gaussian steps."""
        return exact_terms(self.moment_system(), self.x0, self.t1, driver, steps)

"""O3 and O3b: geometric Brownian motion, whose fundamental matrix is random."""

from __future__ import annotations

import torch

from sdewm.base.checks import check_finite_number, check_interval
from sdewm.sde.examples.moments import MomentSystem, exact_terms


class GeometricBrownianMotion:
    r"""Linear equation with multiplicative noise and constant errors (statement O3).

    dx = (growth x + epsilon sigma) dt + (volatility x + epsilon sigma_bar) dB,   L = x^2.

    The fundamental matrix is lognormal. The Itô correction of S3, -volatility sigma_bar, does not
    vanish: without it P would be too large by 2 x0 volatility sigma_bar times
    int_0^T exp(growth s + (2 growth + volatility^2) (T - s)) ds.

    Noise type "scalar": f and error_drift are (B, 1), g and error_diffusion (B, 1, 1), loss is
    (B,).

    Args:
        growth: mu in O3.
        volatility: nu in O3.
        sigma: error drift.
        sigma_bar: error diffusion.
        start: x0.
        t1: final time T.

    Raises:
        ValueError: if a parameter is not a finite number or ``t1`` is not positive.

    >>> round(GeometricBrownianMotion().exact_terms()["P"], 10)
    0.5398843878
    """

    noise_type = "scalar"
    sde_type = "ito"
    state_size = 1

    def __init__(
        self,
        *,
        growth: float = 0.3,
        volatility: float = 0.5,
        sigma: float = 0.4,
        sigma_bar: float = 0.3,
        start: float = 1.0,
        t1: float = 1.0,
    ) -> None:
        """Store the coefficients; see the class for their meaning."""
        self.growth = check_finite_number("growth", growth)
        self.volatility = check_finite_number("volatility", volatility)
        self.sigma = check_finite_number("sigma", sigma)
        self.sigma_bar = check_finite_number("sigma_bar", sigma_bar)
        self.x0 = torch.tensor([check_finite_number("start", start)], dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 1)."""
        return self.growth * y

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, 1, 1)."""
        return (self.volatility * y).unsqueeze(-1)

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift sigma (B, 1)."""
        return torch.full_like(y, self.sigma)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, 1, 1)."""
        return torch.full_like(y, self.sigma_bar).unsqueeze(-1)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The square x^2 (B,)."""
        return y[:, 0] ** 2

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The constant Jacobians: growth (1, 1) and volatility (1, 1, 1)."""
        drift = torch.tensor([[self.growth]], dtype=torch.float64)
        return drift, torch.tensor([[[self.volatility]]], dtype=torch.float64)

    def moment_system(self) -> MomentSystem:
        """The coefficients as polynomials."""
        return MomentSystem(
            drift=[{(1,): self.growth}],
            diffusion=[[{(1,): self.volatility}]],
            error_drift=[{(0,): self.sigma}],
            error_diffusion=[[{(0,): self.sigma_bar}]],
            loss={(2,): 1.0},
        )

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The ten terms of S4: continuous time, or Euler–Maruyama with ``steps`` Gaussian steps."""
        return exact_terms(self.moment_system(), self.x0, self.t1, driver, steps)


class ScaledGeometricBrownianMotion:
    r"""Geometric Brownian motion whose volatility is perturbed (statement O3b).

    dx = growth x dt + (volatility + epsilon sigma_bar) x dB,   L = x^2,
    E L = x0^2 exp((2 growth + (volatility + epsilon sigma_bar)^2) T) for the driver "same". The
    error diffusion depends on the state, so Q does not vanish. There is no error drift.

    Noise type "diagonal": f, g and error_diffusion are (B, 1), loss is (B,).

    Args:
        growth: mu in O3b.
        volatility: nu in O3b.
        sigma_bar: error diffusion per unit of x, s-bar in O3b.
        start: x0.
        t1: final time T.

    Raises:
        ValueError: if a parameter is not a finite number or ``t1`` is not positive.

    >>> round(ScaledGeometricBrownianMotion().exact_terms()["Q"], 10)
    0.0649493661
    """

    noise_type = "diagonal"
    sde_type = "ito"
    state_size = 1
    error_drift = None

    def __init__(
        self,
        *,
        growth: float = -0.1,
        volatility: float = 0.4,
        sigma_bar: float = 0.5,
        start: float = 1.3,
        t1: float = 1.0,
    ) -> None:
        """Store the coefficients; see the class for their meaning."""
        self.growth = check_finite_number("growth", growth)
        self.volatility = check_finite_number("volatility", volatility)
        self.sigma_bar = check_finite_number("sigma_bar", sigma_bar)
        self.x0 = torch.tensor([check_finite_number("start", start)], dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 1)."""
        return self.growth * y

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, 1)."""
        return self.volatility * y

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, 1)."""
        return self.sigma_bar * y

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The square x^2 (B,)."""
        return y[:, 0] ** 2

    def moment_system(self) -> MomentSystem:
        """The coefficients as polynomials."""
        return MomentSystem(
            drift=[{(1,): self.growth}],
            diffusion=[[{(1,): self.volatility}]],
            error_drift=[{}],
            error_diffusion=[[{(1,): self.sigma_bar}]],
            loss={(2,): 1.0},
        )

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The ten terms of S4: continuous time, or Euler–Maruyama with ``steps`` Gaussian steps."""
        return exact_terms(self.moment_system(), self.x0, self.t1, driver, steps)

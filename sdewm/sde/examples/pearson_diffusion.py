"""O5: the Pearson diffusion, whose nonlinear diffusion gives a second-order Itô correction."""

from __future__ import annotations

import numpy as np
import torch

from sdewm.base.checks import check_choice, check_count, check_finite_number, check_interval
from sdewm.sde.examples.moments import DRIVERS, exponential_action


class PearsonDiffusion:
    r"""Diffusion proportional to sqrt(1 + x^2) (statement O5).

    dx = drift x dt + (volatility + epsilon sigma_bar) sqrt(1 + x^2) dB,   L = x^2.

    The second moment m = E x^2 solves m' = r m + v with r = 2 drift + v, hence
    E L = (x0^2 + v / r) exp(r T) - v / r for v > 0. Here v = (volatility + epsilon sigma_bar)^2 for
    the driver "same" and v = volatility^2 + epsilon^2 sigma_bar^2 for "independent". The expansion
    is that of m in epsilon. The separate terms Q and S have no closed moment equation, so only c0,
    P, c1 and c2 are available.

    Noise type "diagonal": f, g and error_diffusion are (B, 1), loss is (B,); no drift error.

    Args:
        drift: mu in O5.
        volatility: nu in O5.
        sigma_bar: change of the volatility per epsilon, s-bar in O5.
        start: x0.
        t1: final time T.

    Raises:
        ValueError: if a parameter is not a finite number or ``t1`` is not positive.

    >>> round(PearsonDiffusion().exact_terms()["c2"], 10)
    0.2929945128
    """

    noise_type = "diagonal"
    sde_type = "ito"
    state_size = 1
    error_drift = None

    def __init__(
        self,
        *,
        drift: float = -0.5,
        volatility: float = 0.6,
        sigma_bar: float = 0.4,
        start: float = 0.7,
        t1: float = 1.0,
    ) -> None:
        """Store the coefficients; see the class for their meaning."""
        self.drift = check_finite_number("drift", drift)
        self.volatility = check_finite_number("volatility", volatility)
        self.sigma_bar = check_finite_number("sigma_bar", sigma_bar)
        self.x0 = torch.tensor([check_finite_number("start", start)], dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 1)."""
        return self.drift * y

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, 1)."""
        return self.volatility * torch.sqrt(1.0 + y**2)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, 1)."""
        return self.sigma_bar * torch.sqrt(1.0 + y**2)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The square x^2 (B,)."""
        return y[:, 0] ** 2

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The terms c0, P, c1, c2: continuous time, or Euler–Maruyama with ``steps`` steps."""
        c0, c1, c2, _ = self.exact_coefficients(driver, steps)
        return {"c0": c0, "P": c1, "c1": c1, "c2": c2}

    def exact_coefficients(
        self, driver: str = "same", steps: int | None = None
    ) -> tuple[float, float, float, float]:
        """Coefficients of epsilon^0 ... epsilon^3 in E L.

        With v = v0 + v1 epsilon + v2 epsilon^2 the coefficients m_j of m solve the closed linear
        system m_j' = (2 drift + v0) m_j + v1 m_(j-1) + v2 m_(j-2) + v_j; the scheme replaces 2
        drift dt by (1 + drift dt)^2 - 1.

        Raises:
            ValueError: for an unknown driver or a ``steps`` that is not a positive whole number.
        """
        check_choice("driver", driver, DRIVERS)
        cross = 2 * self.volatility * self.sigma_bar if driver == "same" else 0.0
        squared = (self.volatility**2, cross, self.sigma_bar**2, 0.0)  # v0 .. v3
        noise = np.zeros((5, 5))  # acts on (m_0, m_1, m_2, m_3, 1)
        for j in range(4):
            noise[j, : j + 1] = squared[j::-1]
            noise[j, 4] = squared[j]
        drift = np.diag([1.0, 1.0, 1.0, 1.0, 0.0])
        moments = np.array([float(self.x0) ** 2, 0.0, 0.0, 0.0, 1.0])
        if steps is None:
            moments = exponential_action((2 * self.drift * drift + noise) * self.t1, moments)
        else:
            step = self.t1 / check_count("steps", steps)
            growth = (1 + self.drift * step) ** 2 - 1
            for _ in range(steps):
                moments = moments + growth * drift @ moments + step * noise @ moments
        c0, c1, c2, c3 = moments[:4].tolist()
        return c0, c1, c2, c3

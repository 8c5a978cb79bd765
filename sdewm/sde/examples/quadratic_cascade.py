"""O4: a noisy latent that drives a second state through a quadratic drift."""

from __future__ import annotations

import torch

from sdewm.base.checks import check_choice, check_finite_number, check_interval
from sdewm.sde.examples.moments import MomentSystem, exact_terms
from sdewm.sde.examples.polynomials import Polynomial

LOSSES: dict[str, Polynomial] = {"h": {(0, 1): 1.0}, "h_squared": {(0, 2): 1.0}}


class QuadraticCascade:
    r"""The world model's block structure with a nonlinear drift (statement O4).

    dz = (-rate z + epsilon sigma) dt + (noise + epsilon sigma_bar) dB  (or epsilon sigma_bar dB'),
    dh = (-decay h + gain z + curvature z^2) dt,   L = h or h^2, state (z, h).

    The term Q is due to the second derivative H^0 of the drift alone. For L = h it is
    curvature sigma_bar^2 times int_0^T exp(-decay (T - s)) (1 - exp(-2 rate s)) / (2 rate) ds.
    For the convex loss L = h^2 and an independent driver Q + S/2 is negative (S5a).

    Noise type "scalar": f and error_drift are (B, 2), g and error_diffusion (B, 2, 1), loss is
    (B,).

    Args:
        loss: "h" or "h_squared".
        rate: a in O4.
        decay: b in O4.
        gain: c in O4.
        curvature: beta in O4.
        noise: q in O4.
        sigma: error drift on z.
        sigma_bar: error diffusion on z.
        start: (z0, h0).
        t1: final time T.

    Raises:
        ValueError: if ``loss`` is unknown, a parameter is not a finite number or ``t1`` is not
            positive.

    >>> terms = QuadraticCascade().exact_terms(driver="independent")
    >>> round(terms["Q"] + terms["S"] / 2, 6)
    -0.051542
    """

    noise_type = "scalar"
    sde_type = "ito"
    state_size = 2

    def __init__(
        self,
        *,
        loss: str = "h_squared",
        rate: float = 1.0,
        decay: float = 0.7,
        gain: float = 0.5,
        curvature: float = -0.8,
        noise: float = 0.4,
        sigma: float = 0.3,
        sigma_bar: float = 0.6,
        start: tuple[float, float] = (0.5, 0.8),
        t1: float = 1.2,
    ) -> None:
        """Store the coefficients; see the class for their meaning."""
        self.loss_name = check_choice("loss", loss, LOSSES)
        self.rate = check_finite_number("rate", rate)
        self.decay = check_finite_number("decay", decay)
        self.gain = check_finite_number("gain", gain)
        self.curvature = check_finite_number("curvature", curvature)
        self.noise = check_finite_number("noise", noise)
        self.sigma = check_finite_number("sigma", sigma)
        self.sigma_bar = check_finite_number("sigma_bar", sigma_bar)
        z0, h0 = start
        values = [check_finite_number("start[0]", z0), check_finite_number("start[1]", h0)]
        self.x0 = torch.tensor(values, dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 2)."""
        z, h = y[:, 0], y[:, 1]  # (B,)
        return torch.stack(
            [-self.rate * z, -self.decay * h + self.gain * z + self.curvature * z**2], dim=1
        )

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, 2, 1)."""
        return self._on_latent(y, self.noise).unsqueeze(-1)

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift sigma (B, 2)."""
        return self._on_latent(y, self.sigma)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, 2, 1)."""
        return self._on_latent(y, self.sigma_bar).unsqueeze(-1)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The state h, or its square (B,)."""
        h = y[:, 1]
        return h if self.loss_name == "h" else h**2

    def moment_system(self) -> MomentSystem:
        """The coefficients as polynomials."""
        return MomentSystem(
            drift=[
                {(1, 0): -self.rate},
                {(0, 1): -self.decay, (1, 0): self.gain, (2, 0): self.curvature},
            ],
            diffusion=[[{(0, 0): self.noise}, {}]],
            error_drift=[{(0, 0): self.sigma}, {}],
            error_diffusion=[[{(0, 0): self.sigma_bar}, {}]],
            loss=LOSSES[self.loss_name],
        )

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The ten terms of S4: continuous time, or Euler–Maruyama with ``steps`` Gaussian steps."""
        return exact_terms(self.moment_system(), self.x0, self.t1, driver, steps)

    @staticmethod
    def _on_latent(y: torch.Tensor, value: float) -> torch.Tensor:
        """(value, 0) in every row (B, 2)."""
        row = torch.full_like(y[:, 0], value)
        return torch.stack([row, torch.zeros_like(row)], dim=1)

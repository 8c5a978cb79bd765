"""O8: a smooth nonlinear world model, averaged exactly over all sign patterns of its noise."""

from __future__ import annotations

import torch

from sdewm.base.checks import check_interval


class EnumerationWorldModel:
    r"""World model with tanh networks and state (z, h, z-tilde, s-tilde, t) (statement O8).

    The policy is a = tanh(z - h) / 2. Encoder, predictor and decoder have one driver each.

    dz = (tanh(1.1 h + sin t) - z + epsilon sigma) dt + (0.3 + 0.1 cos h) dB1
         + epsilon sigma_bar dB1 (driver "same") or dB4 (driver "independent"),
    dh = (-0.6 h + tanh(0.9 z + 0.4 h + a)) dt,
    dz-tilde = 0.8 sin h dt + (0.25 + 0.1 sin h) dB2,
    ds-tilde = tanh(z-tilde + h / 2) dt + 0.1 dB3,   dt = dt,
    sigma = 0.4 sin(h + 0.3),   sigma_bar = 0.5 + 0.2 tanh h,
    L = (s-tilde - 1/2)^2 + (z - z-tilde)^2 / 2.

    For the driver "same" seven of the eight terms are nonzero, and no closed form is known. With
    increments +-sqrt(step) the terms of the scheme are exact averages over all sign patterns (S5b).

    Noise type "general": f and error_drift are (B, 5), g and error_diffusion (B, 5, 3), loss is
    (B,). ``independent_error_diffusion`` (B, 5, 1) is the same sigma_bar on one additional,
    independent driver.

    Args:
        t1: final time T.

    Raises:
        ValueError: if ``t1`` is not positive.

    >>> case = EnumerationWorldModel()
    >>> y = case.x0.expand(2, 5)
    >>> case.f(torch.tensor(0.0), y).shape, case.g(torch.tensor(0.0), y).shape
    (torch.Size([2, 5]), torch.Size([2, 5, 3]))
    """

    noise_type = "general"
    sde_type = "ito"
    state_size = 5

    def __init__(self, *, t1: float = 1.2) -> None:
        """Store the final time; the coefficients are fixed."""
        self.x0 = torch.tensor([0.3, -0.2, 0.1, 0.0, 0.0], dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 5)."""
        z, h, z_tilde, _, time = y.unbind(dim=1)  # (B,) each
        action = 0.5 * torch.tanh(z - h)
        rows = [
            torch.tanh(1.1 * h + torch.sin(time)) - z,
            -0.6 * h + torch.tanh(0.9 * z + 0.4 * h + action),
            0.8 * torch.sin(h),
            torch.tanh(z_tilde + h / 2),
            torch.ones_like(time),
        ]
        return torch.stack(rows, dim=1)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, 5, 3), drivers (encoder, predictor, decoder)."""
        h = y[:, 1]
        zero = torch.zeros_like(h)
        encoder = [0.3 + 0.1 * torch.cos(h), zero, zero, zero, zero]
        predictor = [zero, zero, 0.25 + 0.1 * torch.sin(h), zero, zero]
        decoder = [zero, zero, zero, torch.full_like(h, 0.1), zero]
        drivers = [torch.stack(rows, dim=1) for rows in (encoder, predictor, decoder)]
        return torch.stack(drivers, dim=2)

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift sigma in the z row (B, 5)."""
        h = y[:, 1]
        return self._on_latent(0.4 * torch.sin(h + 0.3))

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar in the z row, on the encoder's driver (B, 5, 3)."""
        column = self.independent_error_diffusion(t, y)
        return torch.cat([column, torch.zeros_like(column), torch.zeros_like(column)], dim=2)

    def independent_error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar in the z row, on an independent driver (B, 5, 1)."""
        h = y[:, 1]
        return self._on_latent(0.5 + 0.2 * torch.tanh(h)).unsqueeze(-1)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """(s-tilde - 1/2)^2 + (z - z-tilde)^2 / 2 (B,)."""
        z, _, z_tilde, s_tilde, _ = y.unbind(dim=1)
        return (s_tilde - 0.5) ** 2 + 0.5 * (z - z_tilde) ** 2

    @staticmethod
    def _on_latent(values: torch.Tensor) -> torch.Tensor:
        """The values in the z row, zero elsewhere (B, 5)."""
        zero = torch.zeros_like(values)
        return torch.stack([values, zero, zero, zero, zero], dim=1)

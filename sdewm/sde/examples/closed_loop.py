"""O6: a task state that depends on the policy and must therefore be part of the state (S7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from sdewm.base.checks import check_interval
from sdewm.sde.examples.linear_world_model import (
    constant_tensor,
    half_square,
    linear_map,
    repeat_rows,
    symmetric_tensor,
)
from sdewm.sde.examples.moments import MomentSystem, exact_terms
from sdewm.sde.examples.polynomials import Matrix, affine, columns, half_quadratic


class ClosedLoop:
    r"""Linear feedback system of latent z, sequence state h and task state s (statement O6).

    dx = (M x + epsilon sigma) dt + (G + epsilon Sigma_bar) dB,   L = x' W x / 2,   x = (z, h, s).

    The row s of M depends on z and h through the policy. Treating s as exogenous in the variations
    ("frozen": M_sz = M_sh = 0 there) is wrong at first order; ``frozen_terms`` gives the wrong
    values for comparison.

    Noise type "additive": f and error_drift are (B, 3), g and error_diffusion (B, 3, 2) with the
    drivers (encoder, environment), loss is (B,).

    Args:
        matrix: M (3, 3).
        noise: G (3, 2).
        sigma: error drift (3,).
        sigma_bar: error diffusion (3, 2).
        weight: W (3, 3), symmetric.
        start: x0 (3,).
        t1: final time T.

    Attributes:
        frozen_matrix: M with M_sz = M_sh = 0.

    Raises:
        ValueError: if a shape does not fit, an entry is not finite, W is not symmetric or ``t1``
            is not positive.

    >>> case = ClosedLoop()
    >>> round(case.exact_terms()["P_drift"], 10), round(case.frozen_terms()["P_drift"], 10)
    (0.1251322955, 0.1416687721)
    """

    noise_type = "additive"
    sde_type = "ito"
    state_size = 3

    def __init__(
        self,
        *,
        matrix: Matrix = ((-1.0, 0.3, 0.8), (0.6, -0.7, 0.0), (-0.54, -0.36, -0.5)),
        noise: Matrix = ((0.3, 0.0), (0.0, 0.0), (0.0, 0.2)),
        sigma: Sequence[float] = (0.4, 0.0, 0.0),
        sigma_bar: Matrix = ((0.5, 0.0), (0.0, 0.0), (0.0, 0.0)),
        weight: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)),
        start: Sequence[float] = (1.0, 0.2, 0.5),
        t1: float = 1.5,
    ) -> None:
        """Store the matrices; see the class for their meaning."""
        self.matrix = constant_tensor("matrix", matrix, (3, 3))
        self.frozen_matrix = self.matrix.clone()
        self.frozen_matrix[2, :2] = 0.0
        self.noise = constant_tensor("noise", noise, (3, 2))
        self.sigma = constant_tensor("sigma", sigma, (3,))
        self.sigma_bar = constant_tensor("sigma_bar", sigma_bar, (3, 2))
        self.weight = symmetric_tensor("weight", weight, 3)
        self.x0 = constant_tensor("start", start, (3,))
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 3)."""
        return linear_map(self.matrix, y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, 3, 2)."""
        return repeat_rows(self.noise, y)

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift sigma (B, 3)."""
        return repeat_rows(self.sigma, y)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, 3, 2)."""
        return repeat_rows(self.sigma_bar, y)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The quadratic form x' W x / 2 (B,)."""
        return half_square(self.weight, y)

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The constant Jacobians: M (3, 3) and zeros (2, 3, 3)."""
        return self.matrix, torch.zeros(2, 3, 3, dtype=torch.float64)

    def moment_system(self) -> MomentSystem:
        """The coefficients as polynomials."""
        nothing = torch.zeros_like(self.matrix).tolist()
        return MomentSystem(
            drift=affine(self.matrix.tolist(), nothing[0]),
            diffusion=columns(self.noise.tolist()),
            error_drift=affine(nothing, self.sigma.tolist()),
            error_diffusion=columns(self.sigma_bar.tolist()),
            loss=half_quadratic(self.weight.tolist()),
        )

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The ten terms of S4: continuous time, or Euler–Maruyama with ``steps`` Gaussian steps."""
        return exact_terms(self.moment_system(), self.x0, self.t1, driver, steps)

    def frozen_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The wrong terms obtained if the variations ignore the feedback through s.

        A negative control.
        """
        frozen = affine(self.frozen_matrix.tolist(), [0.0] * self.state_size)
        system = dataclasses.replace(self.moment_system(), variation_drift=frozen)
        return exact_terms(system, self.x0, self.t1, driver, steps)

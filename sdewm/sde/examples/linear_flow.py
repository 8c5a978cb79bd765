"""O9: a linear SDE with multiplicative noise, whose second moments are matrix exponentials."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdewm.base.checks import check_count, check_finite_number, check_interval
from sdewm.sde.examples.linear_world_model import (
    constant_tensor,
    half_square,
    linear_map,
    repeat_rows,
)
from sdewm.sde.examples.moments import MomentSystem, exact_terms
from sdewm.sde.examples.polynomials import Matrix, affine, columns, half_quadratic
from sdewm.sde.linear_moments import moment_path


class LinearFlow:
    r"""Linear drift and linear diffusion (statements O9, S12, S19).

    dx = (A x + epsilon sigma) dt + sum_k (A_k x + epsilon sigma_bar_k) dB^k,   L = |x|^2 / 2.

    Two solutions along the same Brownian path differ by D_t = Phi_t e, where Phi is the fundamental
    matrix of the equation and e the initial difference. Hence E[D_t D_t'] follows from E[e e'].

    Noise type "general": f and error_drift are (B, D), g and error_diffusion (B, D, M), loss is
    (B,).

    Args:
        matrix: A (D, D).
        noise: the A_k, each (D, D); if empty, one driver with zero diffusion is used.
        start: x0 (D,); default (1, 0.5, 0.5, ...).
        sigma: every component of the error drift.
        sigma_bar: every component of the error diffusion.
        t1: final time T.

    Raises:
        ValueError: if a shape does not fit, an entry is not finite or ``t1`` is not positive.

    >>> case = LinearFlow()
    >>> print(f"{case.second_moment(torch.eye(2, dtype=torch.float64), 1.5).trace():.10f}")
    1.2823094145
    """

    noise_type = "general"
    sde_type = "ito"

    def __init__(
        self,
        *,
        matrix: Matrix = ((-0.6, 0.9), (0.2, -0.4)),
        noise: Sequence[Matrix] = (((0.3, 0.1), (-0.2, 0.25)),),
        start: Sequence[float] | None = None,
        sigma: float = 0.3,
        sigma_bar: float = 0.2,
        t1: float = 1.5,
    ) -> None:
        """Store the matrices; see the class for their meaning."""
        size = len(matrix)
        self.state_size = size
        self.matrix = constant_tensor("matrix", matrix, (size, size))
        columns_of = [constant_tensor("noise", one, (size, size)) for one in noise]
        self.noise = torch.stack(columns_of or [torch.zeros_like(self.matrix)])  # (M, D, D)
        if start is None:
            start = (1.0, *(0.5,) * (size - 1))
        self.x0 = constant_tensor("start", start, (size,))
        self.sigma = check_finite_number("sigma", sigma)
        self.sigma_bar = check_finite_number("sigma_bar", sigma_bar)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, D)."""
        return linear_map(self.matrix, y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, D, M)."""
        return torch.stack([linear_map(one, y) for one in self.noise], dim=2)

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A (D, D) and the A_k (M, D, D)."""
        return self.matrix, self.noise

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift sigma (B, D)."""
        return torch.full_like(y, self.sigma)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, D, M)."""
        return repeat_rows(torch.full_like(self.noise[:, 0].T, self.sigma_bar), y)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """|x|^2 / 2 (B,)."""
        return half_square(torch.eye(self.state_size), y)

    def second_moment(self, c: torch.Tensor, t: float, steps: int | None = None) -> torch.Tensor:
        """E[D_t D_t'] (D, D) from E[D_0 D_0'] = c.

        Exact in continuous time; with ``steps``, exact for that many Euler–Maruyama steps with
        Gaussian increments.

        Raises:
            ValueError: c is not (D, D), or t is not positive.
        """
        if tuple(c.shape) != tuple(self.matrix.shape):
            raise ValueError(f"c has shape {tuple(c.shape)}; expected {tuple(self.matrix.shape)}.")
        count = 1 if steps is None else check_count("steps", steps)
        step_size = check_interval(0.0, t)[1] / count
        scheme = steps is not None
        return moment_path(*self.jacobians(), c, step_size, count, scheme=scheme)[-1]

    def moment_system(self) -> MomentSystem:
        """The coefficients as polynomials."""
        size, drivers = self.state_size, len(self.noise)
        nothing = [0.0] * size
        return MomentSystem(
            drift=affine(self.matrix.tolist(), nothing),
            diffusion=[affine(one, nothing) for one in self.noise.tolist()],
            error_drift=affine([nothing] * size, [self.sigma] * size),
            error_diffusion=columns([[self.sigma_bar] * drivers] * size),
            loss=half_quadratic(torch.eye(size).tolist()),
        )

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The ten terms of S4: continuous time, or Euler–Maruyama with ``steps`` Gaussian steps."""
        return exact_terms(self.moment_system(), self.x0, self.t1, driver, steps)

"""O2: a linear world model with the paper's block structure, and functions for linear systems."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdewm.base.checks import check_interval
from sdewm.sde.examples.moments import MomentSystem, exact_terms
from sdewm.sde.examples.polynomials import Matrix, affine, columns, half_quadratic


class LinearWorldModel:
    r"""Linear encoder, sequence, predictor and decoder (statement O2).

    State (z, h, z-tilde, s-tilde):

    dx = (M x + c + epsilon sigma) dt + (G + epsilon Sigma_bar) dB,   L = x' W x / 2.

    By default the error enters the z row only, on the encoder's driver. The system is linear with
    constant noise, so Q = Q_drift = S_cross = 0 and P depends on the covariance only. Matrices of
    any size may be passed.

    Noise type "additive": f and error_drift are (B, D), g and error_diffusion (B, D, M), here D =
    4 and M = 3 drivers (encoder, predictor, decoder); loss is (B,).

    Args:
        matrix: M (D, D).
        constant: c (D,).
        noise: G (D, M).
        sigma: error drift (D,).
        sigma_bar: error diffusion (D, M).
        weight: W (D, D), symmetric.
        start: x0 (D,).
        t1: final time T.

    Raises:
        ValueError: if a shape does not fit, an entry is not finite, W is not symmetric or ``t1``
            is not positive.

    >>> round(LinearWorldModel().exact_terms()["c2"], 10)
    0.0834883675
    """

    noise_type = "additive"
    sde_type = "ito"

    def __init__(
        self,
        *,
        matrix: Matrix = (
            (-0.9, 0.3, 0.0, 0.0),
            (0.5, -0.6, 0.0, 0.0),
            (0.0, 0.8, -0.4, 0.0),
            (0.0, 0.2, 0.7, -1.0),
        ),
        constant: Sequence[float] = (0.1, 0.0, 0.0, 0.05),
        noise: Matrix = ((0.3, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.2, 0.0), (0.0, 0.0, 0.1)),
        sigma: Sequence[float] = (0.4, 0.0, 0.0, 0.0),
        sigma_bar: Matrix = ((0.5, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        weight: Matrix = (
            (0.5, 0.0, 0.0, 0.0),
            (0.0, 0.0, 0.0, 0.0),
            (0.0, 0.0, 1.0, -0.6),
            (0.0, 0.0, -0.6, 2.0),
        ),
        start: Sequence[float] = (1.0, 0.5, -0.3, 0.2),
        t1: float = 2.0,
    ) -> None:
        """Store the matrices; see the class for their meaning."""
        size, drivers = len(start), len(noise[0])
        self.state_size = size
        self.matrix = constant_tensor("matrix", matrix, (size, size))
        self.constant = constant_tensor("constant", constant, (size,))
        self.noise = constant_tensor("noise", noise, (size, drivers))
        self.sigma = constant_tensor("sigma", sigma, (size,))
        self.sigma_bar = constant_tensor("sigma_bar", sigma_bar, (size, drivers))
        self.weight = symmetric_tensor("weight", weight, size)
        self.x0 = constant_tensor("start", start, (size,))
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, D)."""
        return linear_map(self.matrix, y) + repeat_rows(self.constant, y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, D, M)."""
        return repeat_rows(self.noise, y)

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift sigma (B, D)."""
        return repeat_rows(self.sigma, y)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, D, M)."""
        return repeat_rows(self.sigma_bar, y)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The quadratic form x' W x / 2 (B,)."""
        return half_square(self.weight, y)

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The constant Jacobians: M (D, D) and zeros (M, D, D)."""
        size, drivers = self.noise.shape
        return self.matrix, torch.zeros(drivers, size, size, dtype=torch.float64)

    def moment_system(self) -> MomentSystem:
        """The coefficients as polynomials."""
        nothing = torch.zeros_like(self.matrix)
        return MomentSystem(
            drift=affine(self.matrix.tolist(), self.constant.tolist()),
            diffusion=columns(self.noise.tolist()),
            error_drift=affine(nothing.tolist(), self.sigma.tolist()),
            error_diffusion=columns(self.sigma_bar.tolist()),
            loss=half_quadratic(self.weight.tolist()),
        )

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The ten terms of S4: continuous time, or Euler–Maruyama with ``steps`` Gaussian steps."""
        return exact_terms(self.moment_system(), self.x0, self.t1, driver, steps)


def constant_tensor(
    name: str, values: Matrix | Sequence[float], shape: tuple[int, ...]
) -> torch.Tensor:
    """The values as a finite float64 tensor of shape `shape`.

    Raises:
        ValueError: the shape is wrong or a value is not finite; the message gives `name`.
    """
    tensor = torch.tensor(values, dtype=torch.float64)
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}.")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name}={values!r}: expected finite numbers.")
    return tensor


def symmetric_tensor(name: str, values: Matrix, size: int) -> torch.Tensor:
    """The values as a symmetric float64 matrix.

    Raises:
        ValueError: see `constant_tensor`; or the matrix is not symmetric.
    """
    tensor = constant_tensor(name, values, (size, size))
    if not torch.equal(tensor, tensor.T):
        raise ValueError(f"{name}={values!r}: expected a symmetric matrix.")
    return tensor


def linear_map(matrix: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Products matrix @ x for each row x of the states (B, D), summed column by column.

    A matrix product may round differently for different batch sizes. Elementwise sums do not, so a
    path does not depend on the batch in which it is computed.
    """
    weights = matrix.to(dtype=y.dtype, device=y.device)  # (n, D)
    total = y[:, 0:1] * weights[:, 0]  # (B, n)
    for j in range(1, y.shape[1]):
        total = total + y[:, j : j + 1] * weights[:, j]
    return total


def half_square(weight: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The form x' W x / 2 for states (B, D), element by element as in ``linear_map`` (B,)."""
    products = y * linear_map(weight, y)  # (B, D)
    total = products[:, 0]
    for j in range(1, y.shape[1]):
        total = total + products[:, j]
    return 0.5 * total


def repeat_rows(constant: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The constant repeated for every row of y (B, ...), in the dtype and on the device of y."""
    constant = constant.to(dtype=y.dtype, device=y.device)
    return constant.expand(y.shape[0], *constant.shape)

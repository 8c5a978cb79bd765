"""S5a and S2: a convex loss that is reduced by noise, and a loss that is not smooth enough."""

from __future__ import annotations

import math

import torch

from sdewm.base.checks import check_choice, check_count, check_finite_number, check_interval
from sdewm.sde.examples.moments import DRIVERS, MomentSystem, exact_terms


class CurvatureCounterexample:
    r"""A convex loss with a negative second-order term (statement S5a).

    dx1 = epsilon dB,   dx2 = -x1^2 dt,   L = x2,   x(0) = 0.

    The loss is linear, so S = 0. Nevertheless E L = -epsilon^2 T^2 / 2, because the value function
    (not the loss) is concave. The unperturbed system is deterministic, so the two driver
    conventions agree.

    Noise type "scalar": f is (B, 2), g and error_diffusion (B, 2, 1), loss is (B,); no drift error.

    Args:
        t1: final time T.

    Raises:
        ValueError: if ``t1`` is not positive.

    >>> CurvatureCounterexample(t1=1.0).exact_terms(driver="independent")["c2"]
    -0.5
    """

    noise_type = "scalar"
    sde_type = "ito"
    state_size = 2
    error_drift = None

    def __init__(self, *, t1: float = 1.0) -> None:
        """Store the final time."""
        self.x0 = torch.zeros(2, dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 2)."""
        return torch.stack([torch.zeros_like(y[:, 0]), -(y[:, 0] ** 2)], dim=1)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion, zero (B, 2, 1)."""
        return torch.zeros_like(y).unsqueeze(-1)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar, 1 in row x1 (B, 2, 1)."""
        one = torch.ones_like(y[:, 0])
        return torch.stack([one, torch.zeros_like(one)], dim=1).unsqueeze(-1)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """The second state x2 (B,)."""
        return y[:, 1]

    def moment_system(self) -> MomentSystem:
        """The coefficients as polynomials."""
        return MomentSystem(
            drift=[{}, {(2, 0): -1.0}],
            diffusion=[[{}, {}]],
            error_drift=[{}, {}],
            error_diffusion=[[{(0, 0): 1.0}, {}]],
            loss={(0, 1): 1.0},
        )

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The ten terms of S4: continuous time, or Euler–Maruyama with ``steps`` Gaussian steps."""
        return exact_terms(self.moment_system(), self.x0, self.t1, driver, steps)


class RegularityCounterexample:
    r"""A loss in C^2 but not in C^(2,1): the remainder is not of order epsilon^3 (statement S2).

    dx = epsilon dB,   L = |x|^(5/2),   x(0) = 0,
    E L = (epsilon^2 T)^(5/4) 2^(5/4) Gamma(7/4) / sqrt(pi).

    Every term of the expansion vanishes. With Gaussian increments the scheme is exact for any
    number of steps. The unperturbed system is deterministic, so the two driver conventions agree.

    Noise type "diagonal": f, g and error_diffusion are (B, 1), loss is (B,); no drift error.

    Args:
        t1: final time T.

    Raises:
        ValueError: if ``t1`` is not positive.

    >>> round(RegularityCounterexample(t1=1.0).exact_loss(1.0), 6)
    1.233268
    """

    noise_type = "diagonal"
    sde_type = "ito"
    state_size = 1
    error_drift = None

    def __init__(self, *, t1: float = 1.0) -> None:
        """Store the final time."""
        self.x0 = torch.zeros(1, dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift, zero (B, 1)."""
        return torch.zeros_like(y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion, zero (B, 1)."""
        return torch.zeros_like(y)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar = 1 (B, 1)."""
        return torch.ones_like(y)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """|x|^(5/2) (B,)."""
        return y[:, 0].abs() ** 2.5

    def exact_loss(self, epsilon: float) -> float:
        """E L at one epsilon, the same in continuous time and for the scheme."""
        variance = check_finite_number("epsilon", epsilon) ** 2 * self.t1
        return (2 * variance) ** 1.25 * math.gamma(1.75) / math.sqrt(math.pi)

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """All terms are 0: L, its gradient and its Hessian vanish on the unperturbed path x = 0."""
        check_choice("driver", driver, DRIVERS)
        if steps is not None:
            check_count("steps", steps)
        return dict.fromkeys(("c0", "P", "Q", "S", "c1", "c2"), 0.0)

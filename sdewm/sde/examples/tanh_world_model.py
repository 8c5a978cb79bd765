"""An unstructured world model whose coefficients are small tanh networks with random weights."""

from __future__ import annotations

import math

import torch

from sdewm.base.checks import check_count, check_interval


class TanhNetwork:
    """Bounded smooth map x -> V tanh(U x + b) + c with fixed normal weights (A1).

    Args:
        inputs: size of x.
        width: number of hidden units.
        outputs: size of the value.
        scale: scale of the outputs; V has entries of standard deviation scale / sqrt(width).
        generator: random generator of the weights.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, scale: float, generator: torch.Generator
    ) -> None:
        """Draw the weights in float64."""

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        self.inner = normal(inputs, width) / math.sqrt(inputs)  # (D, W)
        self.inner_bias = normal(width)
        self.outer = normal(width, outputs) * (scale / math.sqrt(width))  # (W, outputs)
        self.outer_bias = normal(outputs) * scale

    def __call__(self, y: torch.Tensor) -> torch.Tensor:
        """Values (B, outputs) for states (B, D), in the dtype and on the device of y."""
        inner, inner_bias, outer, outer_bias = (
            weight.to(dtype=y.dtype, device=y.device)
            for weight in (self.inner, self.inner_bias, self.outer, self.outer_bias)
        )
        return torch.tanh(y @ inner + inner_bias) @ outer + outer_bias


class TanhWorldModel:
    r"""System whose coefficients a, b, sigma and sigma_bar are tanh networks.

    dx = (a(x) - x + epsilon sigma(x)) dt + (b(x) + epsilon sigma_bar(x)) dB.

    The system has no block structure and no closed form, so that no term cancels by symmetry. All
    networks are bounded and the term -x pulls the state towards the origin, so trajectories stay
    bounded in mean square; A1 and A2 hold. L = |x|^2 / 2 + cos(r . x) with a random vector r.

    Noise type "general": f and error_drift are (B, D), g and error_diffusion (B, D, M), loss is
    (B,). Matrix products may round differently in batches of different size (relative 1e-15).

    Args:
        state_size: D.
        width: hidden units of each network.
        drivers: M.
        seed: seed of the weights; equal seeds and sizes give equal systems.
        t1: final time.

    Raises:
        ValueError: if a size is not a positive whole number, ``seed`` is not a nonnegative whole
            number, or ``t1`` is not positive.

    >>> case = TanhWorldModel(state_size=3, width=8, drivers=2, seed=1)
    >>> case.g(torch.tensor(0.0), case.x0.expand(5, 3)).shape
    torch.Size([5, 3, 2])
    """

    noise_type = "general"
    sde_type = "ito"

    def __init__(
        self,
        *,
        state_size: int = 4,
        width: int = 16,
        drivers: int = 2,
        seed: int = 0,
        t1: float = 1.0,
    ) -> None:
        """Draw the weights from the seed."""
        self.state_size = check_count("state_size", state_size)
        self.drivers = check_count("drivers", drivers)
        width = check_count("width", width)
        generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
        size, columns = self.state_size, self.state_size * self.drivers
        self.drift = TanhNetwork(size, width, size, 1.0, generator)
        self.diffusion = TanhNetwork(size, width, columns, 0.4, generator)
        self.drift_error = TanhNetwork(size, width, size, 0.5, generator)
        self.diffusion_error = TanhNetwork(size, width, columns, 0.5, generator)
        self.direction = torch.randn(size, dtype=torch.float64, generator=generator)
        self.x0 = torch.randn(size, dtype=torch.float64, generator=generator)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, D)."""
        return self.drift(y) - y

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, D, M)."""
        return self.diffusion(y).reshape(-1, self.state_size, self.drivers)

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift sigma (B, D)."""
        return self.drift_error(y)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, D, M)."""
        return self.diffusion_error(y).reshape(-1, self.state_size, self.drivers)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """|x|^2 / 2 + cos(r . x) (B,)."""
        direction = self.direction.to(dtype=y.dtype, device=y.device)
        return 0.5 * (y**2).sum(dim=1) + torch.cos((y * direction).sum(dim=1))

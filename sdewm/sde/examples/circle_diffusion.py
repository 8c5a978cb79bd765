"""O7: a nonlinear diffusion on the circle, with exact terms from Fourier modes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from sdewm.base.checks import check_choice, check_count, check_finite_number, check_interval
from sdewm.sde.examples.moments import (
    DRIVERS,
    MomentSystem,
    MomentVariation,
    exact_terms,
    read_terms,
)
from sdewm.sde.examples.polynomials import Polynomial, multiply

MODES = 48


class CircleDiffusion:
    r"""Trigonometric drift, diffusion and errors on one angle (statement O7).

    dx = (-restoring sin x + epsilon (sigma_0 + sigma_1 cos x)) dt
         + (noise_0 + noise_1 cos x + epsilon (sigma_bar_0 + sigma_bar_1 sin x)) dB,
    L = 1 - cos x.

    All eight terms are nonzero for the driver "same". In continuous time E exp(ikx) y^j and
    E exp(ikx) w, |k| <= 48, solve one linear equation. For the scheme the conditional mean of
    exp(ikx) after one step is a Gaussian characteristic function. Neither needs quadrature.

    Noise type "diagonal": f, g, error_drift and error_diffusion are (B, 1), loss is (B,).

    Args:
        restoring: size of the restoring drift.
        noise: coefficients (constant, cosine) of the diffusion.
        sigma: coefficients (constant, cosine) of the error drift.
        sigma_bar: coefficients (constant, sine) of the error diffusion.
        start: initial angle.
        t1: final time.

    Raises:
        ValueError: if a parameter is not a finite number or ``t1`` is not positive.

    >>> round(CircleDiffusion().exact_terms()["c2"], 10)
    0.1013974843
    """

    noise_type = "diagonal"
    sde_type = "ito"
    state_size = 1

    def __init__(
        self,
        *,
        restoring: float = 0.9,
        noise: tuple[float, float] = (0.5, 0.2),
        sigma: tuple[float, float] = (0.3, 0.2),
        sigma_bar: tuple[float, float] = (0.4, 0.3),
        start: float = 0.6,
        t1: float = 1.0,
    ) -> None:
        """Store the coefficients; see the class for their meaning."""
        self.restoring = check_finite_number("restoring", restoring)
        self.noise = _pair("noise", noise)
        self.sigma = _pair("sigma", sigma)
        self.sigma_bar = _pair("sigma_bar", sigma_bar)
        self.x0 = torch.tensor([check_finite_number("start", start)], dtype=torch.float64)
        self.t1 = check_interval(0.0, t1)[1]

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, 1)."""
        return -self.restoring * torch.sin(y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, 1)."""
        return self.noise[0] + self.noise[1] * torch.cos(y)

    def error_drift(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error drift sigma (B, 1)."""
        return self.sigma[0] + self.sigma[1] * torch.cos(y)

    def error_diffusion(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Error diffusion sigma_bar (B, 1)."""
        return self.sigma_bar[0] + self.sigma_bar[1] * torch.sin(y)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """1 - cos x (B,)."""
        return 1.0 - torch.cos(y[:, 0])

    def moment_system(self) -> MomentSystem:
        """The coefficients as trigonometric polynomials."""
        return MomentSystem(
            drift=[_sine(0.0, -self.restoring)],
            diffusion=[[_cosine(*self.noise)]],
            error_drift=[_cosine(*self.sigma)],
            error_diffusion=[[_sine(*self.sigma_bar)]],
            loss=_cosine(1.0, -1.0),
            modes=MODES,
        )

    def exact_terms(self, driver: str = "same", steps: int | None = None) -> dict[str, float]:
        """The ten terms of S4: continuous time, or Euler–Maruyama with ``steps`` Gaussian steps."""
        if steps is None:
            return exact_terms(self.moment_system(), self.x0, self.t1, driver)
        extended = MomentVariation(self.moment_system(), check_choice("driver", driver, DRIVERS))
        return _scheme_terms(extended, float(self.x0), self.t1, check_count("steps", steps))


def _pair(name: str, values: tuple[float, float]) -> tuple[float, float]:
    first, second = values
    return check_finite_number(f"{name}[0]", first), check_finite_number(f"{name}[1]", second)


def _cosine(constant: float, amplitude: float) -> Polynomial:
    return {(0,): constant, (1,): amplitude / 2, (-1,): amplitude / 2}


def _sine(constant: float, amplitude: float) -> Polynomial:
    return {(0,): constant, (1,): -0.5j * amplitude, (-1,): 0.5j * amplitude}


def _scheme_terms(
    extended: MomentVariation, start: float, t1: float, steps: int
) -> dict[str, float]:
    """Terms of the Euler–Maruyama scheme by a linear recursion of Fourier moments (S5b)."""
    tails = _variation_monomials(extended, t1 / steps)
    matrix = _step_matrix(extended, tails, t1 / steps)
    modes = np.arange(-MODES, MODES + 1)
    moments = np.zeros((len(tails), len(modes)), dtype=complex)
    moments[tails.index((0,) * len(tails[0]))] = np.exp(1j * modes * start)
    moments = moments.reshape(-1)
    for _ in range(steps):
        moments = matrix @ moments
    keys = [(int(mode), *tail) for tail in tails for mode in modes]
    return read_terms(extended.targets, dict(zip(keys, moments, strict=True)))


def _variation_monomials(extended: MomentVariation, step: float) -> list[tuple[int, ...]]:
    """Monomials in (y eta, y xi, w eta, w - w eta) that the targets reach in one step or more."""
    image = extended.euler_image(step)
    found = dict.fromkeys(e[1:] for target in extended.targets.values() for e in target)
    queue = list(found)
    for tail in queue:  # grows while it is walked
        for exponents in image((0, *tail)):
            if exponents[1:] not in found:
                found[exponents[1:]] = None
                queue.append(exponents[1:])
    return queue


def _step_matrix(
    extended: MomentVariation, tails: list[tuple[int, ...]], step: float
) -> np.ndarray:
    """Matrix of one step on the moments E[exp(ikx) u^tail], |k| <= 48.

    The coefficients depend on x only, so they are sampled on a grid and transformed; with z ~ N(0,
    step) and a the frequency times the diffusion, E[z^p exp(iaz)] follows from Stein's identity
    m_p = i a step m_(p-1) + (p - 1) step m_(p-2).
    """
    modes = np.arange(-MODES, MODES + 1)
    points = 8 * MODES
    grid = 2 * np.pi * np.arange(points) / points
    moves = [extended.euler_step(i, step) for i in range(len(tails[0]) + 1)]
    drivers = len(extended.diffusion)
    still = (0,) * drivers
    drift = {e: v for e, v in moves[0].items() if e[-drivers:] == still}
    carrier = np.exp(1j * np.outer(modes, grid + np.real(_on_grid(drift, grid))))
    normals = []  # per driver: E[z^p exp(iaz)] for p = 0, 1, 2 as (modes, grid)
    for column in extended.diffusion:
        frequency = np.outer(modes, np.real(_on_grid(column[0], grid)))
        zeroth = np.exp(-0.5 * step * frequency**2)
        first = 1j * frequency * step * zeroth
        normals.append((zeroth, first, 1j * frequency * step * first + step * zeroth))
    matrix = np.zeros((len(tails), len(modes), len(tails), len(modes)), dtype=complex)
    for row, tail in enumerate(tails):
        product: Polynomial = {(0,) * (len(tail) + 1 + drivers): 1.0}
        for move, power in zip(moves[1:], tail, strict=True):
            for _ in range(power):
                product = multiply(product, move)
        for (target, powers), part in _by_variation(product, drivers).items():
            values = carrier * _on_grid(part, grid)
            for normal, power in zip(normals, powers, strict=True):
                values = values * normal[power]
            spectrum = np.fft.fft(values, axis=1)[:, modes % points] / points
            matrix[row, :, tails.index(target), :] += spectrum
    return matrix.reshape(len(tails) * len(modes), -1)


def _by_variation(
    product: Polynomial, drivers: int
) -> Mapping[tuple[tuple[int, ...], tuple[int, ...]], Polynomial]:
    """Group by (exponents of the variations, powers of the increments)."""
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], dict[tuple[int, ...], complex]] = {}
    for exponents, value in product.items():
        key = (exponents[1:-drivers], exponents[-drivers:])
        groups.setdefault(key, {})[exponents] = value
    return groups


def _on_grid(polynomial: Polynomial, grid: np.ndarray) -> np.ndarray:
    """Values of a trigonometric polynomial; only the first exponent, the mode, is used."""
    values = (value * np.exp(1j * e[0] * grid) for e, value in polynomial.items())
    return sum(values, np.zeros(len(grid), dtype=complex))

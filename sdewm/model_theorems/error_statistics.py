"""Drift and diffusion of an encoder's error, from draws of it (S28).

Of episode e, draw k of a perturbation and step t, let Δm and s' be the shift of the mean of z and
its standard deviation, s that of the reference, all at the same state. Component by component

    b_et = mean_k Δm_ekt                                drift, εσ for a step of the model
    ζ_ekt = Δm_ekt − b_et,  v_et = Σ_k ζ²/(K − 1)       fluctuation of the mean
    mean_k s'_ekt − s_et                                same-driver diffusion, signed
    √(v_et (1 + 2 Σ_j ρ_j))                             independent diffusion, ρ_j that of ζ in time

With a single draw b is the mean over steps and episodes and ζ what is left: a drift that depends on
the state then counts as fluctuation. Every error bar comes from episodes as units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sdewm.base.stats import Estimate
from sdewm.model_theorems.episode_statistics import mean_estimate, ratio

FLIPS = 9999  # of the sign-flip test
SIGNIFICANT = 2.0  # standard errors of an autocorrelation that counts


@dataclass(frozen=True)
class ZeroDriftTest:
    """A test of "the error has no drift".

    Attributes:
        name: "Hotelling" or "sign flips".
        statistic: T², or |mean|².
        p_value: chance of as much or more without drift.
    """

    name: str
    statistic: float
    p_value: float


@dataclass(frozen=True)
class ErrorStatistics:
    """What was measured; E episodes, K draws, T steps, Z components.

    Attributes:
        shift: Δm (E, K, T, Z).
        std: s' (E, K, T, Z).
        reference_std: s (E, T, Z).
    """

    shift: np.ndarray
    std: np.ndarray
    reference_std: np.ndarray

    def __post_init__(self) -> None:
        shape = self.shift.shape
        if len(shape) != 4 or self.std.shape != shape:
            raise ValueError(
                f"shift {shape} and std {self.std.shape}: expected the same (E, K, T, Z)."
            )
        if self.reference_std.shape != (shape[0], *shape[2:]):
            raise ValueError(
                f"reference_std {self.reference_std.shape}: expected (E, T, Z) = "
                f"{(shape[0], *shape[2:])}."
            )
        if shape[0] < 2:
            raise ValueError(
                f"{shape[0]} episode(s): expected at least 2, the units of all errors."
            )
        for name in ("shift", "std", "reference_std"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} contains values that are not finite.")

    @property
    def draws(self) -> int:
        """K."""
        return self.shift.shape[1]

    @cached_property
    def drift(self) -> np.ndarray:
        """Drift b (E, T, Z)."""
        if self.draws > 1:
            return self.shift.mean(1)
        constant = self.shift.mean((0, 1, 2))
        return np.broadcast_to(constant, self.reference_std.shape).copy()

    @cached_property
    def fluctuation(self) -> np.ndarray:
        """Fluctuation ζ (E, K, T, Z)."""
        return self.shift - self.drift[:, None]

    @cached_property
    def variance(self) -> np.ndarray:
        """Variance v (E, T, Z) of ζ, unbiased; with one draw the mean over steps and episodes."""
        squares = (self.fluctuation**2).sum(1)
        if self.draws > 1:
            return squares / (self.draws - 1)
        episodes, steps = squares.shape[:2]
        pooled = squares.sum((0, 1)) / (episodes * steps - 1)
        return np.broadcast_to(pooled, squares.shape).copy()

    @cached_property
    def same_driver(self) -> np.ndarray:
        """mean_k s' − s (E, T, Z), signed."""
        return self.std.mean(1) - self.reference_std

    @cached_property
    def variance_change(self) -> np.ndarray:
        """mean_k s'² − s² (E, T, Z): the change of the model's own spread, as a law."""
        return (self.std**2).mean(1) - self.reference_std**2

    def autocorrelation(self, lags: int) -> list[Estimate]:
        """ρ_1 … ρ_lags of ζ, pooled over components and draws."""
        steps = self.shift.shape[2]
        if not 0 < lags < steps:
            raise ValueError(f"lags={lags}: expected from 1 to {steps - 1}, below the steps.")
        z = self.fluctuation
        below = (z**2).mean((1, 2, 3))  # (E,)
        return [
            ratio((z[:, :, j:] * z[:, :, : steps - j]).mean((1, 2, 3)), below)
            for j in range(1, lags + 1)
        ]

    @cached_property
    def correlation_time(self) -> tuple[float, bool]:
        """1 + 2 Σ_j ρ_j, summed while ρ_j is significant; and whether it is to the end.

        If so the fluctuation lasts as long as the episode: it is a drift, random over episodes.
        """
        total, steps = 1.0, self.shift.shape[2]
        if steps < 4 or not self.variance.any():
            return total, False
        for rho in self.autocorrelation(steps // 2):
            if not rho.value > SIGNIFICANT * rho.standard_error:
                return total, False
            total += 2 * rho.value
        return total, True

    @cached_property
    def independent(self) -> np.ndarray:
        """Independent diffusion (E, T, Z)."""
        return np.sqrt(self.variance * self.correlation_time[0])

    @property
    def episode_drift(self) -> np.ndarray:
        """Mean of Δm over draws and steps (E, Z), one row for each episode."""
        return self.shift.mean((1, 2))

    def mean_drift(self) -> list[Estimate]:
        """The mean drift of each component."""
        rows = self.episode_drift
        errors = rows.std(0, ddof=1) / math.sqrt(len(rows))
        return [Estimate(float(m), float(s)) for m, s in zip(rows.mean(0), errors, strict=True)]

    def zero_drift_test(self, seed: int = 0) -> ZeroDriftTest:
        """Test that the mean drift is zero: Hotelling's T² on episode means if E ≥ 2 Z.

        Else the sign-flip test, exact if the law of an episode's mean is symmetric: the chance that
        |mean|² is as large if each episode's mean has a random sign.
        """
        rows = self.episode_drift
        episodes, size = rows.shape
        mean = rows.mean(0)
        if episodes >= 2 * size and np.linalg.matrix_rank(rows - mean) == size:
            from scipy.special import fdtrc  # here: `import sdewm` stays light

            inverse = np.linalg.inv(np.cov(rows, rowvar=False).reshape(size, size))
            square = float(episodes * mean @ inverse @ mean)
            scaled = square * (episodes - size) / (size * (episodes - 1))
            return ZeroDriftTest("Hotelling", square, float(fdtrc(size, episodes - size, scaled)))
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, episodes))
        flipped = ((signs @ rows / episodes) ** 2).sum(1)
        square = float((mean**2).sum())
        above = int((flipped >= square * (1 - 1e-12)).sum())
        return ZeroDriftTest("sign flips", square, (1 + above) / (1 + FLIPS))

    @cached_property
    def drift_squares(self) -> np.ndarray:
        """|b|² of each episode and step (E, T), unbiased: products of different draws.

        With one draw: products of different episodes, the square of the constant.
        """
        count = self.draws
        if count > 1:
            total = (self.shift.sum(1) ** 2).sum(-1)
            own = (self.shift**2).sum((1, 3))
            return (total - own) / (count * (count - 1))
        rows = self.episode_drift  # (E, Z)
        others = (rows.sum(0) - rows) / (len(rows) - 1)
        each = (rows * others).sum(-1)
        # An episode stands in its own product and in those of the others: twice the deviation.
        each = 2 * each - each.mean()
        return np.repeat(each[:, None], self.shift.shape[2], 1)

    def squared_drift(self) -> Estimate:
        """Mean of |b|² over episodes and steps, unbiased; may be negative where there is none."""
        return mean_estimate(self.drift_squares.mean(1))

    def drift_fraction(self) -> Estimate:
        """|b|²/(|b|² + tr S), S = Cov Δm + (mean s'² − s²): the share of the error that is drift.

        S may have a negative trace, if the model is more certain than the reference; the share then
        exceeds 1, and where the sum is not positive it is nan.
        """
        squares = self.drift_squares.mean(1)
        spread = (self.variance + self.variance_change).sum(-1).mean(1)
        return ratio(squares, squares + spread)

    def factor(self) -> np.ndarray:
        """Factor (E, T, Z, Z) of the covariance of the independent part, times its correlation.

        The covariance over draws of ζ at each step, across components; diagonal with one draw.
        """
        if self.draws == 1:
            return np.sqrt(self.correlation_time[0]) * _diagonal(np.sqrt(self.variance))
        z = self.fluctuation
        covariance = np.einsum("ekti,ektj->etij", z, z) / (self.draws - 1)
        values, vectors = np.linalg.eigh(covariance)
        roots = np.sqrt(np.clip(values, 0, None) * self.correlation_time[0])
        return vectors * roots[..., None, :]


def _diagonal(rows: np.ndarray) -> np.ndarray:
    return rows[..., None] * np.eye(rows.shape[-1])

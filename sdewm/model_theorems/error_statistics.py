"""Drift and diffusion of an encoder's error, estimated from draws of it (S28).

For episode e, draw k of a perturbation and step t, let Δm be the shift of the mean of z, s' its
standard deviation and s that of the reference, all at the same state. Component by component

    b_et = mean_k Δm_ekt                                drift, εσ for a step of the model
    ζ_ekt = Δm_ekt − b_et,  v_et = Σ_k ζ²/(K − 1)       fluctuation of the mean
    mean_k s'_ekt − s_et                                same-driver diffusion, signed
    √(v_et (1 + 2 Σ_j ρ_j))                             independent diffusion

where ρ_j is the autocorrelation of ζ at lag j. With a single draw, b is the mean over steps and
episodes and ζ the deviation from it; a state-dependent drift then counts as fluctuation. All error
bars treat episodes as the independent units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sdewm.base.stats import Estimate
from sdewm.model_theorems.episode_statistics import mean_estimate, ratio

FLIPS = 9999  # random sign vectors of the sign-flip test
SIGNIFICANT = 2.0  # an autocorrelation is significant above this many standard errors


@dataclass(frozen=True)
class ZeroDriftTest:
    """A test of the null hypothesis that the error has zero mean drift.

    Attributes:
        name: "sign flips".
        statistic: |mean|².
        p_value: probability, under the null hypothesis, of a statistic at least as large.
        least_p_value: the p-value, about, of the largest drift with as many episodes.
    """

    name: str
    statistic: float
    p_value: float
    least_p_value: float


def least_p_value(episodes: int) -> float:
    """The p-value of the sign-flip test, about, for the largest drift: 2^(1 − E).

    The 2^E sign vectors of E episodes come in pairs of equal |mean|², and the observed one is among
    them. It is never below 1/(FLIPS + 1).

    >>> least_p_value(3), least_p_value(100)
    (0.25, 0.0001)
    """
    return max(2.0 ** (1 - episodes), 1 / (1 + FLIPS))


@dataclass(frozen=True)
class ErrorStatistics:
    """Draws of an encoder's error, with E episodes, K draws, T steps and Z components.

    Attributes:
        shift: Δm (E, K, T, Z), shift of the posterior mean.
        std: s' (E, K, T, Z), standard deviation of the posterior.
        reference_std: s (E, T, Z), standard deviation of the reference.
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
                f"{shape[0]} episode(s): expected at least 2, because all error bars are over "
                "episodes."
            )
        for name in ("shift", "std", "reference_std"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} contains values that are not finite.")

    @property
    def draws(self) -> int:
        """Number of draws K."""
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
        """Unbiased variance v (E, T, Z) of ζ; with one draw, over steps and episodes."""
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
        """mean_k s'² − s² (E, T, Z): the mean change of the posterior variance."""
        return (self.std**2).mean(1) - self.reference_std**2

    def autocorrelation(self, lags: int) -> list[Estimate]:
        """ρ_1 … ρ_lags of ζ, pooled over components and draws."""
        steps = self.shift.shape[2]
        if not 0 < lags < steps:
            raise ValueError(f"lags={lags}: expected from 1 to {steps - 1}, for {steps} steps.")
        z = self.fluctuation
        below = (z**2).mean((1, 2, 3))  # (E,)
        return [
            ratio((z[:, :, j:] * z[:, :, : steps - j]).mean((1, 2, 3)), below)
            for j in range(1, lags + 1)
        ]

    @cached_property
    def correlation_time(self) -> tuple[float, bool]:
        """1 + 2 Σ_j ρ_j in steps, summed up to the first ρ_j that is not significant.

        The flag is true if every ρ_j is significant. The fluctuation then persists over the whole
        episode: it is a drift that is random over episodes.
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
        """Mean of Δm over draws and steps, (E, Z)."""
        return self.shift.mean((1, 2))

    def mean_drift(self) -> list[Estimate]:
        """Mean drift of each component over episodes, with its standard error."""
        rows = self.episode_drift
        errors = rows.std(0, ddof=1) / math.sqrt(len(rows))
        return [Estimate(float(m), float(s)) for m, s in zip(rows.mean(0), errors, strict=True)]

    def zero_drift_test(self, seed: int = 0) -> ZeroDriftTest:
        """Test that the mean drift is zero, by random signs of the episodes' means.

        The p-value is the probability that |mean|² is at least as large when the mean of each
        episode has a random sign. It is exact if the distribution of an episode's mean is
        symmetric. For skewed means it is closer to its level than Hotelling's T², by the F
        distribution or by random signs (see figures/data/table_coverage.csv), because the inverse
        covariance correlates with a skewed mean. With E episodes it is about 2^(1 − E) or more,
        `least_p_value`: at least six are needed for one below 0.05.
        """
        rows = self.episode_drift
        episodes, mean = len(rows), rows.mean(0)
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, episodes))
        flipped = ((signs @ rows / episodes) ** 2).sum(1)
        square = float((mean**2).sum())
        above = int((flipped >= square * (1 - 1e-12)).sum())
        p_value = (1 + above) / (1 + FLIPS)
        return ZeroDriftTest("sign flips", square, p_value, least_p_value(episodes))

    @cached_property
    def drift_squares(self) -> np.ndarray:
        """Unbiased |b|² of each episode and step (E, T), from products of different draws.

        With one draw, products of different episodes give the square of the constant drift.
        """
        count = self.draws
        if count > 1:
            total = (self.shift.sum(1) ** 2).sum(-1)
            own = (self.shift**2).sum((1, 3))
            return (total - own) / (count * (count - 1))
        rows = self.episode_drift  # (E, Z)
        others = (rows.sum(0) - rows) / (len(rows) - 1)
        each = (rows * others).sum(-1)
        # Each episode enters its own product and those of the others: twice the deviation.
        each = 2 * each - each.mean()
        return np.repeat(each[:, None], self.shift.shape[2], 1)

    def squared_drift(self) -> Estimate:
        """Unbiased mean of |b|² over episodes and steps; it may be negative for a small drift."""
        return mean_estimate(self.drift_squares.mean(1))

    def drift_fraction(self) -> Estimate:
        """Fraction of the error that is drift, |b|²/(|b|² + tr S), S = Cov Δm + (mean s'² − s²).

        If the model is more certain than the reference, tr S may be negative and the fraction
        exceeds 1. It is nan where the denominator is not positive.
        """
        squares = self.drift_squares.mean(1)
        spread = (self._own_variance + self.variance_change).sum(-1).mean(1)
        return ratio(squares, squares + spread)

    @property
    def _own_variance(self) -> np.ndarray:
        """The variance in each episode (E, T, Z), of the same mean; with one draw, over steps."""
        if self.draws > 1:
            return self.variance
        own = (self.fluctuation**2).mean((1, 2))  # (E, Z)
        rows = len(own) * self.shift.shape[2]
        return np.broadcast_to((own * rows / (rows - 1))[:, None], self.variance.shape)

    def factor(self) -> np.ndarray:
        """Factor (E, T, Z, M) of the covariance of the independent part.

        It is the covariance of ζ over draws at each step, across components, times the correlation
        time; diagonal with one draw. M is Z, or the number K of draws if that is less: the
        covariance, of rank K − 1 then, is Σ_k ζ_k ζ_kᵀ/(K − 1).
        """
        if self.draws == 1:
            return np.sqrt(self.correlation_time[0]) * _diagonal(np.sqrt(self.variance))
        z = self.fluctuation
        if self.draws < z.shape[-1]:
            return np.sqrt(self.correlation_time[0] / (self.draws - 1)) * np.moveaxis(z, 1, -1)
        covariance = np.einsum("ekti,ektj->etij", z, z) / (self.draws - 1)
        values, vectors = np.linalg.eigh(covariance)
        roots = np.sqrt(np.clip(values, 0, None) * self.correlation_time[0])
        return vectors * roots[..., None, :]


def _diagonal(rows: np.ndarray) -> np.ndarray:
    return rows[..., None] * np.eye(rows.shape[-1])

"""Monte Carlo estimates with standard errors from batch means."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sdewm.base.checks import check_count

BATCHES = 256  # number of batches of consecutive paths used for standard errors


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error (0 if the number is exact up to rounding).

    Attributes:
        value: the number.
        standard_error: its standard error.
        kurtosis: kurtosis of the batch means, or of the units, from which the standard error was
            computed; 3 for a normal law, nan if unknown. If it is large, so is the error of the
            standard error (rule 7).
        units: number of these batches or units; None if unknown.

    >>> str(Estimate(1.25, 0.01)), Estimate(1.25, 0.01).deviation_from(1.20)
    ('1.25 ± 0.01', 5.0)
    """

    value: float
    standard_error: float
    kurtosis: float = field(default=math.nan, compare=False, repr=False)
    units: int | None = field(default=None, compare=False, repr=False)

    def deviation_from(self, reference: float) -> float:
        """|value − reference| in standard errors (0 if equal, inf if exact and different)."""
        gap = abs(self.value - reference)
        if gap == 0.0:
            return 0.0
        return gap / self.standard_error if self.standard_error > 0 else math.inf

    def __str__(self) -> str:
        if self.standard_error == 0:
            return f"{self.value:.10g}"
        digits = max(6, significant_digits(self.value, self.standard_error))
        return f"{self.value:.{digits}g} ± {self.standard_error:.2g}"


def significant_digits(value: float, standard_error: float) -> int:
    """Digits of a value up to the second one of its standard error, above 0; 4 to 10.

    >>> significant_digits(1234.56789, 1e-4), significant_digits(0.01, 3.0)
    (9, 4)
    """
    if value == 0 or not math.isfinite(value) or not math.isfinite(standard_error):
        return 4
    places = math.floor(math.log10(abs(value))) - math.floor(math.log10(standard_error))
    return min(10, max(4, places + 2))


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over n units, the first axis, and its standard error s/√n, s² with divisor n − 1.

    The standard error is nan of a single unit, and where values are infinite.

    >>> mean_and_error(np.array([1.0, 3.0]))
    (np.float64(2.0), np.float64(1.0))
    """
    with np.errstate(invalid="ignore", over="ignore"):
        if len(values) == 1:
            return values[0], values[0] * np.nan
        return values.mean(0), values.std(0, ddof=1) / math.sqrt(len(values))


def half_width(standard_error: Any, units: int | None = None) -> Any:
    """Half of a 95 % interval: Student's t for a mean over `units` independent units.

    None is for means over so many paths that the normal quantile 1.96 serves.

    Raises:
        ValueError: fewer than two units.

    >>> round(half_width(1.0, 8), 4), half_width(1.0)
    (2.3646, 1.96)
    """
    if units is None:
        return 1.96 * standard_error
    units = check_count("units", units, minimum=2)
    from scipy.special import stdtrit  # not every import of sdewm should pay for it

    return float(stdtrit(units - 1, 0.975)) * standard_error


def kurtosis(values: np.ndarray) -> np.ndarray:
    """E(v − Ev)⁴ / Var² over the first axis; 3 for a normal law, nan where nothing varies.

    >>> float(kurtosis(np.array([-1.0, 1.0]))), float(kurtosis(np.array([0.0, 0.0, 0.0, 4.0])))
    (1.0, 2.3333333333333335)
    """
    squares = (values - values.mean(axis=0)) ** 2
    variance = squares.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        relative = squares / variance
        return np.asarray((relative**2).mean(axis=0))


class BatchSums:
    """Sums of Q path quantities over K batches of consecutive paths.

    Batch k holds the pairs of paths (2j, 2j + 1) with ⌊jK/J⌋ = k, where J is the number of pairs.
    The batches therefore do not depend on how the work is divided, and antithetic partners share a
    batch. With batch sums s_k and sizes n_k, n = Σ n_k, the mean is m = Σ s_k / n and its standard
    error √(K/(K−1) · Σ (s_k − n_k m)²) / n.

    Args:
        paths: total number of paths.
        quantities: Q.
        batches: K; at most the number of pairs is used.

    >>> sums = BatchSums(paths=4, quantities=1)
    >>> sums.add(0, torch.tensor([[1.0], [1.0], [2.0], [2.0]], dtype=torch.float64))
    >>> sums.estimate(torch.ones(1, dtype=torch.float64))
    Estimate(value=1.5, standard_error=0.5)
    """

    def __init__(self, paths: int, quantities: int, batches: int = BATCHES) -> None:
        pairs = (paths + 1) // 2
        self.paths = paths
        self.batches = min(batches, pairs)
        starts = -((-np.arange(self.batches + 1) * pairs) // self.batches) * 2
        self.edges = np.minimum(
            starts, paths
        )  # (K + 1,) batch k holds paths edges[k] … edges[k+1] − 1
        self.sums = np.zeros((self.batches, quantities))  # (K, Q)

    @property
    def quantities(self) -> int:
        """Number of quantities Q."""
        return self.sums.shape[1]

    def add(self, first: int, values: torch.Tensor) -> None:
        """Add the quantities (B, Q) of the paths first … first + B − 1, in this order."""
        self.add_parts(self.parts(first, values))

    def parts(self, first: int, values: torch.Tensor) -> list[tuple[int, np.ndarray]]:
        """What `add` adds: numbers of batches, each with a sum (Q,)."""
        rows = values.detach().to("cpu", torch.float64).numpy()
        last, found = first + len(rows), []
        batch = int(np.searchsorted(self.edges, first, side="right")) - 1
        while batch < self.batches and self.edges[batch] < last:
            low, high = max(first, self.edges[batch]), min(last, self.edges[batch + 1])
            found.append((batch, rows[low - first : high - first].sum(axis=0)))
            batch += 1
        return found

    def add_parts(self, parts: Iterable[tuple[int, np.ndarray]]) -> None:
        """Add parts that were computed elsewhere."""
        for batch, part in parts:
            self.sums[batch] += part

    def means(self) -> np.ndarray:
        """The means (Q,) over all paths."""
        return self.sums.sum(axis=0) / self.paths

    def batch_deviations(self) -> np.ndarray:
        """(s_k − n_k m)/n, shape (K, Q): contribution of each batch to the error of the mean."""
        sizes = np.diff(self.edges)[:, None]
        return (self.sums - sizes * self.means()) / self.paths

    def replicates(self) -> np.ndarray:
        """Replicates m + K (s_k − n_k m)/n of the means, shape (K, Q), for the bootstrap.

        Their average is `means()`.
        """
        return self.means() + self.batches * self.batch_deviations()

    def estimate(self, weights: torch.Tensor | np.ndarray, exact: bool = False) -> Estimate:
        """The mean of the linear combination Σ_q weights_q · quantity_q with its standard error.

        If `exact`, the paths enumerate all outcomes and the standard error is 0. Otherwise, with a
        single batch, the standard error is unknown (nan).
        """
        weights = np.asarray(weights, dtype=float)
        value = float(self.means() @ weights)
        if exact:
            return Estimate(value, 0.0)
        if self.batches < 2:
            return Estimate(value, math.nan)
        spread = self.batch_deviations() @ weights
        error = math.sqrt(self.batches / (self.batches - 1) * float(spread @ spread))
        return Estimate(value, error, float(kurtosis(spread)), self.batches)

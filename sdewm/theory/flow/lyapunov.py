"""Lyapunov exponents: long-time growth rates of small differences along a trajectory (S26)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from sdewm.base.checks import check_count, check_finite_number, check_output, check_place
from sdewm.base.derivative_checks import check_derivatives
from sdewm.base.progress import counted
from sdewm.base.stats import Estimate
from sdewm.base.taylor import second_order
from sdewm.jacobian.products import joined_step
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.system import StepSystem, System, check_drivers, step_of
from sdewm.theory.curve import Curve

SIGN = 3.0  # standard errors from 0 that decide a sign
Step = Callable[[torch.Tensor, int], torch.Tensor]  # states (B, D) and n to states (B, D)
Map = Callable[[torch.Tensor], torch.Tensor]  # the same at one n


@dataclass(frozen=True, eq=False)
class LyapunovSpectrum:
    """Result of `lyapunov_exponents`: k finite-time exponents of B trajectories over T steps.

    All quantities are derived from the growth in each step. Estimates are means over the
    trajectories, which are the independent units. Their standard error is
    √(Σ_b (ℓ_b − ℓ̄)²/(B(B − 1))), and nan for a single trajectory or if the mean is −∞.

    Attributes:
        growth: ln|(R_n)_jj| of the counted steps, `(T, B, k)`; −∞ if a direction is mapped to 0.
        dt: Δ, the time of a step; exponents are rates per unit of time.
        size: D, the dimension of the state.
    """

    growth: np.ndarray
    dt: float
    size: int

    @property
    def times(self) -> np.ndarray:
        """The counted time at the end of each step, Δ … TΔ, `(T,)`."""
        return self.dt * np.arange(1, len(self.growth) + 1)

    @property
    def running(self) -> np.ndarray:
        """Finite-time exponents after each step, `(T, B, k)`: running averages of the growth."""
        return self.growth.cumsum(axis=0) / self.times[:, None, None]

    @property
    def exponents(self) -> np.ndarray:
        """ℓ_j = 1/(TΔ) Σ_n ln|(R_n)_jj| of each trajectory, `(B, k)`, in the order of the QR."""
        return self.growth.sum(axis=0) / self.times[-1]

    @property
    def curves(self) -> list[Curve]:
        """The mean of the running averages over time, one Curve for each exponent."""
        return [_mean_curve(self.times, rows) for rows in np.moveaxis(self.running, 2, 0)]

    @property
    def estimates(self) -> list[Estimate]:
        """The mean of each exponent over the trajectories."""
        return [curve.last for curve in self.curves]

    @property
    def total(self) -> Estimate:
        """The mean of the sum ℓ_1 + … + ℓ_k, the growth rate of k-dimensional volumes."""
        return _mean_curve(self.times[-1:], self.exponents.sum(axis=1)[None]).last

    @property
    def kaplan_yorke(self) -> Estimate:
        """Kaplan–Yorke dimension j + (ℓ_1 + … + ℓ_j)/|ℓ_{j+1}| of the mean exponents, sorted.

        j is the largest number with ℓ_1 + … + ℓ_j ≥ 0. The dimension is 0 if ℓ_1 < 0, and D if all
        D exponents have a sum ≥ 0. If fewer than D exponents were computed and their sum is ≥ 0,
        the dimension is unknown (nan); request more exponents. The standard error is that of the
        linearisation in the exponents. It is nan where the sign of ℓ_1, with which the dimension
        jumps between 0 and 1, or of the sum of all, is within 3 standard errors of 0, or unknown.
        """
        means = np.array([estimate.value for estimate in self.estimates])
        order = np.argsort(-means, kind="stable")
        rows, means = self.exponents[:, order], means[order]
        negative = np.flatnonzero(means.cumsum() < 0)
        if len(negative) == 0:
            whole = len(means) == self.size
            error = 0.0 if _has_sign(self.total) else math.nan
            return Estimate(float(self.size), error) if whole else Estimate(math.nan, math.nan)
        j, first = int(negative[0]), _has_sign(self.estimates[order[0]])
        if j == 0:
            return Estimate(0.0, 0.0 if first else math.nan)
        volume, rate = means[:j].sum(), means[j]  # ≥ 0 and < 0
        if math.isinf(rate):
            return Estimate(float(j), math.nan)
        slopes = rows[:, j] * volume / rate**2 - rows[:, :j].sum(axis=1) / rate  # (B,)
        error = _mean_curve(self.times[-1:], slopes[None]).last.standard_error
        return Estimate(float(j - volume / rate), error if first else math.nan)


def lyapunov_exponents(
    step: Step | System | StepSystem,
    x0: torch.Tensor,
    *,
    steps: int,
    exponents: int,
    dt: float = 1.0,
    discard: int = 0,
    seed: int = 0,
) -> LyapunovSpectrum:
    """The leading k Lyapunov exponents of x_{n+1} = F_n(x_n), for B trajectories at once.

    With the Jacobians J_n = DF_n(x_n) and Φ_N = J_{N−1} ⋯ J_0,

        λ_j = lim 1/(NΔ) ln σ_j(Φ_N),    σ_1 ≥ σ_2 ≥ … the singular values.

    Estimator (Benettin et al.): k orthonormal tangents Q_0 are drawn uniformly for each trajectory.
    In every step they are propagated by J_n, which is not formed, and orthonormalised again,

        J_n Q_n = Q_{n+1} R_n,    ℓ_j = 1/(TΔ) Σ_n ln|(R_n)_jj|  over the T counted steps.

    Since Φ_N Q_0 = Q_N R_{N−1} ⋯ R_0, ℓ_1 + … + ℓ_i is the growth rate of the volume spanned by the
    first i tangents, which tends to λ_1 + … + λ_i. With all D exponents and no step discarded the
    sum is ln|det Φ_N|/(NΔ) for every N. With fewer exponents, random tangents first have to align
    with the fastest directions: the sum is below Σ_{j≤i} ln σ_j(Φ_N)/(NΔ), on average by at most
    c/(NΔ) with c from S26 (3.28 for i = 1 and D = 200). Use `discard` to omit this transient.

    The noise of a step is part of F_n: state and tangents are propagated by one evaluation and
    share the noise (common random numbers). A growth factor below Dε times the largest tangent of
    its step, ε = 2.2e-16, is indistinguishable from 0 in float64. It counts as 0, with exponent
    −∞. This is the result if k exceeds the rank of the steps, as for the native step of a recurrent
    model (S21).

    Args:
        step: a function step(x, n) that maps the states (B, D) at step number n = 0, 1, … to the
            next states (B, D), row by row. It must be differentiable by torch.func.jvp under vmap
            and return equal values for equal arguments: random numbers are drawn beforehand and
            indexed by n. Or an Itô system, whose Euler–Maruyama step of length dt from time n·dt is
            used, with row i on path i of `GaussianNoise(seed=seed)`.
        x0: initial state of each trajectory, `(B, D)` in float64.
        steps: total number of steps.
        exponents: k, at most D.
        dt: Δ, the time of one step; exponents are rates per unit of time.
        discard: number of initial steps whose growth is not counted, T = steps − discard.
        seed: seed of the initial tangents, and of the noise of a system.

    Returns:
        A LyapunovSpectrum: `.exponents`, `.estimates`, `.total`, `.kaplan_yorke`, `.curves`.

    Raises:
        ValueError: an argument is invalid; the message gives its name, value and allowed values.
            Also if `step` draws random numbers, mixes its rows, or has a wrong automatic derivative
            (a straight-through sample).
        FloatingPointError: a state or a tangent is not finite.

    Source: G. Benettin, L. Galgani, A. Giorgilli, J.-M. Strelcyn, Meccanica 15 (1980) 9–30; for
    random maps L. Arnold, Random Dynamical Systems (1998), chapters 3 and 4.

    >>> def henon(x, n):
    ...     return torch.stack((1 - 1.4 * x[:, 0] ** 2 + x[:, 1], 0.3 * x[:, 0]), dim=1)
    >>> x0 = 0.1 * torch.rand(20, 2, dtype=torch.float64, generator=torch.manual_seed(0))
    >>> spectrum = lyapunov_exponents(henon, x0, steps=200, exponents=2, discard=50)
    >>> spectrum.estimates[0].deviation_from(0.4192) < 4, round(spectrum.total.value, 9)
    (True, -1.203972804)
    >>> round(spectrum.kaplan_yorke.value, 1)
    1.3
    """
    steps = check_count("steps", steps)
    discard = check_count("discard", discard, minimum=0, maximum=steps - 1)
    x, count = _check_starts(x0), check_count("exponents", exponents)
    batch, size = x.shape
    if count > size:
        raise ValueError(f"exponents={exponents!r}: expected at most D = {size}, the state's size.")
    if not (dt := check_finite_number("dt", dt)) > 0:
        raise ValueError(f"dt={dt!r}: expected a positive number.")
    generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
    first = torch.randn(batch, size, count, dtype=x.dtype, generator=generator)
    tangents, growth = torch.linalg.qr(first.to(x.device)).Q, []  # (B, D, k)
    checked = {round(k * (steps - 1) / 4) for k in range(5)}
    maps = counted("Lyapunov exponents", _maps(step, x, steps, dt, seed), steps)
    for n, move in enumerate(maps):
        if n in checked:
            _check_map(move, x)
        with torch.no_grad():
            x, images = _push(move, x, tangents)
            _check_finite(n, x, images)
            tangents, factors = torch.linalg.qr(images)
        if n >= discard:
            growth.append(_log_growth(images, factors).cpu())
    return LyapunovSpectrum(torch.stack(growth).numpy(), dt, size)


def _maps(
    step: Step | System | StepSystem, x0: torch.Tensor, steps: int, dt: float, seed: int
) -> Iterator[Map]:
    """F_0 … F_{N−1}, each with its noise fixed."""
    if not isinstance(step, (System, StepSystem)):
        if not callable(step):
            raise ValueError(
                f"step={type(step).__name__}: expected a function step(x, n) or a system."
            )
        for n in range(steps):
            yield partial(_called, step, n)
        return
    drivers = check_drivers(step, x0.new_zeros(()), x0[:2])
    noise = GaussianNoise(drivers=drivers, steps=steps, t1=steps * dt, seed=seed)
    times = noise.grid(x0.dtype, x0.device)[:-1]
    for t, increment in zip(times, noise.stream(0, len(x0), device=x0.device), strict=True):
        yield partial(_euler, step, t, increment, noise.step_size)


def _called(step: Step, n: int, x: torch.Tensor) -> torch.Tensor:
    return step(x, n)


def _euler(
    system: System | StepSystem,
    t: torch.Tensor,
    increment: torch.Tensor,
    dt: float,
    x: torch.Tensor,
) -> torch.Tensor:
    drift, noise = step_of(system)(t, x, increment)
    return x + dt * drift + noise


def _push(move: Map, x: torch.Tensor, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """F(x) `(B, D)` and J Q `(B, D, k)` from one evaluation: state and tangents share its noise."""

    def along(tangent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (value,), ((image,),), _ = second_order(lambda x: (move(x),), (x,), [(tangent,)], {})
        return value, image

    # The value is the same for all tangents; so is the image of a constant step, which torch
    # repeats along the first axis only.
    dims = (None, 0)
    value, images = torch.func.vmap(along, in_dims=2, out_dims=dims)(tangents)  # type: ignore[arg-type]
    return value.detach(), images.movedim(0, 2).detach()


def _log_growth(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """ln|R_jj| `(B, k)`, −∞ where it is rounding of zero."""
    diagonal = factors.diagonal(dim1=1, dim2=2).abs()
    largest = images.norm(dim=1).amax(dim=1, keepdim=True)  # (B, 1)
    floor = images.shape[1] * torch.finfo(images.dtype).eps * largest
    return torch.where(diagonal > floor, diagonal, 0.0).log()


def _has_sign(mean: Estimate) -> bool:
    """Whether a mean is far enough from 0 for its sign, or has no sampling error."""
    return math.isinf(mean.value) or abs(mean.value) >= SIGN * mean.standard_error


def _mean_curve(times: np.ndarray, values: np.ndarray) -> Curve:
    """Means and standard errors over the trajectories of values `(T, B)`."""
    means, count = values.mean(axis=1), values.shape[1]
    if count < 2:
        return Curve(times, means, np.full_like(means, math.nan))
    finite = np.isfinite(means)
    deviations = values - np.where(finite, means, 0.0)[:, None]
    squares = np.where(finite, (deviations**2).sum(axis=1), math.nan)
    return Curve(times, means, np.sqrt(squares / (count - 1) / count))


def _check_starts(x0: object) -> torch.Tensor:
    allowed = "expected a finite tensor (B, D) of torch.float64 (a module: module.double())"
    if not isinstance(x0, torch.Tensor):
        raise ValueError(f"x0={type(x0).__name__}: {allowed}.")
    if x0.dim() != 2 or x0.numel() == 0 or x0.dtype != torch.float64:
        raise ValueError(f"x0 has shape {tuple(x0.shape)} and {x0.dtype}: {allowed}.")
    check_place("x0", x0)
    if not bool(torch.isfinite(x0).all()):
        raise ValueError(f"x0 contains values that are not finite: {allowed}.")
    return x0.detach().contiguous()  # rows of an expanded tensor are one place in memory


def _check_map(move: Map, x0: torch.Tensor) -> None:
    """A step is a function, of each row alone, and automatic derivatives are its own."""
    with torch.no_grad():
        given = x0.clone()
        first, again = move(given), move(x0.clone())
        if given._version or not torch.equal(given, x0):
            raise ValueError(
                "step changes its state in place: compute a new tensor (`0.5 * x`, not `x *= 0.5`)."
            )
        check_output("step", first, tuple(x0.shape), like=x0)
        if not torch.allclose(first, again, rtol=1e-9, atol=1e-12, equal_nan=True):
            raise ValueError(
                "step returns different values for the same state: it draws random numbers. Draw "
                "them beforehand and index them by n."
            )
        tangents = x0.new_zeros(*x0.shape, 2)  # of the even rows, and of the odd ones
        tangents[::2, :, 0] = tangents[1::2, :, 1] = 1.0
        _, images = _push(move, x0, tangents)
        leak = max(float(part.abs().sum()) for part in (images[1::2, :, 0], images[::2, :, 1]))
        if leak > 0:
            raise ValueError(
                f"step mixes the rows of its batch: derivatives between even and odd rows sum to "
                f"{leak:.3g}; expected each trajectory to be independent of the others."
            )
    function = joined_step(move, len(x0))  # layer norms written out: their second derivatives
    check_derivatives("step", lambda x: (function(x),), (x0,))


def _check_finite(n: int, x: torch.Tensor, images: torch.Tensor) -> None:
    for name, rows in (("state", x), ("tangents", images.flatten(1))):
        bad = ~torch.isfinite(rows).all(dim=1)
        if bool(bad.any()):
            raise FloatingPointError(
                f"step: the {name} of trajectory {int(bad.nonzero()[0])} leave the finite numbers "
                f"at step {n}."
            )

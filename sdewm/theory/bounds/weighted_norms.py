"""Growth rates in the Euclidean norm and in weighted norms |Sx| (S9–S12)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch

from sdewm.sde.linear_moments import mean_square_growth_rate, weight_matrix
from sdewm.sde.monte_carlo import spread_rows
from sdewm.sde.noise import GridNoise
from sdewm.sde.rates import Rates
from sdewm.sde.solve import solve_path
from sdewm.sde.system import System
from sdewm.theory.bounds.coefficients import Coefficients
from sdewm.theory.bounds.jacobian_rates import exact_rates, jacobian_rates
from sdewm.theory.bounds.lanczos import LARGE, iterated_rates

# Powers of the weight matrix whose rate is nearly ρ: between it and the Euclidean norm, the power
# 0. They give lower bounds than the matrices ∫ e^{−2rt} e^{t𝓛*} I dt of rates r between ρ and λ.
_POWERS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
_NEARLY = 0.02  # of the way from ρ to λ
_FEW_POWERS, _ONE_POWER = (0.3, 0.6, 1.0), (0.5,)  # for sampled rates, and for many components
_SMALL = 16
_MOST_PATHS, _FEWEST_PATHS = 128, 16


@dataclass(frozen=True)
class WeightedNorm:
    """The norm |Sx| with S symmetric and positive definite; M = S².

    Attributes:
        root: S `(D, D)`.
        inverse: S⁻¹.
        start: ‖S‖_F² ‖S⁻¹‖² = tr M / λ_min(M). E‖Φ‖_F² is at most this factor times a bound of
            E|Φv|_M² for |v|_M = 1, since Σ_j |e_j|_M² = tr M. It equals D in the Euclidean norm.
    """

    root: torch.Tensor
    inverse: torch.Tensor
    start: float

    @classmethod
    def euclidean(cls, like: torch.Tensor) -> WeightedNorm:
        """The Euclidean norm, S = I, for the size D of the matrix `like` `(D, D)`."""
        identity = torch.eye(len(like), dtype=like.dtype, device=like.device)
        return cls(identity, identity, float(len(like)))

    @classmethod
    def of(cls, matrix: torch.Tensor, power: float = 1.0) -> WeightedNorm:
        """The norm with S = M^(power/2) for a positive definite matrix M."""
        values, vectors = torch.linalg.eigh(matrix)
        values = values**power
        root = vectors @ torch.diag(values.sqrt()) @ vectors.T
        inverse = vectors @ torch.diag(values.rsqrt()) @ vectors.T
        margin = 1.0 + 64 * len(matrix) * torch.finfo(matrix.dtype).eps * float(
            values[-1] / values[0]
        )
        return cls(root, inverse, margin * float(values.sum() / values[0]))

    def transformed(self, jacobian: torch.Tensor) -> torch.Tensor:
        """S A S⁻¹ of matrices `(…, D, D)`."""
        return self.root @ jacobian @ self.inverse

    @property
    def back(self) -> float:
        """‖S⁻¹‖: |x| is at most this times |Sx|."""
        margin = 1.0 + 64 * len(self.root) * torch.finfo(self.root.dtype).eps * self.condition
        return margin * float(torch.linalg.eigvalsh(self.inverse)[-1])

    @property
    def condition(self) -> float:
        """‖S‖_F ‖S⁻¹‖_F, for rounding errors."""
        return float(self.root.norm() * self.inverse.norm())


def weighted_norms_for(
    drift: torch.Tensor, noise: torch.Tensor, powers: Sequence[float]
) -> list[WeightedNorm]:
    """Norms adapted to A `(D, D)` and A_k `(M, D, D)`, followed by the Euclidean norm.

    The last norm before the Euclidean one has nearly the rate ρ, the least of all weighted norms. A
    lower power has a higher rate and a smaller `start`. Which bound is lowest depends on the time.
    """
    euclidean = WeightedNorm.euclidean(drift)
    symmetric = 0.5 * (drift + drift.T + (noise.mT @ noise).sum(0))
    highest = float(torch.linalg.eigvalsh(symmetric)[-1])
    lowest = mean_square_growth_rate(drift, noise)
    if highest - lowest <= 1e-9 * (1.0 + abs(highest)):
        return [euclidean]
    matrix = weight_matrix(drift, noise, lowest + _NEARLY * (highest - lowest))
    return [*(WeightedNorm.of(matrix, power) for power in powers), euclidean]


@dataclass(frozen=True)
class _Affine:
    drift: torch.Tensor
    noise: torch.Tensor

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.drift, self.noise


def constant_rates(
    drift: torch.Tensor, noise: torch.Tensor, step_size: float, steps: int
) -> list[tuple[WeightedNorm, Rates]]:
    """Proven rates of constant Jacobians in each weighted norm, the Euclidean norm last."""
    found = []
    for one in weighted_norms_for(drift, noise, _POWERS):
        affine = _Affine(one.transformed(drift), one.transformed(noise))
        rates = exact_rates(affine, step_size, [slice(0, len(drift))])
        found.append((one, _outward(rates, one, drift).repeated(steps)))
    return found


def _outward(rates: Rates, one: WeightedNorm, drift: torch.Tensor) -> Rates:
    """The rates with the rounding error of S A S⁻¹ added, in the Euclidean norm none."""
    if torch.equal(one.root, one.inverse):
        return rates
    size = torch.finfo(drift.dtype).eps * 64 * len(drift) * one.condition * (1 + drift.norm())
    moved = {
        f.name: getattr(rates, f.name) + (-size if f.name == "least_log_norm" else size)
        for f in fields(rates)
        if f.name not in ("curvature", "noise_curvature", "noise", "radial") or not rates.additive
    }
    return replace(rates, **moved)


@torch.no_grad()
def reference_rates(
    system: System, states: torch.Tensor, noise: GridNoise
) -> tuple[list[tuple[WeightedNorm, Rates]], float]:
    """Maximal rates over sampled reference paths at each step, in each weighted norm, and ρ.

    The norms and ρ are computed for the average of the Jacobians over paths and times. Above LARGE
    components the rates are computed by iteration in the Euclidean norm only, and ρ is nan.

    Args:
        system: D components.
        states: initial states `(P, D)`, of which some are used, spread over all (`spread_rows`).
        noise: the grid and the increments.
    """
    size, grid = states.shape[1], noise.grid(states.dtype, states.device)
    few = max(_FEWEST_PATHS, min(_MOST_PATHS, 2**16 // size**2))
    start = states[spread_rows(len(states), few).to(states.device)]
    path = solve_path(system, start, noise, times=noise.grid(torch.float64).tolist())
    coefficients, step_size = Coefficients(system, grid[0], path[:, 0]), noise.step_size
    whole = [slice(0, size)]
    if size > LARGE:
        steps = []
        for n in range(noise.steps):
            along = coefficients.drift, coefficients.diffusion
            rates = iterated_rates(*along, grid[n], path[:, n], step_size, whole)
            zero = torch.zeros_like(rates["drift"])
            steps.append(largest_rates(rates | {"curvature": zero, "noise_curvature": zero}))
        euclidean = WeightedNorm.euclidean(states.new_empty(size, size))
        return [(euclidean, stacked_rates(steps))], math.nan
    jacobians = [coefficients.jacobians(grid[n], path[:, n]) for n in range(noise.steps)]
    drift, average = average_jacobians(jacobians)
    found = []
    for one in weighted_norms_for(drift, average, sampled_powers(size)):
        steps = []
        for a, a_k in jacobians:
            if one.start != size:
                a = one.transformed(a)
                a_k = None if a_k is None else one.transformed(full_noise(a_k))
            steps.append(largest_rates(jacobian_rates(a, a_k, step_size, whole)))
        found.append((one, stacked_rates(steps)))
    return found, mean_square_growth_rate(drift, average)


def average_jacobians(
    jacobians: Iterable[tuple[torch.Tensor, torch.Tensor | None]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Averages over states and times of A `(S, D, D)` and A_k, given for one time after another."""
    drifts, noises = [], []
    for drift, noise in jacobians:
        drifts.append(drift.mean(0))
        noises.append(torch.zeros_like(drift[:1]) if noise is None else full_noise(noise).mean(0))
    most = max(len(noise) for noise in noises)
    whole = [noise.expand(most, -1, -1) if len(noise) == 1 else noise for noise in noises]
    return torch.stack(drifts).mean(0), torch.stack(whole).mean(0)


def sampled_powers(size: int) -> tuple[float, ...]:
    """Powers of the weight matrix in which sampled rates of `size` components are computed."""
    return _FEW_POWERS if size <= _SMALL else _ONE_POWER


def full_noise(noise: torch.Tensor) -> torch.Tensor:
    """A_k `(S, M, D, D)`; diagonal noise, given by rows ∇g_k `(S, D, D)`, is expanded."""
    if noise.dim() == 4:
        return noise
    size = noise.shape[1]
    matrices = noise.new_zeros(len(noise), size, size, size)
    index = torch.arange(size, device=noise.device)
    matrices[:, index, index] = noise
    return matrices


def largest_rates(rates: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The maximum of each rate over states (for least_log_norm the minimum)."""
    largest = {}
    for name, value in rates.items():
        if name == "log_norm":
            largest[name] = value.amax(dim=1)
        else:
            largest[name] = value.amin(dim=0) if name == "least_log_norm" else value.amax(dim=0)
    return largest


def stacked_rates(steps: list[dict[str, torch.Tensor]]) -> Rates:
    """The rates of all steps, stacked from those of the single steps."""
    return Rates(
        **{
            name: torch.stack([rates[name] for rates in steps], dim=1 if name == "log_norm" else 0)
            for name in steps[0]
        }
    )

"""Divergence of imagination from a perturbed initial latent: measured, and bounded (S14–S18)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_count, check_finite_number
from sdewm.base.progress import counted
from sdewm.base.stats import Estimate
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.gate_constants import why_no_certificate
from sdewm.latent_sde.inputs import LatentPolicy, episode_inputs
from sdewm.latent_sde.model_contract import require_model
from sdewm.latent_sde.models import LatentModel, as_latent_model
from sdewm.latent_sde.noise_factor import FactoredModel
from sdewm.latent_sde.system import LatentSystem
from sdewm.model.world_model import WorldModel
from sdewm.model_theorems.episode_statistics import (
    mean_curve,
    mean_estimate,
    pooled_quantile,
    ratio_curve,
)
from sdewm.model_theorems.imagination import imagination, perturbed_initial_states
from sdewm.model_theorems.representation_error import Perturb, check_episodes
from sdewm.sde.monte_carlo import tile_size
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from sdewm.theory.bounds.bound import LINEAR_WITHIN, GradeBound, linear_range
from sdewm.theory.bounds.formulas import four_norms
from sdewm.theory.bounds.rollout_bounds import RolloutBounds, rollout_bounds
from sdewm.theory.bounds.tube import sample_tube
from sdewm.theory.curve import NORMS, Curve, NormCurves
from sdewm.theory.flow.initial_error import CoupledSystem
from sdewm.theory.flow.rollout_divergence import QUANTILES, path_tile

SCALES = (0.01, 0.03, 0.1, 0.3, 1.0)
_FACTORS_AT_ONCE = 1 << 22  # numbers of noise factors, where these are formed, several times


@dataclass(frozen=True, eq=False)
class ModelDivergence(NormCurves):
    """Result of `diverge_on_model`; episodes are the units of all standard errors.

    D is the difference of two rollouts, e the initial error, y the first and w the second variation
    along e.

    Attributes:
        curves: the four norms of D, measured: "mean" E|D_k|, "mean_square", "sup", "sup_square".
        enclosed: the same norms of D on one path of each episode, that of grade "enclosure".
        prediction: the same norms of y, on the paths of `curves`.
        remainders: "first" E|D − y|, "second" E|D − y − ½w|, and "bend" ½ E|w|.
        quantiles: level -> quantile of |D_k| over episodes, copies and paths.
        bounds: grade -> bound, averaged over the bounds of the episodes. Its constants are the
            largest over episodes; that of an abstention is the first.
        left_out: a grade that does not apply, or "certificate" -> the reason.
        error_size: E|e|.
        ratios: scale s -> s E|y_k| / E|D_k| for errors s e, with D measured on the same noise.
        stated_range: mean error size up to which, by S18, E|y| is within 5 % of E|D|.
        label: "exact", or the surrogate that replaces the model's noise.
    """

    enclosed: Mapping[str, Curve]
    prediction: Mapping[str, Curve]
    remainders: Mapping[str, Curve]
    quantiles: Mapping[float, Curve]
    bounds: Mapping[str, GradeBound]
    left_out: Mapping[str, str]
    error_size: Estimate
    ratios: Mapping[float, Curve]
    stated_range: float
    label: str

    @property
    def measured_range(self) -> float:
        """Largest mean size s E|e| up to which E|y| is within 5 % of E|D| at all times.

        The criterion must hold at every measured scale up to s; the range is 0 if it never holds.
        """
        reach = 0.0
        for scale, ratio in sorted(self.ratios.items()):
            if np.abs(ratio.values - 1.0).max() > LINEAR_WITHIN:
                break
            reach = scale
        return reach * self.error_size.value


def diverge_on_model(
    world_model: WorldModel | LatentModel,
    episodes: Episodes,
    perturbation: Perturb,
    *,
    start: int,
    horizon: int,
    copies: int = 8,
    paths: int = 4,
    mode: str = "accumulated",
    policy: LatentPolicy | None = None,
    scales: Sequence[float] = SCALES,
    grades: Sequence[str] | str | None = "all",
    seed: int = 0,
) -> ModelDivergence:
    """Compare imagination from the clean and a perturbed posterior state, on the same noise.

    D_k = X_k(x0 + e) − X_k(x0), k = 0 … horizon, at the model's native step. The error e is the
    change of the state when the encoder sees perturbed observations (`perturbed_initial_states`).
    It is fixed before the noise of the rollout. Every episode is a separate system, with its own
    actions, Jacobians and bounds. Results are means over episodes with the standard error s/√E. The
    rates of an episode are the largest over some of its copies·paths paths (`rollout_bounds`), so
    the bounds are estimates.

    Args:
        world_model: a `WorldModel` or any `LatentModel`.
        episodes: recorded, at least two, with start + 1 + horizon rows (with a policy: start + 1).
        perturbation: see `measure_representation_error`.
        start: row of the initial state.
        horizon: number of steps.
        copies: number K of perturbed copies of each episode.
        paths: sample paths of each copy.
        mode: "accumulated": observations are perturbed from the first row on; "single_frame": only
            the observation at row `start` is perturbed, so that the error is in z alone.
        policy: states (B, D) -> actions (B, A), in closed loop, instead of the recorded actions.
        scales: scales s of the errors s·e at which the prediction is compared; always includes 1.
        grades: grades of `rollout_bounds`; None: its default; (): no bounds, which saves most of
            the time. Grade "enclosure" takes one path of the first copy of each episode.
        seed: root seed; for independent repetitions see `measure_representation_error`.

    Returns:
        A `ModelDivergence`: `found["mean"]`, `found.bounds["log_norm"]["mean"]`, …

    Raises:
        ValueError: an argument is not allowed; the message states what is.
        FloatingPointError: trajectories become infinite or nan.

    >>> from sdewm.latent_sde.models import StepModel
    >>> model = StepModel(lambda x, a, v: 0.9 * x + a + 0.1 * v, state_size=2, noise_size=2,
    ...                   encoder=lambda x, o: (x + o, torch.full_like(x, 0.1)))
    >>> episodes = Episodes(torch.zeros(2, 6, 2), torch.ones(2, 6, 2), torch.zeros(2, 6))
    >>> found = diverge_on_model(model, episodes, lambda o, generator: o + 0.5, start=2, horizon=3,
    ...                          mode="single_frame")
    >>> found["mean"].values / found.error_size.value  # 0.9^k
    array([1.   , 0.9  , 0.81 , 0.729])
    """
    for name, number in (("horizon", horizon), ("copies", copies), ("paths", paths)):
        check_count(name, number)
    check_count("copies·paths", copies * paths, minimum=2)
    sizes = sorted({1.0, *(_check_scale(scale) for scale in scales)})
    model = as_latent_model(world_model)
    check_episodes(episodes)
    require_model(model, episode_inputs(episodes, policy), prior=True, derivatives=True)
    steps = {"start": start, "horizon": horizon, "policy": policy}
    label = imagination(model, episodes, **steps).label
    starts = perturbed_initial_states(
        model, episodes, perturbation, start=start, copies=copies, mode=mode, seed=seed
    )
    count = len(starts.states)
    each: list[_Rollouts] = []
    bounds: list[RolloutBounds] = []
    seeds = np.random.SeedSequence(seed).generate_state(count)
    for e, own in counted("divergence", enumerate(seeds), count):
        system = imagination(model, episodes, episode=e, **steps)
        one = _Problem(
            system, starts.states[e], starts.errors[e], horizon, copies * paths, int(own)
        )
        each.append(one.rollouts(sizes))
        if grades is None or len(grades):
            bounds.append(one.bounds(grades))
    times = np.arange(horizon + 1.0)
    first, difference, bend, rest, second = (
        np.stack([getattr(one, name) for one in each])  # (E, P, N + 1)
        for name in ("first", "difference", "bend", "rest", "second")
    )
    moved = {s: np.stack([one.moved[s] for one in each]).mean(1) for s in sizes}
    remainders = {"first": rest, "second": second, "bend": bend}
    lengths = starts.errors.norm(dim=2).mean(1).numpy()  # (E,)
    kept, left_out = _joined(times, bounds)
    means = torch.from_numpy(first.mean((0, 1))), torch.from_numpy(bend.mean((0, 1)))
    return ModelDivergence(
        curves=_four_curves(times, difference),
        enclosed=_four_curves(times, difference[:, :1]),
        prediction=_four_curves(times, first),
        remainders={name: mean_curve(times, part.mean(1)) for name, part in remainders.items()},
        quantiles={q: pooled_quantile(times, difference, q) for q in QUANTILES},
        bounds=kept,
        left_out=left_out | why_no_certificate(model),
        error_size=mean_estimate(lengths),
        ratios={s: ratio_curve(times, s * first.mean(1), part) for s, part in moved.items()},
        stated_range=linear_range(*means, float(lengths.mean())),
        label=label,
    )


@dataclass(frozen=True)
class _Rollouts:
    """Norms along the paths of one episode, each (P, N + 1).

    |y|, |D|, ½|w|, |D − y|, |D − y − ½w|, and |D| for errors s·e by s.
    """

    first: np.ndarray
    difference: np.ndarray
    bend: np.ndarray
    rest: np.ndarray
    second: np.ndarray
    moved: dict[float, np.ndarray]

    @classmethod
    def empty(cls, paths: int, points: int, scales: Sequence[float]) -> _Rollouts:
        """Norms to be written; nan until they are."""
        five = (np.full((paths, points), np.nan) for _ in range(5))
        return cls(*five, moved={s: np.full((paths, points), np.nan) for s in {1.0, *scales}})


@dataclass(frozen=True)
class _Problem:
    """One episode: path i has row i mod K of the errors, in the measurement and in the bounds."""

    system: LatentSystem
    state: Tensor
    errors: Tensor
    horizon: int
    paths: int
    seed: int

    def rollouts(self, scales: Sequence[float]) -> _Rollouts:
        size, drivers = self.system.state_size, self.system.drivers
        tile = min(
            path_tile(8 * size, self.horizon, self.state.device),
            tile_size(self.state.device, size),
        )
        if not isinstance(self.system.model, FactoredModel):
            tile = min(tile, max(1, _FACTORS_AT_ONCE // (size * drivers)))
        noise = GaussianNoise(
            drivers=drivers, steps=self.horizon, t0=0.0, t1=float(self.horizon), seed=self.seed
        )
        # Allocated first: what a tile leaves behind would keep the memory of all tiles in pieces.
        found = _Rollouts.empty(self.paths, self.horizon + 1, scales)
        for first in range(0, self.paths, tile):
            rows = torch.arange(first, min(first + tile, self.paths))
            self._tile(rows, noise, found)
        return found

    def _tile(self, rows: Tensor, noise: GaussianNoise, found: _Rollouts) -> None:
        """Write the norms along the paths `rows`."""
        first = int(rows[0])
        errors = self.errors[rows % len(self.errors)]
        states = self.state.expand(len(rows), -1)
        tube = sample_tube(self.system, states, errors, noise, first)
        rest = tube.difference - tube.first
        for part, vectors in (
            (found.first, tube.first),
            (found.difference, tube.difference),
            (found.bend, 0.5 * tube.second),
            (found.rest, rest),
            (found.second, rest - 0.5 * tube.second),
        ):
            part[rows] = _lengths(vectors)
        found.moved[1.0][rows] = found.difference[rows]
        for s in {*found.moved} - {1.0}:
            pair = torch.cat((states, states + s * errors), dim=1)
            with torch.no_grad():
                path = solve_path(
                    CoupledSystem(self.system), pair, noise, times=tube.grid.tolist(), first=first
                )
            here, there = path.chunk(2, dim=2)
            found.moved[s][rows] = _lengths(there - here)

    def bounds(self, grades: Sequence[str] | str | None) -> RolloutBounds:
        return rollout_bounds(
            self.system,
            self.state,
            self.errors,
            t1=self.horizon,
            steps=self.horizon,
            grades=grades,
            paths=self.paths,
            enclosed_paths=1,
            seed=self.seed,
        )


def _lengths(vectors: Tensor) -> np.ndarray:
    return vectors.norm(dim=2).numpy()


def _four_curves(times: np.ndarray, norms: np.ndarray) -> dict[str, Curve]:
    """The four norms, of |D| (E, P, N + 1)."""
    four = four_norms(torch.from_numpy(norms))
    return {n: mean_curve(times, part.numpy().mean(1)) for n, part in zip(NORMS, four, strict=True)}


def _joined(
    times: np.ndarray, each: Sequence[RolloutBounds]
) -> tuple[dict[str, GradeBound], dict[str, str]]:
    """Means over episodes of the bounds that all episodes have, and the reasons for omissions."""
    left_out = {name: reason for one in each for name, reason in one.left_out.items()}
    joined, shared = {}, each[0] if each else ()
    for grade in [name for name in shared if name not in left_out]:
        own = [one[grade] for one in each]
        curves = {
            name: mean_curve(times, np.stack([bound[name].values for bound in own]))
            for name in own[0].curves
        }
        constants = {name: max(bound.constants[name] for bound in own) for name in own[0].constants}
        if "abstains" in constants:
            constants["abstains"] = min(bound.constants["abstains"] for bound in own)
        joined[grade] = GradeBound(grade, own[0].kind, curves, constants)
    return joined, left_out


def _check_scale(scale: float) -> float:
    if not check_finite_number("scales contains a value", scale) > 0:
        raise ValueError(f"scales contains {scale!r}: expected numbers above 0.")
    return float(scale)

"""Trained world models as systems, and the errors of their encoders (S21, S27, S28)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.func import jvp

import sdewm
from paper_checks.cases.trained_models import TrainedCase, trained_case
from paper_checks.findings import (
    THRESHOLD,
    Finding,
    Mutate,
    Settings,
    compare,
    conclude,
    false_alarm,
    order_of,
)
from sdewm.base.stats import Estimate
from sdewm.base.taylor import fuse, second_order
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.latent_sde.system import LatentSystem
from sdewm.model_theorems.episode_statistics import mean_estimate
from sdewm.model_theorems.representation_error import Perturb
from sdewm.theory.remainder_order import ORDER_BAND, order_outcome
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict

NOISES = (0.02, 0.04)  # standard deviations, in the units of the observations
NEGLIGIBLE = 1e-4  # |b|² / tr V below which an error has no drift to speak of


def _fed(case: TrainedCase, **options: Any) -> tuple[LatentSystem, torch.Tensor, torch.Tensor]:
    """The model's system with the episodes as inputs, its state after row 0, and all states."""
    paths = clean_paths(case.model, case.episodes)
    system = sdewm.as_system(
        case.model,
        actions=case.episodes.previous_actions[:, 1:],
        observations=case.episodes.observations[:, 1:],
        **options,
    )
    return system, system.start(paths.states[:, 0]), paths.states


def step(settings: Settings, mutate: Mutate) -> Finding:
    """Euler–Maruyama steps of length τ reproduce the model's filtered states (S21)."""
    case = mutate(trained_case(30, variance="step", relaxation_time=2.0))
    system, state, own = _fed(case, **case.options)
    noise, tau = clean_paths(case.model, case.episodes).noise, system.relaxation_time
    worst = 0.0
    for n in range(own.shape[1] - 1):
        t = torch.tensor(float(n), dtype=torch.float64)
        increment = math.sqrt(tau) * noise[:, n + 1]
        moved = torch.einsum("bdm,bm->bd", system.g(t, state), increment)
        state = state + tau * system.f(t, state) + moved
        worst = max(worst, float((state[:, :-1] - own[:, n + 1]).abs().max()))
    return compare("largest difference from the model's filtered states", Estimate(worst, 0.0), 0.0)


def derivatives(settings: Settings, mutate: Mutate) -> Finding:
    """F_x and F_xx of the trained model equal central differences (rule 11)."""
    case = mutate(trained_case(30, 8))
    system, _, states = _fed(case)
    x, t = system.start(states[:, 20]), torch.tensor(20.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(settings.seed)
    along = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    along[:, -1] = 0.0  # index of the episode
    size = 1e-4

    def function(y: torch.Tensor) -> torch.Tensor:
        return torch.cat([system.f(t, y)[:, :, None], system.g(t, y)], 2).flatten(1)

    recorded = fuse(lambda y: (function(y),), (x,))  # as the expansions differentiate it
    value, first = jvp(function, (x,), (along,))[:2]
    plus, minus = function(x + size * along), function(x - size * along)
    zero = (torch.zeros_like(x),)
    _, _, mixed = second_order(recorded, (x,), [(along,)], {(0, 0): zero})
    findings = []
    for name, automatic, numeric, allowed in (
        ("F_x", first, (plus - minus) / (2 * size), 1e-6),
        ("F_xx", mixed[0, 0][0], (plus + minus - 2 * value) / size**2, 1e-4),
    ):
        error = float((automatic - numeric).norm() / numeric.norm())
        findings.append(compare(f"relative error of {name}", Estimate(error, 0.0), 0.0, allowed))
    return conclude(findings)


def recovery(settings: Settings, mutate: Mutate) -> Finding:
    """A drift and a diffusion added to the latent are recovered within their intervals (S28)."""
    case = mutate(trained_case(100, claimed=1.0))
    size = case.model.noise_size
    generator = torch.Generator().manual_seed(settings.seed)
    drift = 0.05 * torch.randn(size, dtype=torch.float64, generator=generator).sign()

    def encoder(predicted: torch.Tensor, embed: torch.Tensor) -> Any:
        mean, std = case.model.moments(predicted, embed)
        shift = drift + 0.05 * torch.randn(mean.shape, dtype=mean.dtype, generator=generator)
        return mean - shift, std - 0.01

    found = sdewm.measure_representation_error(
        case.model, case.episodes, reference_encoder=encoder, seed=settings.seed
    )
    claimed = case.options["claimed"]
    findings = [
        compare(f"drift of component {j}", one, claimed * float(drift[j]))
        for j, one in enumerate(found.mean_drift())
    ]
    squares = (found.fluctuation**2).mean((1, 2, 3))
    findings.append(compare("variance of the fluctuation", mean_estimate(squares), 0.05**2))
    same = Estimate(float(found.same_driver.mean()), 0.0)
    findings.append(compare("same-driver diffusion", same, 0.01, 1e-9))
    return conclude(findings)


def noise_drift(settings: Settings, mutate: Mutate) -> Finding:
    """White noise on observations causes a drift of order 2 in its size, a diffusion of order 1."""
    case = mutate(trained_case(100, perturbation=mirrored_noise))
    found = [
        sdewm.measure_representation_error(
            case.model,
            case.episodes,
            case.options["perturbation"](strength),
            draws=256,
            seed=settings.seed,
        )
        for strength in NOISES
    ]
    squares = [drift_squares(one.shift).mean(1) for one in found]
    test = found[-1].zero_drift_test()
    share = squares[-1] / found[-1].variance.sum(-1).mean()
    relative = mean_estimate(share)
    below = relative.value + THRESHOLD * relative.standard_error < NEGLIGIBLE
    outcome = FAILS if below else HOLDS if test.p_value < 0.01 else UNDECIDED
    text = f"zero drift at noise {NOISES[1]}: p = {test.p_value:.2g}, |b|²/tr V = {relative}"
    drift = Verdict(outcome, text)
    slopes = [
        _slope("order of |b|²", squares, 4.0),
        _slope("order of tr v", [one.variance.sum(-1).mean(1) for one in found], 2.0),
    ]
    alarm = false_alarm(THRESHOLD * relative.standard_error, relative, sides=1)
    exact = Estimate(test.p_value, 0.0)
    return conclude([*slopes, Finding("zero drift", exact, 0.0, drift, 0.01, false_alarm=alarm)])


def mirrored_noise(strength: float) -> Perturb:
    """White noise, of which every second draw is the one before it with the other sign.

    The part of the error that is linear in the noise cancels in the mean of such a pair, and with
    it most of the sampling error of the drift.
    """

    def perturb(clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        half = strength * torch.randn(clean[::2].shape, generator=generator, dtype=clean.dtype)
        return clean + torch.stack([half, -half], 1).flatten(0, 1)

    return perturb


def drift_squares(shift: np.ndarray) -> np.ndarray:
    """Unbiased |b|² (E, T) from shifts (E, K, T, Z), by products of different pairs of draws."""
    pairs = (shift[:, 0::2] + shift[:, 1::2]) / 2
    count = pairs.shape[1]
    own = (pairs**2).sum((1, 3))
    return ((pairs.sum(1) ** 2).sum(-1) - own) / (count * (count - 1))


def _slope(name: str, squares: list[np.ndarray], expected: float) -> Finding:
    """Order of means over episodes in the noise strength; standard error by the delta method."""
    (low, high), ratio = squares, math.log(NOISES[1] / NOISES[0])
    value = math.log(high.mean() / low.mean()) / ratio
    parts = (high / high.mean() - low / low.mean()) / ratio
    error = float(parts.std(ddof=1) / math.sqrt(len(parts)))
    outcome = order_outcome((value - 2 * error, value + 2 * error), expected)
    text = f"{name}: {value:.3f} ± {error:.2g}, claimed {expected:g} ± {ORDER_BAND}"
    estimate = Estimate(value, error, units=len(parts))
    return order_of(name, estimate, expected, Verdict(outcome, text))

"""What is measured on world models, on one whose values are known: a Kalman filter (S35)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

import sdewm
from paper_checks.cases.known_filter import SIZE, KnownFilter
from paper_checks.findings import Finding, Mutate, Settings, compare, conclude
from sdewm.base.stats import Estimate
from sdewm.latent_sde.models import as_latent_model
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.model_theorems.episode_statistics import mean_estimate
from sdewm.model_theorems.stability import jacobian_sizes, model_lyapunov, step_eigenvalues
from sdewm.open_loop.calibration import crps
from sdewm.open_loop.errors import squared_error
from sdewm.open_loop.predictions import open_loop
from sdewm.perturbations.observation import ObservationPerturbation

EPISODES, ROWS = 256, 36
MANY = 2048  # episodes of the predictions
BATCH = 16  # episodes whose mean is one unit of their intervals: such means have lighter tails
CONTEXT, AHEAD = 10, (1, 5, 25)  # observed rows; predicted steps that are looked at
STRENGTH = 0.1  # of the perturbed observations, in their units
START, HORIZON = 10, 6
DRAWS = 64  # of the perturbation


def predictions(settings: Settings, mutate: Mutate) -> Finding:
    """Errors of the filter and of open-loop predictions, and the spread of these."""
    exact = KnownFilter()
    model = mutate(exact).model
    episodes, truth = exact.episodes(MANY, ROWS, settings.seed)
    states = clean_paths(model, episodes, settings.seed).states[..., : 2 * SIZE]
    apart = (states.unflatten(-1, (2, SIZE)) - truth[:, :, None]).square().mean((1, 3))
    findings = [
        compare(f"squared error of the {name}", _batched(values.numpy()), expected)
        for name, values, expected in (
            ("mean", apart[:, 0], exact.posterior),
            ("draw", apart[:, 1], 2 * exact.posterior),
        )
    ]
    found = open_loop(
        model, episodes, context=CONTEXT, horizon=max(AHEAD), samples=8, seed=settings.seed
    )
    drawn = found.rollout.observations  # (S, E, H, 2)
    apart_ahead = np.mean([squared_error(one, found.observations) for one in drawn], 0)
    spread = drawn.var(0, ddof=1).mean(2)
    scores = crps(drawn, found.observations).mean(2)
    for steps in AHEAD:
        own, seen = exact.ahead(steps), exact.observed
        for name, values, expected in (
            ("squared error", apart_ahead, 2 * own + seen),
            ("variance of predictions", spread, own),
            ("probability score", scores, _score(own, seen)),
        ):
            measured = _batched(values[:, steps - 1])
            findings.append(compare(f"{name}, {steps} steps ahead", measured, expected))
    return conclude(findings, f"squared error, {AHEAD[-1]} steps ahead")


def _score(own: float, seen: float) -> float:
    """E|X − o| − ½ E|X − X'| for X of variance `own`, o of variance own + seen, and equal means."""
    return math.sqrt((2 * own + seen) * 2 / math.pi) - math.sqrt(own / math.pi)


def _batched(values: np.ndarray) -> Estimate:
    return mean_estimate(values.reshape(-1, BATCH).mean(1))


def errors(settings: Settings, mutate: Mutate) -> Finding:
    """Drift and diffusion of the encoder's error under noise and shift, and of the transition."""
    exact = KnownFilter()
    model = mutate(exact).model
    episodes, _ = exact.episodes(EPISODES, ROWS, settings.seed)
    kept = (1 - exact.kalman) * exact.growth  # of an error of the mean, in a step
    step, findings = (exact.kalman * STRENGTH) ** 2, []
    noise = ObservationPerturbation("noise", STRENGTH)
    for mode, variance in (("single_frame", step), ("accumulated", step / (1 - kept**2))):
        given: dict[str, Any] = {"mode": mode, "draws": DRAWS, "seed": settings.seed}
        found = sdewm.measure_representation_error(model, episodes, noise, **given)
        for name, values, expected in (
            ("drift", found.drift.mean((1, 2)), 0.0),
            ("variance", found.variance[:, -1].mean(1), variance),
        ):
            measured = mean_estimate(values)
            findings.append(compare(f"{name} under noise, {mode}", measured, expected))
    shift = ObservationPerturbation("shift", STRENGTH)
    moved = sdewm.measure_representation_error(model, episodes, shift, draws=2, seed=settings.seed)
    size = mean_estimate(np.linalg.norm(moved.drift[..., :SIZE], axis=-1).mean(1))
    # A shift adds its strength to every component.
    predicted = exact.kalman * STRENGTH * math.sqrt(SIZE)
    findings.append(compare("drift under a shift", size, predicted, 1e-9))
    between = sdewm.measure_transition_error(model, episodes, seed=settings.seed).shift[:, 0]
    innovation = exact.kalman**2 * (exact.prior + exact.observed)
    for name, values, expected in (
        ("mean", between[..., :SIZE], innovation),
        ("draw", between[..., SIZE:], exact.growth**2 * exact.posterior + innovation),
    ):
        moment = mean_estimate(values.mean((1, 2)))
        findings.append(compare(f"drift of the transition error of the {name}", moment, 0.0))
        moment = mean_estimate(np.square(values).mean((1, 2)))
        findings.append(compare(f"transition error of the {name}", moment, expected))
    return conclude(findings, "variance under noise, accumulated")


def growth(settings: Settings, mutate: Mutate) -> Finding:
    """Exponents, Jacobians, divergence, sharp bounds, expansions and the bias of a value."""
    exact = KnownFilter()
    model = mutate(exact).model
    episodes, _ = exact.episodes(EPISODES, ROWS, settings.seed)
    few = sdewm.Episodes(*(table[:16] for table in vars(episodes).values()))
    grid: dict[str, Any] = {"start": START, "seed": settings.seed}
    spectrum = model_lyapunov(model, few, steps=20, discard=2, exponents=2 * SIZE, **grid)
    sizes = jacobian_sizes(model, few, seed=settings.seed)
    rate, turn = exact.growth, exact.growth * math.cos(exact.angle)
    findings = [
        compare("least exponent", mean_estimate(spectrum.exponents[:, -1]), math.log(rate), 1e-9),
        compare("exponent", mean_estimate(spectrum.exponents[:, 0]), math.log(rate), 1e-9),
    ]
    for name, expected in (
        ("frobenius", 2 * rate), ("top_singular_value", rate), ("log_norm", turn - 1),
        ("spectral_radius", rate),
    ):  # fmt: skip
        findings.append(compare(name, mean_estimate(sizes[name].mean(1).numpy()), expected, 1e-9))
    moduli = step_eigenvalues(as_latent_model(model), few, seed=settings.seed)
    floor = mean_estimate(moduli.square().sum(2).sqrt().mean(1).numpy())
    findings.append(compare("(Σ|λ|²)^½", floor, 2 * rate, 1e-9))
    shift, noise = (ObservationPerturbation(name, STRENGTH) for name in ("shift", "noise"))
    grades = ("log_norm", "linearised", "enclosure")  # sharp where all directions grow alike
    given: dict[str, Any] = {"horizon": HORIZON, "mode": "single_frame", "grades": grades}
    found = sdewm.diverge_on_model(model, few, shift, **grid, **given)
    for name, curve in (("distance", found["mean"]), *_means(found.bounds)):
        end = Estimate(curve.values[-1] / found.error_size.value, 0.0)
        findings.append(compare(f"{name}, of the first error", end, rate**HORIZON, 1e-9))
    last = _expanded(exact, model, episodes, noise, grid)
    return conclude([*findings, *last], "c2, encoder's error")


def _means(bounds: Any) -> list[tuple[str, Any]]:
    return [(f"bound {name}", one["mean"]) for name, one in bounds.items()]


def _expanded(
    exact: KnownFilter, model: Any, episodes: Any, noise: Any, grid: dict[str, Any]
) -> list[Finding]:
    """Terms of the expected |z|², with the encoder's error and with a wrong first state."""

    def square(states: Tensor) -> Tensor:
        return states[:, SIZE : 2 * SIZE].square().sum(1)

    kept = (1 - exact.kalman) * exact.growth
    step = SIZE * (exact.kalman * STRENGTH) ** 2
    expected = step * (1 - kept ** (2 * HORIZON)) / (1 - kept**2)
    given: dict[str, Any] = {"horizon": HORIZON, "copies": 16, "paths": 2, **grid}
    expansion = sdewm.expand_on_model(
        model, episodes, noise, lambda *_: square, draws=DRAWS, **given
    )
    # The measured drift is a mean of draws, whose own variance counts as drift.
    findings = [
        compare("c2, encoder's error", expansion.encoder.terms["c2"], expected),
        compare("c2, measured", expansion.measured.terms["c2"], expected * (1 + 1 / DRAWS)),
    ]
    findings += [
        compare(f"c1, {name}", one.terms["c1"], 0.0)
        for name, one in (("encoder's error", expansion.encoder), ("measured", expansion.measured))
    ]
    bias = sdewm.value_bias_on_model(model, episodes, noise, lambda _: square, **given)
    first = step * (1 - kept ** (2 * (START + 1))) / (1 - kept**2)
    terms = bias.expansion.terms
    second = first * exact.growth ** (2 * HORIZON)
    findings.append(compare("bias of first order", terms["first"], 0.0))
    findings.append(compare("bias of second order", terms["second"], second))
    return findings

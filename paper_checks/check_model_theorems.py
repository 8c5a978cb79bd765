"""The theorems on trained world models: expansion, divergence, value, exponents, penalty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import sdewm
from paper_checks.cases.trained_models import WITH, WITHOUT, trained_case, trained_run
from paper_checks.check_rollouts import below
from paper_checks.findings import (
    THRESHOLD,
    Finding,
    Mutate,
    Settings,
    add,
    compare,
    conclude,
    order_finding,
    scale,
)
from sdewm.base.stats import Estimate
from sdewm.latent_sde.losses import reconstruction_loss, value
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.model_theorems.episode_statistics import mean_estimate
from sdewm.model_theorems.imagination import imagination, perturbed_initial_states
from sdewm.model_theorems.stability import jacobian_sizes, model_lyapunov
from sdewm.model_theorems.value_bias import value_bias_on_model
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import ESTIMATE
from sdewm.sde.solve import solve_path
from sdewm.theory.curve import Curve
from sdewm.theory.flow.initial_error import CoupledSystem
from sdewm.theory.remainder_order import ORDER_BAND, order_outcome
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict

START = 20  # row of the first state
NOISE = ObservationPerturbation("noise", 0.1)
SIZES = (0.2, 0.1, 0.05)  # of the error
EPISODES = (0, 1)  # of which single starts are expanded
BAND_95 = 1.96  # standard errors on each side


def expansion(settings: Settings, mutate: Mutate, *, episodes: Sequence[int] = EPISODES) -> Finding:
    """The second order of the reconstruction loss leaves a remainder of order 3 (S2, S5b)."""
    horizon, paths = 6, 256
    case = mutate(trained_case(START + horizon + 1, second_order=1.0))
    states = clean_paths(case.model, case.episodes).states[:, START]
    findings = []
    for e in episodes:  # one start each: the sampling error is that of the model's own noise
        actions, seen = (
            table[e, START + 1 :]
            for table in (case.episodes.previous_actions, case.episodes.observations)
        )
        system = sdewm.as_system(case.model, actions=actions, observations=seen)
        expanded = sdewm.expand(
            system,
            sdewm.encoder_error(system, seen + 0.3),
            reconstruction_loss(system, seen[-1:]),
            states[e],
            t1=horizon,
            steps=horizon,
            paths=paths,
            seed=settings.seed,
        )
        missing = scale(expanded.terms["c2"], 1.0 - case.options["second_order"])
        rows = [
            replace(row, remainder=add(row.remainder, scale(missing, epsilon**2)))
            for epsilon, row in zip(SIZES, expanded.measure(SIZES), strict=True)
        ]
        findings.append(order_finding(rows, 3.0, abs(expanded.terms["c0"].value)))
    return conclude(findings)


def divergence(
    settings: Settings, mutate: Mutate, *, episodes: Sequence[int] = EPISODES
) -> Finding:
    """Imagination from a latent that noise made wrong stays below every grade (S15, S16, S18)."""
    horizon = 8
    case = mutate(trained_case(START + horizon + 1, claimed=1.0))
    model, recorded = case.model, case.episodes
    starts = perturbed_initial_states(
        model,
        recorded,
        NOISE,
        start=START,
        copies=1,
        mode="accumulated",
        seed=settings.seed,
    )
    grid: dict[str, Any] = {"t1": horizon, "steps": horizon, "seed": settings.seed}
    findings = []
    for e in episodes:
        system = imagination(model, recorded, start=START, horizon=horizon, policy=None, episode=e)
        given = (system, starts.states[e], starts.errors[e])
        measured = sdewm.rollout_divergence(*given, paths=256, **grid)["mean"]
        bounds = sdewm.rollout_bounds(*given, paths=16, grades="all", **grid)
        for grade, one in bounds.items():
            if one.kind == ESTIMATE:
                curve = one["mean"]
                claimed = case.options["claimed"] * curve.values
                lowered = Curve(curve.times, claimed, curve.standard_errors)
                findings.append(below(f"E|D| ({grade})", measured, lowered))
    return conclude(findings)


def value_bias(settings: Settings, mutate: Mutate) -> Finding:
    """The bias of the critic's value has a second order, up to a remainder of order 3 (S20)."""
    case = mutate(trained_case(START + 9, law="scaled"))
    critic = trained_run().agent.behaviour.critic
    found = value_bias_on_model(
        case.model,
        case.episodes,
        NOISE,
        lambda system: value(system, critic),
        start=START,
        horizon=8,
        copies=8,
        paths=4,
        seed=settings.seed,
    )
    order = found.expansion.order((0.25, 0.125, 0.0625), law=case.options["law"])
    low, high = order.interval
    text = f"slope {order.slope:.3f} in [{low:.3f}, {high:.3f}], claimed 3 ± {ORDER_BAND}"
    reason = order.verdict.reason if math.isnan(high) else text
    verdict = Verdict(order_outcome(order.interval, 3.0), reason)
    slope = Estimate(order.slope, (high - low) / (2 * BAND_95))
    return Finding("order of E|remainder|", slope, 3.0, verdict, ORDER_BAND)


def exponent(settings: Settings, mutate: Mutate) -> Finding:
    """A tiny wrong start grows in imagination as the largest Lyapunov exponent says (S26)."""
    turn, steps = 60, 300
    case = mutate(trained_case(START + turn + steps + 1, 16, exponent=0))
    model, episodes = case.model, case.episodes
    grid: dict[str, Any] = {"start": START, "steps": turn + steps, "discard": turn}
    spectrum = model_lyapunov(model, episodes, exponents=2, seed=settings.seed, **grid)
    first = clean_paths(model, episodes.first_rows(START + 1), settings.seed).states[:, START]
    system = imagination(model, episodes, start=START, horizon=turn + steps, policy=None)
    states = system.start(first)
    generator = torch.Generator().manual_seed(settings.seed)
    error = 1e-9 * torch.randn(states.shape, dtype=states.dtype, generator=generator)
    error[:, -1] = 0.0  # the number of the episode
    noise = GaussianNoise(  # that of the exponents
        drivers=model.noise_size, steps=turn + steps, t1=float(turn + steps), seed=settings.seed
    )
    pair = torch.cat((states, states + error), 1)
    ends = solve_path(CoupledSystem(system), pair, noise, times=[float(turn), float(turn + steps)])
    here, there = ends.chunk(2, dim=2)
    sizes = (there - here).norm(dim=2)  # (E, 2)
    growth = ((sizes[:, 1] / sizes[:, 0]).log() / steps).numpy()
    apart = mean_estimate(growth - spectrum.exponents[:, case.options["exponent"]])
    # Both may turn towards the fastest direction by a factor of some e during the steps.
    return compare("growth of |D| less the exponent", apart, 0.0, 1.0 / steps)


def penalty(settings: Settings, mutate: Mutate, *, quantity: str) -> Finding:
    """How far a norm of the Jacobian, or the largest exponent, is lower with the penalty."""
    steps = 150
    found: list[np.ndarray] = []
    for name in mutate((WITHOUT, WITH)):
        case = trained_case(START + steps + 1, 16, name)
        grid: dict[str, Any] = {"start": START, "steps": steps, "discard": 20, "exponents": 1}
        if quantity == "exponent":
            spectrum = model_lyapunov(case.model, case.episodes, seed=settings.seed, **grid)
            found.append(spectrum.exponents[:, 0])
        else:
            sizes = jacobian_sizes(case.model, case.episodes, every=10, seed=settings.seed)
            found.append(sizes[quantity].mean(1).numpy())
    drop = mean_estimate(found[0] - found[1])  # of the same episodes
    verdict = Verdict(UNDECIDED, f"the {quantity} falls by {drop} with the penalty")
    if abs(drop.value) > THRESHOLD * drop.standard_error:
        verdict = Verdict(HOLDS if drop.value > 0 else FAILS, verdict.reason)
    return Finding(f"fall of the {quantity}", drop, 0.0, verdict, drop.standard_error)

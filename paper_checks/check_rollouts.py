"""Rollouts from a wrong initial latent: every bound against the measured divergence (S14–S19)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

import sdewm
from paper_checks.cases.rollouts import Rollout, rollout_case
from paper_checks.findings import (
    FEWEST_BATCHES,
    THRESHOLD,
    Finding,
    Mutate,
    Settings,
    compare,
    conclude,
    excess_share,
    false_alarm,
    tightness,
)
from sdewm.base.stats import Estimate
from sdewm.sde import examples
from sdewm.sde.linear_moments import moment_path
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import CERTIFICATE
from sdewm.sde.solve import solve_path
from sdewm.sde.system import check_protocol
from sdewm.sde.world_model_sde import LatentWorldModel
from sdewm.theory.bounds.formulas import doob_factor, supremum_factor
from sdewm.theory.curve import Curve
from sdewm.theory.flow.rollout_divergence import Divergence
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict, heavy_tails

LABELS = {
    "mean": "E|D|",
    "mean_square": "E|D|²",
    "sup": "E sup|D|",
    "sup_square": "E sup|D|²",
}


def bound(
    settings: Settings,
    mutate: Mutate,
    *,
    case: str,
    grade: str,
    names: tuple[str, ...] = ("mean", "mean_square", "sup", "sup_square"),
    kind: str = CERTIFICATE,
    **changes: Any,
) -> Finding:
    """Measured ≤ bound at every grid time, within five standard errors of both."""
    rollout = mutate(rollout_case(case, **changes))
    paths = max(2, round(settings.paths * rollout.share))
    measured = _measure(rollout, paths, settings.seed)
    claimed = sdewm.rollout_bounds(
        rollout.bounded or rollout.system,
        rollout.x0,
        rollout.error,
        grades=(grade,),
        paths=max(2, paths // 2),
        seed=settings.seed,
        **rollout.grid,
    )[grade]
    if claimed.kind != kind:
        reason = f"the bound is a {claimed.kind}, expected a {kind}"
        nothing = Estimate(float("nan"), float("nan"))
        return Finding(grade, nothing, float("nan"), Verdict(FAILS, reason))
    return conclude(
        [below(f"{LABELS[name]} ({grade})", measured[name], claimed[name]) for name in names]
    )


def below(quantity: str, measured: Curve, claimed: Curve) -> Finding:
    """measured ≤ claimed after the start; reports the last time or the worst failure."""
    spread = THRESHOLD * np.hypot(measured.standard_errors, np.nan_to_num(claimed.standard_errors))
    rounding = 1e-10 * np.abs(measured.values)
    excess = measured.values - claimed.values - spread - rounding
    known = np.isfinite(measured.values) & ~np.isnan(claimed.values)
    excess[0] = -np.inf  # at the start both equal |e|
    n = int(np.nanargmax(np.where(known, excess, -np.inf))) if excess.max() > 0 else -1
    value = measured.at(float(measured.times[n]))
    allowed = float(claimed.values[n])
    outcome = UNDECIDED if not known.all() else HOLDS if excess.max() <= 0 else FAILS
    reason = f"{quantity} = {value} at t = {measured.times[n]:g}, bound {allowed:.6g}"
    if value.standard_error > 1e-10 * abs(value.value) and (tails := heavy_tails(value)):
        outcome, reason = UNDECIDED, f"{reason}: {tails}"
    margin = float(spread[n] + rounding[n]) or 1e-12
    used = [
        excess_share(*numbers)
        for numbers in zip(
            measured.values[1:], claimed.values[1:], (spread + rounding)[1:], strict=True
        )
    ]
    sampled = FEWEST_BATCHES if value.standard_error > 0.0 else None
    alarm = false_alarm(THRESHOLD, Estimate(0.0, 1.0), 1, sampled) if sampled else 0.0
    return Finding(
        quantity,
        value,
        allowed,
        Verdict(outcome, reason),
        margin,
        tightness=tightness(value.value, allowed),
        sharp=2.0 * value.value > allowed + 2.0 * margin,
        used=max(used),
        false_alarm=alarm * len(used),
    )


@lru_cache(maxsize=8)
def _measure(rollout: Rollout, paths: int, seed: int) -> Divergence | dict[str, Curve]:
    if rollout.same_noise:
        return sdewm.rollout_divergence(
            rollout.system, rollout.x0, rollout.error, paths=paths, seed=seed + 1, **rollout.grid
        )
    drivers = check_protocol(rollout.system, torch.zeros(()).double(), rollout.x0[None])
    ends = []
    for start, own in ((rollout.x0, seed + 1), (rollout.x0 + rollout.error, seed + 2)):
        noise = GaussianNoise(drivers=drivers, seed=own, **rollout.grid)
        times = noise.grid(torch.float64).tolist()
        ends.append(solve_path(rollout.system, start.expand(paths, -1), noise, times=times))
    distance = (ends[1] - ends[0]).norm(dim=2)
    largest = distance.cummax(dim=1).values
    values = {
        "mean": distance,
        "mean_square": distance**2,
        "sup": largest,
        "sup_square": largest**2,
    }
    return {
        name: Curve(np.array(times), part.mean(0).numpy(), part.std(0).numpy() / paths**0.5)
        for name, part in values.items()
    }


def linear_exact(settings: Settings, mutate: Mutate) -> Finding:
    """E|D_T|² of O9 with C_e = diag(0, 0.01): in continuous time, and of the scheme (S19)."""
    rollout = mutate(rollout_case("linear_flow", error=torch.tensor([0.0, 0.1]).double()))
    paths = max(2, round(settings.paths * rollout.share))
    covariance = torch.diag(torch.tensor([0.0, 0.01], dtype=torch.float64))
    drift, noise = (rollout.bounded or rollout.system).jacobians()
    limit, scheme = (
        moment_path(
            drift, noise, covariance, rollout.t1 / rollout.steps, rollout.steps, scheme=scheme
        )[-1]
        for scheme in (False, True)
    )
    measured = _measure(rollout, paths, settings.seed)["mean_square"].last
    value = Estimate(float(limit.trace()), 0.0)
    return conclude(
        [
            compare("E|D_T|² of the scheme", measured, float(scheme.trace())),
            compare("E|D_T|²", value, 0.0098428365, 1e-10),
        ]
    )


def suprema(settings: Settings, mutate: Mutate) -> Finding:
    """O10: E sup D and E sup D² of a geometric Brownian motion lie below their bounds (S11, S16).

    The supremum over a grid is too small by O(√Δ). It is extrapolated in √Δ from two grids, and
    the last correction is the allowed bias.
    """
    rollout = rollout_case("geometric", share=0.2)
    factor = mutate(supremum_factor)
    findings = []
    spread = 0.4**2
    for name, power, rate, exact in (
        ("sup", 1, 0.2, 1.525467907),
        ("sup_square", 2, 0.28, 2.541583996),
    ):
        exponent = torch.tensor(0.5 * power**2 * spread, dtype=torch.float64)
        limit = float(np.exp(power * rate)) * float(factor(exponent))
        values = []
        for steps in (50, 200):
            fine = replace(rollout, steps=steps)
            paths = max(2, round(settings.paths * rollout.share))
            values.append(_measure(fine, paths, settings.seed)[name].last)
        correction = values[1].value - values[0].value
        error = 2 * values[1].standard_error + values[0].standard_error
        tails = max(one.kurtosis for one in values)
        measured = Estimate(values[1].value + correction, error, tails)
        findings.append(compare(LABELS[name], measured, exact, abs(correction)))
        holds = Verdict(
            HOLDS if exact <= limit else FAILS, f"{LABELS[name]} = {exact}, bound {limit:.6f}"
        )
        used = excess_share(exact, limit, 0.0)
        findings.append(
            Finding(f"bound on {LABELS[name]}", Estimate(exact, 0.0), limit, holds, used=used)
        )
        doob = float(np.exp(power * rate)) * float(doob_factor(exponent))
        printed = {"sup": 2.070035, "sup_square": 4.693975}[name]
        findings.append(
            compare(f"Doob bound on {LABELS[name]}", Estimate(doob, 0.0), printed, 5e-7)
        )
    return conclude(findings)


def prediction(settings: Settings, mutate: Mutate, *, case: str, **changes: Any) -> Finding:
    """E|y| is within 5 % of E|D| at all times if |e| is at the stated range (S18)."""
    rollout = rollout_case(case, **changes)
    same = {"paths": max(2, round(settings.paths * rollout.share)), "seed": settings.seed}
    grade = sdewm.rollout_bounds(
        rollout.system,
        rollout.x0,
        rollout.error,
        grades=("linearised",),
        **same,
        **rollout.grid,
    )["linearised"]
    size = float(rollout.error.norm())
    rollout = mutate(replace(rollout, error=grade.range / size * rollout.error))
    measured = sdewm.rollout_divergence(
        rollout.system, rollout.x0, rollout.error, **same, **rollout.grid
    )["mean"]
    scale = float(rollout.error.norm()) / size
    known = measured.values > 0
    # Both means are over shared Brownian paths, so their ratio is far more precise than either.
    ratio = scale * grade.prediction["mean"].values[known] / measured.values[known]
    worst = float(np.abs(ratio - 1.0).max())
    outcome = HOLDS if worst <= 0.05 else FAILS
    reason = f"largest |E|y|/E|D| − 1| = {worst:.4f} at |e| = {float(rollout.error.norm()):.3g}"
    quantity = Estimate(worst, 0.0)
    return Finding("|E|y|/E|D| − 1|", quantity, 0.05, Verdict(outcome, reason), used=worst / 0.05)


def integrator(settings: Settings, mutate: Mutate) -> Finding:
    """dz̃ = p(h) dt keeps an initial error of z̃ for ever if f does not read z̃ (S17)."""
    model = LatentWorldModel(
        z_size=1,
        h_size=2,
        z_tilde_size=2,
        s_tilde_size=1,
        encoder=lambda h, s: torch.tanh(h[:, :1]),
        sequence=lambda h, z, a: torch.tanh(z - h) - h,
        predictor=lambda h: torch.sin(h),
        decoder=lambda h, z_tilde: z_tilde[:, :1] - h[:, :1],
        predictor_diffusion=lambda h: torch.full_like(h, 0.2),
        encoder_relaxation_time=1.0,
    )
    start = torch.tensor([0.2, 0.1, -0.3, 0.4, 0.0, 0.1], dtype=torch.float64)
    error = torch.zeros_like(start)
    error[model.blocks["z_tilde"]] = torch.tensor([0.3, -0.4], dtype=torch.float64)
    rollout = mutate(Rollout(model, start, error, 20.0, 200))
    drivers = check_protocol(rollout.system, torch.zeros(()).double(), start[None])
    noise = GaussianNoise(drivers=drivers, seed=settings.seed, **rollout.grid)
    paths = torch.cat([(start + shift)[None] for shift in (0.0, error)])
    ends = [solve_path(rollout.system, one[None], noise)[0, 0] for one in paths]
    left = (ends[1] - ends[0])[model.blocks["z_tilde"]].norm()
    return compare("|D_z̃| after 20 time units", Estimate(float(left), 0.0), 0.5, 1e-10)


def cubic(settings: Settings, mutate: Mutate) -> Finding:
    """dx = −x³ dt: |D| ≤ |e| by S16, whereas the Lipschitz bound S15 grows with the tube (O11)."""
    case = examples.CubicFlow()
    rollout = mutate(rollout_case("cubic"))
    bounds = sdewm.rollout_bounds(
        rollout.bounded or rollout.system, rollout.x0, rollout.error, paths=2, **rollout.grid
    )
    size = float(rollout.error.norm())
    flat = compare("S16 bound on |D_T|", bounds["log_norm"]["mean"].last, size, 1e-12)
    grown = bounds["gronwall"]["sup"].last.value
    outcome = HOLDS if grown > 1e3 * size else FAILS
    text = f"the S15 bound is {grown / size:.3g} |e|"
    used = 1e3 * size / grown
    exact_bound = Estimate(grown, 0.0)
    findings = [flat, Finding("S15 bound", exact_bound, size, Verdict(outcome, text), used=used)]
    exact = [float(case.flow(rollout.x0 + e, case.t1)[0]) for e in (0.0, rollout.error)]
    fine = sdewm.rollout_divergence(
        rollout.system, rollout.x0, rollout.error, t1=case.t1, steps=2000, paths=8
    )
    gap = abs(exact[1] - exact[0])
    findings.append(compare("|D_T|", fine["mean"].last, gap, 1e-3 * gap))
    return conclude(findings)

"""Effects of the weight of the Jacobian penalty on a model: metrics of several runs.

Every metric is a mean over recorded episodes. Statements about a weight treat the runs of that
weight, with different seeds, as the independent units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import pad

from sdewm.base.records import Row
from sdewm.base.stats import Estimate
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.losses import reconstruction_loss
from sdewm.latent_sde.models import LatentModel
from sdewm.latent_sde.system import LatentSystem
from sdewm.model_theorems.episode_statistics import mean_estimate
from sdewm.model_theorems.expansion import expand_on_model
from sdewm.model_theorems.imagination import imagination, perturbed_initial_states
from sdewm.model_theorems.stability import jacobian_sizes, model_lyapunov
from sdewm.open_loop.errors import squared_error
from sdewm.open_loop.predictions import open_loop
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.plots.jacobian_weight_plots import seed_interval
from sdewm.plots.tables import number_text, text_table
from sdewm.report.trained_run import TrainedRun
from sdewm.theory.flow.rollout_divergence import rollout_divergence

NOISE, SHIFT = ObservationPerturbation("noise", 0.1), ObservationPerturbation("shift", 0.1)
START, HORIZON, LONG = 20, 10, 50  # row of the first state; steps of expansions and divergence
EVERY, LYAPUNOV_STEPS, DISCARD, OPEN_LOOP_STEPS = 10, 150, 20, 25
COPIES, SAMPLES = 4, 4
QUANTITIES = {  # title, unit
    "jacobian": ("Frobenius norm of the Jacobian", "dimensionless"),
    "log_norm": ("Logarithmic norm of the Jacobian", "1/policy_step"),
    "exponent": ("Largest Lyapunov exponent", "1/policy_step"),
    "divergence": (f"Growth of an initial error, {LONG} policy_steps", "ratio of mean distances"),
    "clean_loss": ("Reconstruction loss, unperturbed", "the decoder's loss"),
    "open_loop": (f"Open-loop error, {OPEN_LOOP_STEPS} policy_steps", "mean squared error"),
    "diffusion_terms": ("P + Q + S/2 under noise", "the decoder's loss"),
    "drift_terms": ("Drift terms under a constant shift", "the decoder's loss"),
}


def penalty_rows(trained: TrainedRun, episodes: int | None, seed: int) -> list[Row]:
    """One row for each of QUANTITIES, with standard errors over episodes where available."""
    recorded = trained.episodes(START + 1 + LYAPUNOV_STEPS, episodes, seed)
    for kind in (NOISE, SHIFT):
        trained.subject.perturbable(recorded, kind)
    model, jacobian = trained.model, trained.config.jacobian
    sizes = jacobian_sizes(model, recorded, every=EVERY, seed=seed)
    grid: dict[str, Any] = {"start": START, "steps": LYAPUNOV_STEPS, "discard": DISCARD}
    spectrum = model_lyapunov(model, recorded, exponents=1, seed=seed, **grid)
    noisy, shifted = (_terms(model, recorded, kind, seed) for kind in (NOISE, SHIFT))
    found = {
        "jacobian": mean_estimate(sizes["frobenius"].mean(1).numpy()),
        "log_norm": mean_estimate(sizes["log_norm"].mean(1).numpy()),
        "exponent": spectrum.estimates[0],
        "divergence": Estimate(_divergence(model, recorded, seed), math.nan),
        "clean_loss": noisy["c0"],
        "open_loop": _open_loop(model, recorded, seed),
        "diffusion_terms": _sum(noisy, {"P": 1.0, "Q": 1.0, "S": 0.5}),
        "drift_terms": _sum(shifted, {"P_drift": 1.0, "Q_drift": 1.0, "S_drift": 0.5}),
    }
    return [
        {
            "quantity": name,
            "title": title,
            "unit": unit,
            "weight": float(jacobian.weight),
            "seed": trained.config.seed,
            "run": trained.run.name,
            "updates": trained.counters["updates"],
            "value": found[name].value,
            "standard_error": found[name].standard_error,
        }
        for name, (title, unit) in QUANTITIES.items()
    ]


def _terms(
    model: LatentModel, episodes: Episodes, perturbation: ObservationPerturbation, seed: int
) -> dict[str, Estimate]:
    """Terms of the reconstruction loss under the measured drift and diffusion."""

    def loss(system: LatentSystem, observations: Tensor, rewards: Tensor) -> Any:
        return reconstruction_loss(system, observations)

    found = expand_on_model(
        model,
        episodes,
        perturbation,
        loss,
        start=START,
        horizon=HORIZON,
        copies=COPIES,
        paths=SAMPLES,
        seed=seed,
    )
    return found.measured.terms


def _sum(terms: dict[str, Estimate], weights: dict[str, float]) -> Estimate:
    """A weighted sum; its error is an upper bound, attained for fully dependent terms."""
    value = sum(weight * terms[name].value for name, weight in weights.items())
    error = sum(abs(weight) * terms[name].standard_error for name, weight in weights.items())
    return Estimate(value, error)


def _divergence(model: LatentModel, episodes: Episodes, seed: int) -> float:
    """E|D_LONG|/E|D_0| for initial errors caused by noisy observations."""
    starts = perturbed_initial_states(
        model, episodes, NOISE, start=START, copies=COPIES, mode="accumulated", seed=seed
    )
    system = imagination(model, episodes, start=START, horizon=LONG, policy=None)
    errors = starts.errors.flatten(0, 1)  # (E·K, D)
    grown = rollout_divergence(
        system,
        system.start(starts.states, COPIES),
        pad(errors, (0, system.state_size - errors.shape[1])),
        t1=LONG,
        steps=LONG,
        paths=len(errors),
        seed=seed,
        quantiles=(),
    )["mean"].values
    return float(grown[-1] / grown[0])


def _open_loop(model: LatentModel, episodes: Episodes, seed: int) -> Estimate:
    found = open_loop(
        model,
        episodes,
        context=START,
        horizon=OPEN_LOOP_STEPS,
        samples=SAMPLES,
        seed=seed,
    )
    errors = [squared_error(one, found.observations) for one in found.rollout.observations]
    return mean_estimate(np.mean(errors, 0)[:, -1])


def summary(rows: Sequence[Any]) -> str:
    """Mean over seeds and half of its 95 % interval, for each quantity and weight."""
    weights = sorted({row["weight"] for row in rows})
    lines = []
    for name in dict.fromkeys(row["quantity"] for row in rows):
        own = [row for row in rows if row["quantity"] == name]
        cells = []
        for weight in weights:
            mean, half = seed_interval([r["value"] for r in own if r["weight"] == weight])
            cells.append(f"{mean:.4g} ± {number_text(half, 2)}")
        lines.append([f"{own[0]['title']} ({own[0]['unit']})", *cells])
    table = text_table(["weight", *(f"{weight:g}" for weight in weights)], lines)
    return f"{table}\n± is half of the 95 % interval of the mean over seeds, by Student's t."

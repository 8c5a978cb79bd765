"""Growth of small differences in imagination: Jacobians and Lyapunov exponents (S10, S26)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdewm.base.checks import check_count
from sdewm.base.records import Row
from sdewm.base.stats import Estimate
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.inputs import LatentPolicy
from sdewm.model_theorems.episode_statistics import mean_estimate
from sdewm.model_theorems.physical_modes import memory_floor, step_jacobians
from sdewm.model_theorems.stability import jacobian_sizes, model_lyapunov, step_eigenvalues
from sdewm.plots.stability_plots import stability_of_model
from sdewm.plots.tables import estimate_text, text_table
from sdewm.report.analysis import Analysis, with_episodes
from sdewm.report.subject import Subject

NEEDED_PANEL = "policy in the loop"
SPECTRUM, SLOW = "spectrum", 0.9  # name of the rows; modulus of the modes that are counted
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
UNITS = {
    "frobenius": "dimensionless",
    "top_singular_value": "dimensionless",
    "log_norm": "1/policy_step",
    "spectral_radius": "dimensionless",
}


@dataclass(frozen=True)
class Settings:
    """Stability: Jacobians along the episodes, Lyapunov exponents of imagined trajectories."""

    episodes: int | None = None
    """Number of recorded episodes; None uses all."""
    start: int = 20
    """Row of each window, counted from 0, at which imagination starts."""
    steps: int = 200
    """Number of imagined policy_steps."""
    discard: int = 20
    """Number of initial policy_steps left out of the Lyapunov exponents."""
    exponents: int = 3
    """Number of leading Lyapunov exponents."""
    every: int = 4
    """Interval in rows between the states at which Jacobians are computed."""

    @property
    def window(self) -> int:
        """Number of rows of each window."""
        return self.start + 1 + self.steps


def check(subject: Subject, settings: Settings, seed: int) -> Episodes:
    """The episodes, after a check of all settings."""
    check_count("start", settings.start, minimum=0)
    steps = check_count("steps", settings.steps)
    check_count("discard", settings.discard, minimum=0, maximum=steps - 1)
    check_count("exponents", settings.exponents, maximum=subject.model.state_size)
    check_count("every", settings.every)
    return subject.episodes(settings.window, settings.episodes, seed)


def rows(subject: Subject, settings: Settings, seed: int) -> list[Row]:
    """Sizes of the Jacobian, and running exponents for recorded actions and a trained policy."""
    episodes = check(subject, settings, seed)
    found: list[Row] = []
    sizes = jacobian_sizes(subject.model, episodes, every=settings.every, seed=seed)
    for name, values in sizes.items():
        found.append(_row(name, "mean", None, mean_estimate(values.mean(1).numpy()), UNITS[name]))
        for level in LEVELS:
            quantile = float(np.quantile(values.numpy(), level))
            spread = Estimate(quantile, float("nan"))
            found.append(_row(name, f"quantile {level:g}", None, spread, UNITS[name]))
    found += _spectrum(subject, episodes, settings.every, seed)
    policies: dict[str, LatentPolicy | None] = {"recorded actions": None}
    if (policy := subject.part("policy")) is not None:
        policies[NEEDED_PANEL] = policy
    for name, actor in policies.items():
        spectrum = model_lyapunov(
            subject.model,
            episodes,
            start=settings.start,
            steps=settings.steps,
            discard=settings.discard,
            exponents=settings.exponents,
            policy=actor,
            seed=seed,
        )
        for number, curve in enumerate(spectrum.curves, start=1):
            for k, time in enumerate(curve.times):
                point = Estimate(float(curve.values[k]), float(curve.standard_errors[k]))
                series = f"exponent {number}"
                found.append(_row(name, series, float(time), point, "1/policy_step"))
    return with_episodes(found, episodes)


def _spectrum(subject: Subject, episodes: Episodes, every: int, seed: int) -> list[Row]:
    """Slow modes and least norm of the model's step, and of the simulator's own where it is known.

    The least norm is that of any coordinates, (Σ |λ|²)^½; the floor of S29 is ½ (ln d + 2/d · mean
    ln |det|) in logarithms: a mean of single floors would be above it, and above what is proven.
    """
    moduli = step_eigenvalues(subject.model, episodes, every=every, seed=seed)
    model = {
        f"modes beyond {SLOW:g}": (moduli > SLOW).double().sum(2),
        "least norm": moduli.square().sum(2).sqrt(),
    }
    found = [
        _row(SPECTRUM, name, None, mean_estimate(values.mean(1).numpy()), "dimensionless")
        for name, values in model.items()
    ]
    if subject.simulator is None:
        return found
    env, action_repeat = subject.simulator
    try:
        jacobians, volumes = step_jacobians(env, action_repeat=action_repeat, seed=seed)
    except ValueError:  # a simulator whose physics is not known
        return found
    own = np.abs(np.linalg.eigvals(jacobians))
    size = jacobians.shape[1]
    simulator = {
        f"modes beyond {SLOW:g}": mean_estimate((own > SLOW).sum(1)),
        "least norm": mean_estimate(np.sqrt((own**2).sum(1))),
        "floor of the norm": _exponential(mean_estimate(memory_floor(volumes, size) / 2)),
    }
    return found + [
        _row(SPECTRUM, f"simulator, {name}", None, estimate, "dimensionless")
        for name, estimate in simulator.items()
    ]


def _exponential(logarithm: Estimate) -> Estimate:
    """The exponential of an estimate; its error to first order."""
    value = math.exp(logarithm.value)
    return Estimate(value, value * logarithm.standard_error)


def _row(panel: str, series: str, time: float | None, estimate: Estimate, unit: str) -> Row:
    numbers = {"value": estimate.value, "standard_error": estimate.standard_error}
    return {"panel": panel, "series": series, "policy_steps": time, **numbers, "unit": unit}


def summary(found: Sequence[Any]) -> str:
    """Mean sizes of the Jacobian, and the exponents after all steps."""
    last = {(row["panel"], row["series"]): row for row in found}  # the last of each curve
    lines = [
        [panel, series, estimate_text(row["value"], row["standard_error"]), row["unit"]]
        for (panel, series), row in last.items()
        if not series.startswith("quantile")
    ]
    return text_table(["panel", "quantity", "value", "unit"], lines)


ANALYSIS = Analysis(
    "fig_model_stability",
    "How large are the Jacobians and the Lyapunov exponents?",
    Settings,
    check,
    rows,
    stability_of_model,
    summary,
    {NEEDED_PANEL: "policy"},
)

"""Representation error under observation perturbations: drift and diffusion of the latent (S28)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.base.records import Row
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.inputs import episode_inputs
from sdewm.latent_sde.model_contract import require_model
from sdewm.latent_sde.models import LatentModel
from sdewm.latent_sde.posterior_paths import CleanPaths, clean_paths
from sdewm.model_theorems.drift_regression import FOLDS, regress_drift
from sdewm.model_theorems.episode_statistics import mean_estimate, ratio
from sdewm.model_theorems.error_statistics import ErrorStatistics, least_p_value
from sdewm.model_theorems.representation_error import perturbation_error
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.plots.representation_error_plots import REJECTED, error_sizes
from sdewm.plots.tables import text_table
from sdewm.report.analysis import Analysis, with_episodes
from sdewm.report.subject import Subject

VECTORS = {
    "noise": (0.01, 0.03, 0.1, 0.3),
    "mask": (0.02, 0.05, 0.2, 0.5),
    "shift": (0.01, 0.03, 0.1, 0.3),
}
IMAGES = {
    "noise": (0.02, 0.05, 0.1, 0.2),
    "mask": (0.02, 0.05, 0.2, 0.5),
    "brightness": (0.02, 0.05, 0.1, 0.2),
    "rotation": (1.0, 3.0, 10.0, 30.0),
    "occlusion": (0.01, 0.03, 0.1, 0.25),
}
UNITS = {
    "noise": "standard deviation",
    "mask": "fraction set to zero",
    "shift": "constant added",
    "brightness": "constant added (range 1)",
    "rotation": "degrees (±)",
    "occlusion": "fraction of the image",
}
UNBIASED = (
    "drift is an unbiased estimate of a square, and may be below 0; drift_fraction and\n"
    "explained_by_state are ratios of such estimates: they may leave [0, 1], and are nan where\n"
    "their denominator is not positive; explained_by_state is below 0 where the regression on\n"
    "the state predicts worse than zero drift."
)


@dataclass(frozen=True)
class Settings:
    """Representation error: every applicable observation perturbation, at four strengths each."""

    episodes: int | None = None
    """Number of recorded episodes; None uses all."""
    steps: int = 100
    """Window length in time steps; windows start at a random row."""
    draws: int = 64
    """Number of perturbed copies of each window."""

    @property
    def window(self) -> int:
        """Number of rows of each window."""
        return self.steps


def check(subject: Subject, settings: Settings, seed: int) -> Episodes:
    """The episodes, after a check of all settings."""
    check_count("draws", settings.draws, minimum=2)
    found = subject.episodes(settings.window, settings.episodes, seed)
    return subject.perturbable(found, ObservationPerturbation("noise", 0.0))


def rows(subject: Subject, settings: Settings, seed: int) -> list[Row]:
    """Drift and diffusion of the encoder's single-frame error, with episodes as units."""
    episodes = check(subject, settings, seed)
    return measured_rows(subject.model, episodes, settings.draws, seed)


def measured_rows(model: LatentModel, episodes: Episodes, draws: int, seed: int) -> list[Row]:
    """One row for each perturbation and strength.

    Squares of errors are divided by the mean variance of the posterior, tr s²; of a deterministic
    latent, which has none, by the variance of the latent over all rows of the episodes.
    """
    kinds = IMAGES if episodes.observations.dim() == 5 else VECTORS
    cases = [(name, strength) for name, strengths in kinds.items() for strength in strengths]
    require_model(model, episode_inputs(episodes))
    paths, found = clean_paths(model, episodes, seed), []  # one encoding for all strengths
    progress = Progress("perturbations", len(cases), 0)
    for done, (name, strength) in enumerate(cases):
        progress.update(done)
        perturbation = ObservationPerturbation(name, strength)
        error = perturbation_error(model, episodes, perturbation, paths, draws=draws, seed=seed)
        found.append(_row(model, error, paths, name, strength, seed))
    progress.close()
    return with_episodes(found, episodes)


def _row(
    model: LatentModel,
    found: ErrorStatistics,
    paths: CleanPaths,
    name: str,
    strength: float,
    seed: int,
) -> Row:
    states, latents = paths.predicted.numpy(), paths.states[..., model.latent]
    unit = (found.reference_std**2).sum(-1).mean(1)  # of each episode
    if not unit.any():  # a deterministic latent
        unit = np.full(len(unit), float(latents.flatten(0, 1).var(0).sum()))
        unit_of = "latent"
    else:
        unit_of = "posterior"
    drift = ratio(found.drift_squares.mean(1), unit)
    diffusion = ratio(found.variance.sum(-1).mean(1), unit)
    spread = mean_estimate(found.variance_change.sum(-1).mean(1) / unit)
    fraction, test = found.drift_fraction(), found.zero_drift_test(seed)
    time, whole = found.correlation_time
    explained = regress_drift(found, states, folds=min(FOLDS, len(states)), seed=seed)
    return {
        "panel": name,
        "unit": UNITS[name],
        "strength": strength,
        "variance_of": unit_of,
        "drift": drift.value,
        "drift_error": drift.standard_error,
        "diffusion": diffusion.value,
        "diffusion_error": diffusion.standard_error,
        "variance_change": spread.value,
        "variance_change_error": spread.standard_error,
        "drift_fraction": fraction.value,
        "drift_fraction_error": fraction.standard_error,
        "explained_by_state": explained.share.value,
        "explained_by_state_error": explained.share.standard_error,
        "explained_by_constant": explained.constant_share.value,
        "explained_by_constant_error": explained.constant_share.standard_error,
        "test": test.name,
        "p_value": test.p_value,
        "correlation_time": time,
        "persists_whole_episode": whole,
    }


def summary(found: Sequence[Any]) -> str:
    """Drift, diffusion, drift fraction, test of zero drift, and the part explained by the state.

    What estimates and p-values of few episodes cannot say is said below.
    """
    shown = "panel strength drift diffusion drift_fraction p_value explained_by_state".split()
    lines = [
        [f"{row[name]:.3g}" if name != "panel" else row[name] for name in shown] for row in found
    ]
    notes, episodes = [UNBIASED], found[0].get("episodes")  # older tables do not say how many
    if episodes and (least := least_p_value(episodes)) >= REJECTED:
        notes.append(
            f"p_value of {episodes} episodes is about {least:.3g} at least, whatever the drift, so "
            f"that the figure cannot show one below {REJECTED:g}: take more episodes."
        )
    return "\n".join([text_table([*shown], lines), *notes])


ANALYSIS = Analysis(
    "fig_representation_error",
    "Which drift and diffusion of the latent does a perturbed observation cause?",
    Settings,
    check,
    rows,
    error_sizes,
    summary,
)

"""Errors of the latent in training, against their explicit term (S30)."""

from __future__ import annotations

import numpy as np
import torch

from paper_checks.cases.trained_models import WITHOUT, trained_case
from paper_checks.findings import Finding, Mutate, Settings, conclude
from sdewm.base.stats import Estimate
from sdewm.model_theorems.implicit_regularisation import (
    FilteredModel,
    Objective,
    compare_training,
    explicit_term,
    mirrored,
)
from sdewm.theory.verdict import FAILS, HOLDS, Verdict

SIZES, UPDATES, WARM_UP, RATE = (0.025, 0.05, 0.1), 10, 50, 3e-4
RATIO, ORDER = (0.8, 1.25), (3.5, 4.5)
ROWS = 100  # of an episode


def _white(strength: float) -> tuple[str, Objective]:
    """The kind of the error, and the loss that is trained on."""
    return "white", mirrored(strength)


def implicit_regularisation(settings: Settings, mutate: Mutate) -> Finding:
    """Effects of training with errors over those of their explicit term (S30)."""
    case, error = trained_case(ROWS, name=WITHOUT), mutate(_white)
    filtered = FilteredModel(case.model.world_model, case.episodes)
    batches = filtered.batches(settings.seed, WARM_UP + UPDATES, error(SIZES[0])[0])
    effects = compare_training(
        filtered.model,
        lambda model: torch.optim.Adam(model.parameters(), lr=RATE),
        filtered.losses,
        batches[:WARM_UP],
        batches[WARM_UP:],
        {size: (error(size)[1], explicit_term(size)) for size in SIZES},
    )
    findings = [
        _within(f"effect of errors of size {size:g} / effect of the term", effect.ratio, 1, RATIO)
        for size, effect in effects.items()
    ]
    logs = np.log([[size, effect.gap] for size, effect in effects.items()])
    order = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    return conclude([_within("order of the distance of the effects", order, 4, ORDER), *findings])


def _within(quantity: str, value: float, predicted: float, band: tuple[float, float]) -> Finding:
    low, high = band
    text = f"{quantity} {value:.4g}, expected {low:g} to {high:g}"
    verdict = Verdict(HOLDS if low <= value <= high else FAILS, text)
    side = high if value > predicted else low
    used = (value - predicted) / (side - predicted)
    return Finding(quantity, Estimate(value, 0.0), predicted, verdict, used=used)

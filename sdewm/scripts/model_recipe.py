"""The command line of a recipe: five analyses of a model and its episodes, in seconds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from sdewm.base.checks import check_count
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.losses import reconstruction_loss, reward_loss, value
from sdewm.latent_sde.model_contract import check_model
from sdewm.latent_sde.model_parts import missing_part
from sdewm.latent_sde.models import LatentModel
from sdewm.model_theorems.divergence import diverge_on_model
from sdewm.model_theorems.expansion import MakeLoss, expand_on_model
from sdewm.model_theorems.representation_error import measure_representation_error
from sdewm.model_theorems.stability import jacobian_sizes, model_lyapunov
from sdewm.open_loop.errors import normalised_distance
from sdewm.open_loop.predictions import open_loop
from sdewm.perturbations.observation import ObservationPerturbation

START, HORIZON = 3, 3  # row of the first state, and steps after it
GRID: dict[str, Any] = {"start": START, "horizon": HORIZON, "copies": 2, "paths": 2}
Build = Callable[[int], tuple[LatentModel, Episodes]]
LOSSES: dict[str, tuple[str, MakeLoss]] = {  # of the part: name, and loss of a system
    "decoder": ("reconstruction loss", lambda system, o, r: reconstruction_loss(system, o)),
    "reward": ("reward error", lambda system, o, r: reward_loss(system, r)),
    "critic": ("value", lambda system, o, r: value(system)),
}


def recipe_main(build: Build, description: str | None, words: Sequence[str] | None = None) -> None:
    """Print the findings of `check_model` and five lines, one for each analysis.

    Args:
        build: seed -> model and episodes, at least four of eight rows.
        description: of the script, for --help.
        words: the command line; None: that of the process.

    Raises:
        SystemExit: after --help, and for arguments that cannot be used.
        ValueError: what an analysis refuses.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, episodes and noise")
    given = parser.parse_args(words)
    try:
        seed = check_count("--seed", given.seed, minimum=0)
    except ValueError as problem:
        parser.error(str(problem))
    model, episodes = build(seed)
    for finding in check_model(model, episodes):
        sys.stdout.write(f"found       {finding}\n")
    for line in five_analyses(model, episodes, seed):
        sys.stdout.write(f"{line}\n")


def five_analyses(model: LatentModel, episodes: Episodes, seed: int) -> Iterator[str]:
    """One line for each analysis, with the label of the model's noise."""
    noise = ObservationPerturbation("noise", 0.5)
    error = measure_representation_error(model, episodes, noise, draws=8, seed=seed)
    yield f"error       zero drift of z: p = {error.zero_drift_test(seed).p_value:.2g}"
    given = [name for name in LOSSES if missing_part(model, name) is None]
    if given:
        name, loss = LOSSES[given[0]]
        found = expand_on_model(model, episodes, noise, loss, draws=8, seed=seed, **GRID)
        terms = found.encoder.terms
        yield f"expansion   {name} {terms['c0']}, c1 = {terms['c1']} ({found.label})"
    else:
        yield f"expansion   left out: {missing_part(model, 'decoder')}"
    few = Episodes(*(table[:4] for table in vars(episodes).values()))
    rollouts = diverge_on_model(model, few, noise, seed=seed, grades=(), **GRID)
    growth = " ".join(f"{b / a:.3g}" for a, b in pairwise(rollouts["mean"].values))
    yield f"divergence  growth of E|D| by step: {growth} ({rollouts.label})"
    rows = episodes.observations.shape[1]
    ahead = open_loop(model, episodes, context=4, horizon=rows - 4, samples=4, seed=seed)
    data = ahead.latents.reshape(-1, ahead.latents.shape[-1])
    pairs = zip(ahead.rollout.latents, ahead.latents, strict=True)
    apart = np.mean([normalised_distance(*pair, data) for pair in pairs], axis=(0, 1))
    kept = [name for name in ("observations", "rewards", "kl") if name not in ahead.left_out]
    yield f"open loop   distance of latents: {apart[0]:.3g} to {apart[-1]:.3g}; with {kept}"
    norm = torch.mean(jacobian_sizes(model, episodes, every=4, seed=seed)["frobenius"])
    steps = rows - START - 1
    grid: dict[str, Any] = {"start": START, "steps": steps, "discard": steps // 3, "exponents": 1}
    spectrum = model_lyapunov(model, episodes, seed=seed, **grid)
    yield f"stability   norm of the Jacobian {norm:.3g}, exponent {spectrum.estimates[0]} per step"

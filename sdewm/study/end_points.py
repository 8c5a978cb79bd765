"""The end points of a study, measured on a trained world model and recorded episodes.

"open_loop K"          mean ln squared error of the observation predicted K policy steps ahead
"decoded NAME:STRENGTH" mean ln squared error of the observation decoded from filtered latents, when
                        the encoder sees the perturbed one; strength 0 gives the clean error
"jacobian"             mean ln ‖J‖_F of the step (h, mean z) → (h', mean z')

Means are over test episodes, of logarithms, because errors of a few windows would dominate a mean
of errors. Smaller is better, except that "jacobian" is neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sdewm.base.stats import Estimate
from sdewm.data.recorded_episodes import Episodes, read_episodes
from sdewm.latent_sde.models import RSSMModel
from sdewm.model.world_model import WorldModel
from sdewm.model_theorems.episode_statistics import mean_estimate
from sdewm.model_theorems.stability import jacobian_sizes
from sdewm.open_loop.errors import squared_error
from sdewm.open_loop.predictions import open_loop
from sdewm.perturbations.observation import parse_perturbations
from sdewm.train.saved_agent import saved_agent

CONTEXT, ROWS, EVERY, SAMPLES, SETTLED = 20, 100, 10, 4, 10
KINDS = ("open_loop", "decoded", "jacobian")


def check_end_point(name: str) -> str:
    """Return the name of an end point, or raise ValueError.

    >>> check_end_point("open_loop 25")
    'open_loop 25'
    """
    kind, _, argument = str(name).partition(" ")
    if kind not in KINDS:
        raise ValueError(
            f"end_point={name!r}: expected 'open_loop K', 'decoded NAME:STRENGTH' or 'jacobian'."
        )
    if kind == "open_loop" and not (argument.isdecimal() and 1 <= int(argument) <= ROWS - CONTEXT):
        raise ValueError(f"end_point={name!r}: expected 1 to {ROWS - CONTEXT} policy steps.")
    if kind == "decoded" and len(parse_perturbations(argument)) != 1:
        raise ValueError(f"end_point={name!r}: expected one strength.")
    if kind == "jacobian" and argument:
        raise ValueError(f"end_point={name!r}: 'jacobian' takes nothing after it.")
    return name


def measure(run: Path, data: Path, end_points: Sequence[str], seed: int = 0) -> list[Estimate]:
    """The end points of a run, with standard errors over episodes.

    All runs are measured on the same windows and noise.

    Raises:
        ValueError: the run or the episodes cannot be used.
    """
    world_model = saved_agent(run).agent.world_model
    model = RSSMModel(world_model)
    episodes = read_episodes(data, steps=ROWS, count=None, window_seed=seed)
    found = []
    for name in end_points:
        kind, _, argument = check_end_point(name).partition(" ")
        if kind == "open_loop":
            found.append(_open_loop(model, episodes, int(argument), seed))
        elif kind == "decoded":
            found.append(_decoded(world_model, episodes, argument, seed))
        else:
            sizes = jacobian_sizes(model, episodes, every=EVERY, seed=seed)
            found.append(mean_estimate(sizes["frobenius"].log().mean(1).numpy()))
    return found


def _open_loop(model: RSSMModel, episodes: Episodes, steps: int, seed: int) -> Estimate:
    found = open_loop(model, episodes, context=CONTEXT, horizon=steps, samples=SAMPLES, seed=seed)
    errors = [squared_error(one, found.observations) for one in found.rollout.observations]
    return mean_estimate(np.log(np.mean(errors, 0)[:, steps - 1]))


@torch.no_grad()
def _decoded(world_model: WorldModel, episodes: Episodes, word: str, seed: int) -> Estimate:
    (perturbation,) = parse_perturbations(word)
    generator = torch.Generator().manual_seed(seed)
    clean = episodes.observations
    seen = perturbation(clean, generator) if perturbation.strength else clean
    shape, rssm = tuple(clean.shape[:2]), world_model.rssm
    state, _ = rssm.filter(
        world_model.encoder(seen),
        episodes.previous_actions.float(),
        torch.zeros(shape, dtype=torch.bool),
        rssm.latent.draw_noise(shape, generator),
    )
    decoded = world_model.decoder.predict(state.features)[:, SETTLED:].double().numpy()
    truth = clean[:, SETTLED:].double().numpy() / (255 if clean.dtype == torch.uint8 else 1)
    return mean_estimate(np.log(squared_error(decoded, truth).mean(1)))

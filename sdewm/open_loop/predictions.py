"""Open-loop predictions of a trained world model on recorded episodes, as arrays.

The predictive law after t observations o_{0:t} and actions a is sampled as the model defines it:

    z_0 … z_{t−1} ~ posterior given o_{0:t},    then z_{t−1+k} ~ prior,  k = 1 … H,

h and the actions being the recorded ones of each row and no observation being read after the first
t. Every sample draws its own z_0 … z_{t−1} too: what the posterior leaves open is part of the law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import RSSMModel
from sdewm.latent_sde.system import embed_by_time
from sdewm.model.rssm import State
from sdewm.model.world_model import WorldModel

STATES_AT_ONCE = 8192  # rows of all samples that go through the model together
DECODED_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Predictions:
    """Samples of what a model predicts of rows context − 1 + k, k = 1 … H.

    Attributes:
        observations: (S, E, H, *shape), the decoder's mean in the environment's units; images in
            [0, 1], clipped. The decoder's own noise is not drawn.
        rewards: (S, E, H), the mean of the reward head.
        latents: (S, E, H, F), the features [h, z] that both are read from.
        kl: (S, E, H), KL(posterior of the row ‖ the law that z was drawn from), in nats, exact.
    """

    observations: np.ndarray
    rewards: np.ndarray
    latents: np.ndarray
    kl: np.ndarray


@dataclass(frozen=True, eq=False)
class OpenLoop:
    """Predictions with what they are compared with; images are float32, all else float64.

    Attributes:
        context: t, the number of rows observed.
        observations: recorded, (E, H, *shape), images in [0, 1].
        rewards: recorded, (E, H).
        latents: features of the posterior given the whole history of each row (teacher forcing),
            (S, E, H, F). Sample s goes on from the same z_0 … z_{t−1} as rollout s.
        last_observation: of row t − 1, (E, *shape).
        last_reward: (E,).
        last_latent: (S, E, F), where the rollouts start.
        rollout: the open-loop predictions.
        one_step: the same from the posterior of the row before, with the same noise as the rollout:
            at k = 1 they are equal.
        shuffled_kl: (S, E, H), KL(posterior of the row ‖ prior of the rollout of another episode at
            another k, drawn at random): the ceiling.
    """

    context: int
    observations: np.ndarray
    rewards: np.ndarray
    latents: np.ndarray
    last_observation: np.ndarray
    last_reward: np.ndarray
    last_latent: np.ndarray
    rollout: Predictions
    one_step: Predictions
    shuffled_kl: np.ndarray


class _Inputs(NamedTuple):
    """Rows 0 … t − 1 + H, (E, T, …), on the model's device."""

    embeds: Tensor
    actions: Tensor
    context: int


def open_loop(
    world_model: WorldModel | RSSMModel,
    episodes: Episodes,
    *,
    context: int,
    horizon: int,
    samples: int,
    seed: int,
) -> OpenLoop:
    """Sampled rollouts of the prior under the recorded actions, and what they should have been.

    The model is taken in float64, with its own latents (one-hot ones are drawn, not replaced). The
    KL divergence of sample s at k compares the posterior at h of the teacher-forced path s with the
    prior at h of rollout s; at k = 1, where both have one h, it is that of the dyn loss.

    Memory: the results, 3 S·E·H·F numbers of latents and 2 S·E·H images, about twice, and the
    states of `STATES_AT_ONCE` rows.

    Args:
        world_model: with its decoder and reward head.
        episodes: recorded, at least two, from their first row.
        context: t ≥ 1, rows observed.
        horizon: H ≥ 1, rows predicted.
        samples: S ≥ 2, rollouts of each episode.
        seed: of all draws. More samples leave the first ones as they are.

    Raises:
        ValueError: no `WorldModel` (a `StepModel` has no decoder), fewer than two episodes or
            samples, fewer rows than context + horizon, or observations or actions of a shape that
            the model does not take.

    >>> from sdewm.model.rssm import RSSMConfig
    >>> from sdewm.model.world_model import WorldModelConfig
    >>> rssm = RSSMConfig(deter=8, hidden=8, blocks=2, groups=2, classes=3)
    >>> config = WorldModelConfig(rssm, units=8, vector_layers=1, bins=21)
    >>> model = WorldModel(config, (4,), 1, torch.Generator().manual_seed(0))
    >>> rows = Episodes(torch.ones(3, 9, 4), torch.zeros(3, 9, 1), torch.zeros(3, 9))
    >>> found = open_loop(model, rows, context=4, horizon=5, samples=2, seed=0)
    >>> found.rollout.observations.shape, found.latents.shape, found.observations.shape
    ((2, 3, 5, 4), (2, 3, 5, 14), (3, 5, 4))
    >>> np.allclose(found.rollout.latents[:, :, 0], found.one_step.latents[:, :, 0])
    True
    """
    model = _with_decoder(world_model)
    _check_sizes(episodes, context, horizon, samples, seed)
    rows, count = context + horizon, len(episodes.rewards)
    device = next(model.world_model.parameters()).device
    seen = episodes.observations[:, :rows]
    inputs = _Inputs(
        embed_by_time(model, seen.to(device)).transpose(0, 1),
        episodes.previous_actions[:, :rows].to(device).double(),
        context,
    )
    _check_actions(model, inputs.actions)
    generator = torch.Generator(device).manual_seed(seed)
    at_once, parts = max(1, STATES_AT_ONCE // (count * rows)), []
    progress = Progress("open-loop predictions", samples)
    try:
        for start in range(0, samples, at_once):
            drawn = [  # sample after sample, so that the chunks make no difference
                (
                    model.draw_noise((count, rows), generator),
                    model.draw_noise((count, horizon), generator),
                    torch.rand(1 + horizon, generator=generator, device=device),
                )
                for _ in range(start, min(start + at_once, samples))
            ]
            parts.append(_predict(model, inputs, *map(torch.stack, zip(*drawn, strict=True))))
            progress.update(min(start + at_once, samples))
    finally:
        progress.close()
    truth = (seen / 255 if seen.dtype == torch.uint8 else seen.double()).cpu().numpy()
    rewards = episodes.rewards[:, :rows].double().cpu().numpy()
    latents, last_latent, shuffled_kl = _join([part[0] for part in parts])
    return OpenLoop(
        context,
        truth[:, context:],
        rewards[:, context:],
        latents,
        truth[:, context - 1],
        rewards[:, context - 1],
        last_latent,
        Predictions(*_join([part[1] for part in parts])),
        Predictions(*_join([part[2] for part in parts])),
        shuffled_kl,
    )


Arrays = tuple[np.ndarray, ...]


@torch.no_grad()
def _predict(
    model: RSSMModel, inputs: _Inputs, filtering: Tensor, rolling: Tensor, shuffling: Tensor
) -> tuple[Arrays, Arrays, Arrays]:
    """Posterior latents, rollouts and one-step predictions of some samples, each (S, E, …).

    Noise: of the posterior (S, E, T, …) and of the prior (S, E, H, …), uniforms (S, 1 + H).
    """
    rssm, context = model.rssm, inputs.context
    copies, count = filtering.shape[:2]
    filtering, rolling = filtering.flatten(0, 1), rolling.flatten(0, 1)
    embeds, actions = (x.repeat(copies, 1, 1) for x in (inputs.embeds, inputs.actions))  # (S·E, …)
    within = torch.zeros(actions.shape[:2], dtype=torch.bool, device=actions.device)
    seen = rssm.observe(embeds, actions, within, filtering)
    posterior = seen.posterior[:, context:]

    state = State(*(part[:, context - 1] for part in seen.state))
    states, laws = [], []
    for k, noise in enumerate(rolling.unbind(1)):  # k + 1 steps after the last observed row
        deter = rssm.deterministic(state, actions[:, context + k])
        laws.append(rssm.prior(deter))
        state = State(deter, rssm.latent.sample(laws[-1], noise))
        states.append(state.features)
    prior = torch.stack(laws, 1)

    nearer = seen.prior[:, context:]
    one_step = State(seen.state.deter[:, context:], rssm.latent.sample(nearer, rolling))

    def apart(x: Tensor) -> Tensor:
        return x.unflatten(0, (copies, count))

    others = [_elsewhere(law, u) for law, u in zip(apart(prior), shuffling, strict=True)]
    shuffled = rssm.latent.kl(apart(posterior), torch.stack(others))
    features = seen.state.features
    of_posterior = (apart(features[:, context:]), apart(features[:, context - 1]), shuffled)
    return (
        tuple(x.cpu().numpy() for x in of_posterior),
        _decoded(model, apart(torch.stack(states, 1)), apart(rssm.latent.kl(posterior, prior))),
        _decoded(model, apart(one_step.features), apart(rssm.latent.kl(posterior, nearer))),
    )


def _decoded(model: RSSMModel, features: Tensor, kl: Tensor) -> Arrays:
    """The fields of `Predictions`, in order."""
    decoder, head = model.world_model.decoder, model.world_model.reward
    observations, rewards = [], []
    for part in features.flatten(0, 2).split(DECODED_AT_ONCE):
        predicted = decoder.predict(part)
        if predicted.dim() == 4:  # some image decoders have no bounds
            predicted = predicted.clamp(0, 1).float()
        observations.append(predicted.cpu())
        rewards.append(head.mean(head(part)).cpu())
    lead = features.shape[:3]
    return (
        torch.cat(observations).unflatten(0, lead).numpy(),
        torch.cat(rewards).unflatten(0, lead).numpy(),
        features.cpu().numpy(),
        kl.clamp(min=0).cpu().numpy(),  # of equal laws it is zero to rounding
    )


def _join(parts: Sequence[Arrays]) -> list[np.ndarray]:
    """The samples of all parts side by side, field by field."""
    return [np.concatenate(fields) for fields in zip(*parts, strict=True)]


def _elsewhere(law: Tensor, uniforms: Tensor) -> Tensor:
    """Of (E, H, …) that of another episode, at permuted steps; `uniforms` (1 + H) decide which."""
    shift = 1 + int(uniforms[0] * (len(law) - 1))
    return law.roll(shift, 0)[:, uniforms[1:].argsort()]


def _with_decoder(world_model: object) -> RSSMModel:
    if isinstance(world_model, WorldModel):
        return RSSMModel(world_model)
    if not isinstance(world_model, RSSMModel):
        raise ValueError(
            f"world_model={type(world_model).__name__}: expected a sdewm WorldModel or RSSMModel, "
            "which have a decoder and a reward head."
        )
    return world_model


def _check_sizes(
    episodes: object, context: object, horizon: object, samples: object, seed: object
) -> None:
    if not isinstance(episodes, Episodes):
        raise ValueError(f"episodes={type(episodes).__name__}: expected a sdewm.Episodes.")
    needed = check_count("context", context) + check_count("horizon", horizon)
    check_count("samples", samples, minimum=2)
    check_count("seed", seed, minimum=0)
    count, there = episodes.rewards.shape[:2]
    if count < 2:
        raise ValueError(f"episodes: E = {count}; expected at least two.")
    if there < needed:
        raise ValueError(
            f"context={context!r}, horizon={horizon!r}: expected episodes of at least {needed} "
            f"rows, got {there}."
        )


def _check_actions(model: RSSMModel, actions: Tensor) -> None:
    try:
        model.rssm.cell.embed_action(actions[:, 0])
    except RuntimeError as problem:
        raise ValueError(
            f"previous_actions {tuple(actions.shape)}: the model takes others: {problem}"
        ) from problem

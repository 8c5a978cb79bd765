"""Open-loop predictions of a trained world model on recorded episodes, as arrays.

The predictive distribution after t observations o_{0:t} and actions a is that of the model:

    z_0 … z_{t−1} ~ posterior given o_{0:t},    then z_{t−1+k} ~ prior,  k = 1 … H,

with the recorded actions, and without any observation after the first t. Every sample draws its
own z_0 … z_{t−1}, so that posterior uncertainty is part of the predictive distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdewm.base.arrays import check_array
from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.inputs import embed_by_time
from sdewm.latent_sde.models import RSSMModel
from sdewm.model.rssm import State
from sdewm.model.world_model import WorldModel

STATES_AT_ONCE = 8192  # rows, over all samples, processed by the model in one batch
DECODED_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Predictions:
    """Sampled predictions of the rows context − 1 + k, k = 1 … H.

    Attributes:
        observations: (S, E, H, *shape), the decoder's mean in the environment's units; images
            clipped to [0, 1]. The decoder's observation noise is not sampled.
        rewards: (S, E, H), the mean of the reward head.
        latents: (S, E, H, F), the features [h, z], the input of both heads.
        kl: (S, E, H), KL(posterior of the row ‖ distribution from which z was drawn), in nats, in
            closed form.
    """

    observations: np.ndarray
    rewards: np.ndarray
    latents: np.ndarray
    kl: np.ndarray


@dataclass(frozen=True, eq=False)
class OpenLoop:
    """Predictions with their targets and references; images are float32, all else float64.

    The arrays are checked here, once; the metrics rely on it.

    Attributes:
        context: t, the number of observed rows.
        observations: (E, H, *shape), recorded; images in [0, 1].
        rewards: (E, H), recorded.
        latents: (S, E, H, F), posterior features given all observations up to each row (teacher
            forcing). Sample s continues from the same z_0 … z_{t−1} as rollout s.
        last_observation: (E, *shape), of row t − 1.
        last_reward: (E,), of row t − 1.
        last_latent: (S, E, F), the initial features of the rollouts.
        rollout: the open-loop predictions.
        one_step: predictions from the posterior of the previous row, with the noise of the rollout;
            at k = 1 they equal the rollout.
        shuffled_kl: (S, E, H), KL(posterior of the row ‖ prior of the rollout of another episode at
            another k, drawn at random): the ceiling.

    Raises:
        ValueError: arrays of other shapes, values that are not finite, images outside [0, 1].
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

    def __post_init__(self) -> None:
        latents = check_array("latents", self.latents, "(S, E, H, F)")
        samples, episodes, horizon, size = latents.shape
        each, shape = (episodes, horizon), self.observations.shape[2:]
        drawn = (samples, *each)
        wanted: dict[str, tuple[int, ...]] = {
            "observations": (*each, *shape),
            "rewards": each,
            "last_observation": (episodes, *shape),
            "last_reward": (episodes,),
            "last_latent": (samples, episodes, size),
            "shuffled_kl": drawn,
        }
        arrays = {name: getattr(self, name) for name in wanted}
        for part in ("rollout", "one_step"):
            fields = {"observations": shape, "rewards": (), "latents": (size,), "kl": ()}
            wanted |= {f"{part}.{name}": (*drawn, *rest) for name, rest in fields.items()}
            arrays |= {f"{part}.{name}": getattr(getattr(self, part), name) for name in fields}
        for name, array in arrays.items():
            check_array(name, array, str(wanted[name]))
            if array.shape != wanted[name]:
                raise ValueError(f"{name} {array.shape}: expected {wanted[name]}.")
            image = name.endswith(("observations", "last_observation")) and len(shape) == 3
            if image and (array.min() < 0 or array.max() > 1):
                raise ValueError(
                    f"{name}: values from {array.min():.4g} to {array.max():.4g}; "
                    "expected images in [0, 1]: scale or clip them."
                )


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
    """Sampled rollouts of the prior under the recorded actions, with their targets.

    The model runs in float64 with its own latents: one-hot latents are sampled, not replaced. The
    KL divergence of sample s at k compares the posterior on the teacher-forced path s with the
    prior on rollout s. At k = 1 both have the same h, and it is the KL divergence of the dyn loss.

    Memory: about twice the size of the results (3 S·E·H·F numbers of latents and 2 S·E·H images),
    and the states of `STATES_AT_ONCE` rows.

    Args:
        world_model: a world model with decoder and reward head.
        episodes: recorded, at least two, from their first row.
        context: t ≥ 1, number of observed rows.
        horizon: H ≥ 1, number of predicted rows.
        samples: S ≥ 2, number of rollouts of each episode.
        seed: seed of all noise. The first samples do not depend on the number of samples.

    Raises:
        ValueError: not a `WorldModel` (a `StepModel` has no decoder), fewer than two episodes or
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
            drawn = [  # sample by sample, so that the result does not depend on the batches
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

    The noise is `filtering` (S, E, T, …) for the posterior, `rolling` (S, E, H, …) for the prior
    and the uniforms `shuffling` (S, 1 + H).
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
        if predicted.dim() == 4:  # the output of some image decoders is unbounded
            predicted = predicted.clamp(0, 1).float()
        observations.append(predicted.cpu())
        rewards.append(head.mean(head(part)).cpu())
    lead = features.shape[:3]
    return (
        torch.cat(observations).unflatten(0, lead).numpy(),
        torch.cat(rewards).unflatten(0, lead).numpy(),
        features.cpu().numpy(),
        kl.clamp(min=0).cpu().numpy(),  # zero up to rounding for equal distributions
    )


def _join(parts: Sequence[Arrays]) -> list[np.ndarray]:
    """Concatenate the samples of all parts, field by field."""
    return [np.concatenate(fields) for fields in zip(*parts, strict=True)]


def _elsewhere(law: Tensor, uniforms: Tensor) -> Tensor:
    """Entries (E, H, …) of another episode at permuted steps, selected by `uniforms` (1 + H,)."""
    shift = 1 + int(uniforms[0] * (len(law) - 1))
    return law.roll(shift, 0)[:, uniforms[1:].argsort()]


def _with_decoder(world_model: object) -> RSSMModel:
    if isinstance(world_model, WorldModel):
        return RSSMModel(world_model)
    if not isinstance(world_model, RSSMModel):
        raise ValueError(
            f"world_model={type(world_model).__name__}: expected a sdewm WorldModel or RSSMModel, "
            "because a decoder and a reward head are needed."
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
            f"previous_actions {tuple(actions.shape)}: the model takes another shape: {problem}"
        ) from problem

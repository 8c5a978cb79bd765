"""Open-loop predictions of a trained world model on recorded episodes, as arrays.

The predictive distribution after t observations o_{0:t} and actions a is that of the model:

    z_0 … z_{t−1} ~ posterior given o_{0:t},    then z_{t−1+k} ~ prior,  k = 1 … H,

with the recorded actions, and without any observation after the first t. Every sample draws its
own z_0 … z_{t−1}, so that posterior uncertainty is part of the predictive distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdewm.base.arrays import require_array
from sdewm.base.checks import check_choice, check_count
from sdewm.base.progress import Progress
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.inputs import embed_by_time
from sdewm.latent_sde.model_contract import episode_inputs, require_model
from sdewm.latent_sde.model_parts import missing_part
from sdewm.latent_sde.models import LatentModel, as_latent_model
from sdewm.latent_sde.posterior_paths import filter_states
from sdewm.model.world_model import WorldModel

PARTS = {"observations": "decoder", "rewards": "reward", "kl": "kl"}  # of the model, by field
STATES_AT_ONCE = 8192  # rows, over all samples, processed by the model in one batch
DECODED_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Predictions:
    """Sampled predictions of the rows context − 1 + k, k = 1 … H.

    Fields for which the model has no part have no numbers: their last axis has size 0.

    Attributes:
        observations: (S, E, H, *shape), the decoder's mean in the environment's units; images
            clipped to [0, 1]. The decoder's observation noise is not sampled.
        rewards: (S, E, H), the mean of the reward head.
        latents: (S, E, H, F), the states [h, z], the input of both heads.
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
        left_out: field of `Predictions` that has no numbers -> the reason.

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
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        latents = require_array("latents", self.latents, "(S, E, H, F)")
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
        for name in self.left_out:
            check_choice("left_out contains a field", name, PARTS)
            absent = [f"{part}.{name}" for part in ("rollout", "one_step")]
            for one in [*absent, *(["shuffled_kl"] if name == "kl" else [])]:
                if arrays.pop(one).size:
                    raise ValueError(f"{one} has numbers: expected none, as it is left out.")
        for name, array in arrays.items():
            require_array(name, array, str(wanted[name]))
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
    world_model: WorldModel | LatentModel,
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
        world_model: a `WorldModel` or any `LatentModel` that takes observations. What needs a
            decoder, a reward head or the divergence `kl` is left out where the model has none.
        episodes: recorded, at least two, from their first row.
        context: t ≥ 1, number of observed rows.
        horizon: H ≥ 1, number of predicted rows.
        samples: S ≥ 2, number of rollouts of each episode.
        seed: seed of all noise. The first samples do not depend on the number of samples.

    Raises:
        ValueError: fewer than two episodes or samples, fewer rows than context + horizon, or
            something that `sdewm.check_model` finds (derivatives are not looked at).

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
    model = as_latent_model(world_model)
    _check_sizes(episodes, context, horizon, samples, seed)
    rows, count = context + horizon, len(episodes.rewards)
    used = episodes.first_rows(rows)
    found = {name: missing_part(model, part) for name, part in PARTS.items()}
    left_out = {name: reason for name, reason in found.items() if reason is not None}
    there = tuple(part for name, part in PARTS.items() if name not in left_out)
    device, seen = model.initial(1).device, used.observations
    used = Episodes(seen.to(device), used.previous_actions.to(device), used.rewards.to(device))
    require_model(model, episode_inputs(used), prior=True, parts=there)
    inputs = _Inputs(
        embed_by_time(model, used.observations).transpose(0, 1),
        used.previous_actions.double(),
        context,
    )
    generator = torch.Generator(device).manual_seed(seed)
    at_once, results = max(1, STATES_AT_ONCE // (count * rows)), _Results(samples)
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
            stacked = map(torch.stack, zip(*drawn, strict=True))
            results.fill(start, _predict(model, inputs, *stacked))
            progress.update(min(start + at_once, samples))
    finally:
        progress.close()
    truth = (seen / 255 if seen.dtype == torch.uint8 else seen.double()).cpu().numpy()
    rewards = episodes.rewards[:, :rows].double().cpu().numpy()
    (latents, last_latent, shuffled_kl), rollout, one_step = results.arrays
    return OpenLoop(
        context,
        truth[:, context:],
        rewards[:, context:],
        latents,
        truth[:, context - 1],
        rewards[:, context - 1],
        last_latent,
        Predictions(*rollout),
        Predictions(*one_step),
        shuffled_kl,
        left_out,
    )


Arrays = tuple[np.ndarray, ...]


class _Results:
    """Arrays of all samples, filled as these are computed: images are too many to keep twice."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.arrays: list[list[np.ndarray]] = []

    def fill(self, start: int, found: Sequence[Arrays]) -> None:
        """Write the arrays of the samples from `start` on."""
        if not self.arrays:
            self.arrays = [
                [np.empty((self.samples, *one.shape[1:]), one.dtype) for one in part]
                for part in found
            ]
        for there, here in zip(self.arrays, found, strict=True):
            for whole, some in zip(there, here, strict=True):
                whole[start : start + len(some)] = some


@torch.no_grad()
def _predict(
    model: LatentModel, inputs: _Inputs, filtering: Tensor, rolling: Tensor, shuffling: Tensor
) -> tuple[Arrays, Arrays, Arrays]:
    """Posterior latents, rollouts and one-step predictions of some samples, each (S, E, …).

    The noise is `filtering` (S, E, T, …) for the posterior, `rolling` (S, E, H, …) for the prior
    and the uniforms `shuffling` (S, 1 + H).
    """
    context, (copies, count) = inputs.context, filtering.shape[:2]
    filtering, rolling = filtering.flatten(0, 1), rolling.flatten(0, 1)
    embeds, actions = (  # (S·E, …)
        table.repeat(copies, *[1] * (table.dim() - 1)) for table in (inputs.embeds, inputs.actions)
    )
    seen, predicted = filter_states(model, actions, embeds, filtering)
    state, states, imagined = seen[:, context - 1], [], []
    for k, noise in enumerate(rolling.unbind(1)):  # k + 1 steps after the last observed row
        state, mean = model.sample(state, actions[:, context + k], None, noise)
        states.append(state)
        imagined.append(mean)
    after = slice(context, None)
    previous, action = seen[:, context - 1 : -1].flatten(0, 1), actions[:, after].flatten(0, 1)
    nearer, means = model.sample(previous, action, None, rolling.flatten(0, 1))

    def apart(x: Tensor) -> Tensor:
        return x.unflatten(0, (copies, count))

    def divergence(priors: Tensor) -> Tensor:
        return _divergence(model, predicted[:, after], embeds[:, after], priors)

    rollout = torch.stack(imagined, 1)
    pairs = zip(apart(rollout), shuffling, strict=True)
    others = torch.cat([_elsewhere(prior, u) for prior, u in pairs])
    lead = rolling.shape[:2]
    of_posterior = (seen[:, after], seen[:, context - 1], divergence(others))
    return (
        tuple(apart(x).cpu().numpy() for x in of_posterior),
        _decoded(model, apart(torch.stack(states, 1)), apart(divergence(rollout))),
        _decoded(
            model,
            apart(nearer.unflatten(0, lead)),
            apart(divergence(means.unflatten(0, lead))),
        ),
    )


def _divergence(model: LatentModel, seen: Tensor, embeds: Tensor, priors: Tensor) -> Tensor:
    """KL(posterior ‖ prior) at rows (N, H, …): (N, H), or (N, H, 0) without it."""
    kl = getattr(model, PARTS["kl"], None)
    if kl is None:
        return seen.new_zeros(*seen.shape[:2], 0)
    found = kl(seen.flatten(0, 1), embeds.flatten(0, 1), priors.flatten(0, 1))
    return found.clamp(min=0).unflatten(0, seen.shape[:2])  # zero up to rounding where equal


def _decoded(model: LatentModel, states: Tensor, kl: Tensor) -> Arrays:
    """The fields of `Predictions`, in order."""
    decoder, reward = (getattr(model, name, None) for name in ("decoder", "reward"))
    lead, flat = states.shape[:3], states.flatten(0, 2)
    nothing = states.new_zeros(*lead, 0).cpu()
    observations, rewards = [], []
    for part in flat.split(DECODED_AT_ONCE):
        if decoder is not None:
            predicted = decoder.predict(part)
            if predicted.dim() == 4:  # the output of some image decoders is unbounded
                predicted = predicted.clamp(0, 1).float()
            observations.append(predicted.cpu())
        if reward is not None:
            rewards.append(reward(part).cpu())
    return (
        (torch.cat(observations).unflatten(0, lead) if observations else nothing).numpy(),
        (torch.cat(rewards).unflatten(0, lead) if rewards else nothing).numpy(),
        states.cpu().numpy(),
        kl.cpu().numpy(),
    )


def _elsewhere(law: Tensor, uniforms: Tensor) -> Tensor:
    """Entries (E, H, …) of another episode at permuted steps, selected by `uniforms` (1 + H,)."""
    shift = 1 + int(uniforms[0] * (len(law) - 1))
    return law.roll(shift, 0)[:, uniforms[1:].argsort()]


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

"""Digests that tell one world model from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from sdewm.data.recorded_episodes import Episodes
from sdewm.jacobian.step_contract import reached_parts
from sdewm.latent_sde.models import LatentModel, factored_law
from sdewm.latent_sde.posterior_paths import clean_paths

EPISODES, ROWS = 4, 4  # on which the outputs are compared


def tensors_digest(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of the shapes, types and bytes of tensors, 16 hexadecimal digits.

    >>> tensors_digest([torch.zeros(2)]) == tensors_digest([torch.zeros(2, 1)])
    False
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype} {tuple(plain.shape)} ".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_digest_of(model: object) -> str:
    """Digest of all tensors and arrays that a model holds, also in closures and containers."""
    found: list[Tensor] = []
    for part in reached_parts(model):
        if isinstance(part, torch.nn.Module):
            found += [one for one in part._parameters.values() if one is not None]
        elif isinstance(part, Tensor):
            found.append(part)
        elif isinstance(part, np.ndarray) and part.dtype.kind in "biuf":
            found.append(torch.from_numpy(np.ascontiguousarray(part)))
    return tensors_digest(found)


@torch.no_grad()
def outputs_digest(model: LatentModel, episodes: Episodes) -> str:
    """Digest of what the functions of a model return on the first rows of a few episodes.

    It also tells models apart that differ by a number in the code of a function, also of one that
    no other is made of: the loss of a decoder, a divergence, or sizes of the noise.
    """
    first = Episodes(
        episodes.observations[:EPISODES, :ROWS],
        episodes.previous_actions[:EPISODES, :ROWS],
        episodes.rewards[:EPISODES, :ROWS],
    )
    paths = clean_paths(model, first)
    states, predicted = paths.states.flatten(0, 1), paths.predicted.flatten(0, 1)
    embeds, actions = paths.embeds.flatten(0, 1), first.previous_actions.double().flatten(0, 1)
    found = [paths.states, paths.predicted, paths.embeds, *model.moments(predicted, embeds)]
    found += model.law(states[:1], actions[:1], None)
    mean, factor = factored_law(model, states, actions, None)  # no matrix at the other states
    found += [mean, factor.product(mean.new_ones(len(mean), model.noise_size))]
    decoder = getattr(model, "decoder", None)
    if decoder is not None:
        seen = first.observations.flatten(0, 1)
        seen = seen.double() if seen.is_floating_point() else seen
        found += [decoder.predict(states), decoder.loss(states, seen)]
    if (kl := getattr(model, "kl", None)) is not None:
        found.append(kl(predicted, embeds, predicted))
    if (sizes := getattr(model, "step_moments", None)) is not None:
        found += sizes(states, actions)
    for name in ("reward", "critic", "policy"):
        part = getattr(model, name, None)
        if part is not None:
            found.append(part(states))
    return tensors_digest(found)

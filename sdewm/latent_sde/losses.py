"""Losses of a trained world model as functions of the state of its system, for expansions."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from sdewm.latent_sde.models import RSSMModel
from sdewm.latent_sde.system import LatentSystem
from sdewm.model.heads import ScalarHead
from sdewm.model.world_model import WorldModel

Loss = Callable[[Tensor], Tensor]


def reconstruction_loss(system: LatentSystem, observations: Tensor) -> Loss:
    """The decoder's loss against the observation of the state's episode: y (B, D) -> (B,).

    Args:
        system: the system of a `WorldModel`.
        observations: (E, *shape), the observations at the time of the loss.

    Raises:
        ValueError: the system of another kind of model, or another number of episodes.
    """
    model = _world_model(system)
    targets = observations if observations.dtype == torch.uint8 else observations.double()
    _check_episodes("observations", system, targets)

    def loss(y: Tensor) -> Tensor:
        return model.decoder.loss(_features(system, y), _of_episode(system, targets, y))

    return loss


def reward_loss(system: LatentSystem, rewards: Tensor) -> Loss:
    """The squared error (r̂ − r)² of the predicted mean reward: y (B, D) -> (B,).

    Args:
        system: the system of a `WorldModel`.
        rewards: (E,), the rewards at the time of the loss.

    Raises:
        ValueError: as `reconstruction_loss`.
    """
    model = _world_model(system)
    targets = rewards.double()
    _check_episodes("rewards", system, targets)

    def loss(y: Tensor) -> Tensor:
        predicted = model.reward.mean(model.reward(_features(system, y)))
        return (predicted - _of_episode(system, targets, y)) ** 2

    return loss


def value(system: LatentSystem, critic: ScalarHead) -> Loss:
    """The critic's mean return: y (B, D) -> (B,), from a copy of the critic in float64.

    Args:
        system: the system of a `WorldModel`.
        critic: a value head on the features of that model.
    """
    wide = copy.deepcopy(critic).double().requires_grad_(False)
    return lambda y: wide.mean(wide(_features(system, y)))


def _world_model(system: LatentSystem) -> WorldModel:
    if not isinstance(system.model, RSSMModel):
        raise ValueError(
            f"system is of a {type(system.model).__name__}: expected that of a sdewm WorldModel; "
            "for other models, pass a function of the state as the loss."
        )
    return system.model.world_model


def _features(system: LatentSystem, y: Tensor) -> Tensor:
    return y[:, : system.model.state_size]


def _check_episodes(name: str, system: LatentSystem, table: Tensor) -> None:
    if len(table) != system.episodes:
        raise ValueError(f"{name} of {len(table)} episodes: expected {system.episodes}.")


def _of_episode(system: LatentSystem, table: Tensor, y: Tensor) -> Tensor:
    if system.episodes == 1:
        return table.expand(len(y), *table.shape[1:])
    return table.index_select(0, y[:, -1].round().long())

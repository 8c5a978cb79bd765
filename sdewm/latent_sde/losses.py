"""Losses of a trained world model as functions of the state of its system, for expansions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sdewm.base.checks import check_output
from sdewm.latent_sde.model_parts import HeadMean, required_part
from sdewm.latent_sde.system import LatentSystem
from sdewm.model.heads import ScalarHead

Loss = Callable[[Tensor], Tensor]


def reconstruction_loss(system: LatentSystem, observations: Tensor) -> Loss:
    """The decoder's loss against the observation of the state's episode: y (B, D) -> (B,).

    Args:
        system: the system of a world model with a decoder.
        observations: (E, *shape), the observations at the time of the loss.

    Raises:
        ValueError: a model without a decoder, or another number of episodes.
    """
    decoder = required_part(system.model, "decoder")
    targets = observations if observations.dtype == torch.uint8 else observations.double()
    _check_episodes("observations", system, targets)

    def loss(y: Tensor) -> Tensor:
        return decoder.loss(_features(system, y), _of_episode(system, targets, y))

    return loss


def reward_loss(system: LatentSystem, rewards: Tensor) -> Loss:
    """The squared error (r̂ − r)² of the predicted mean reward: y (B, D) -> (B,).

    Args:
        system: the system of a world model with a reward head.
        rewards: (E,), the rewards at the time of the loss.

    Raises:
        ValueError: a model without a reward head, or another number of episodes.
    """
    reward = required_part(system.model, "reward")
    targets = rewards.double()
    _check_episodes("rewards", system, targets)

    def loss(y: Tensor) -> Tensor:
        predicted = _of_state("reward", reward, system, y)
        return (predicted - _of_episode(system, targets, y)) ** 2

    return loss


def value(system: LatentSystem, critic: ScalarHead | None = None) -> Loss:
    """The critic's mean return: y (B, D) -> (B,).

    Args:
        system: a system of a world model.
        critic: a value head on the states of that model, of which a copy in float64 is used; None:
            the critic of the model.

    Raises:
        ValueError: neither a critic nor a model that has one.
    """
    mean = required_part(system.model, "critic") if critic is None else HeadMean(critic)
    return lambda y: _of_state("critic", mean, system, y)


def _of_state(name: str, head: Loss, system: LatentSystem, y: Tensor) -> Tensor:
    """The number of each state; ValueError for another shape."""
    return check_output(name, head(_features(system, y)), (len(y),), like=y)


def _features(system: LatentSystem, y: Tensor) -> Tensor:
    return y[:, : system.model.state_size]


def _check_episodes(name: str, system: LatentSystem, table: Tensor) -> None:
    if len(table) != system.episodes:
        raise ValueError(f"{name} of {len(table)} episodes: expected {system.episodes}.")


def _of_episode(system: LatentSystem, table: Tensor, y: Tensor) -> Tensor:
    if system.episodes == 1:
        return table.expand(len(y), *table.shape[1:])
    return table.index_select(0, y[:, -1].round().long())

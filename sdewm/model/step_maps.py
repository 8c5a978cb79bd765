"""The smooth maps of an RSSM whose Jacobians are penalised and monitored.

Each map is a step of `sdewm.jacobian.penalty`: a function of the tensors with respect to which it
is differentiated, with everything else held fixed. A sample of the latent is not a smooth function
of the state. Maps therefore return the mean and the standard deviation of the next stoch: for
one-hot groups the probabilities π and √(π(1 − π)). For a reparameterised sample z' = m + s·ξ, the
mean over ξ of ‖∂z'‖_F² is exactly ‖∂m‖_F² + ‖∂s‖_F².
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from sdewm.jacobian.penalty_config import PenaltyConfig
from sdewm.model.rssm import RSSM, State

FeaturePolicy = Callable[[Tensor], Tensor]  # features (N, F) to actions (N, A)


class StepMap(NamedTuple):
    """A step and the tensors with respect to which it is differentiated."""

    step: Callable[..., tuple[Tensor, ...]]
    inputs: tuple[Tensor, ...]


def mean_step(rssm: RSSM, state: State, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The full step (h', mean', std'), each (N, …): smooth in all arguments."""
    deter = rssm.deterministic(state, action)
    stats = rssm.prior(deter)
    return deter, rssm.latent.mean(stats), rssm.latent.std(stats)


def chosen_map(
    config: PenaltyConfig,
    rssm: RSSM,
    state: State,
    actions: Tensor,
    embed: Tensor,
    policy: FeaturePolicy | None,
) -> StepMap:
    """The map selected by the configuration, at N states.

    Args:
        config: `map`, `inputs`, `policy` and `steps` are used.
        rssm: the dynamics.
        state: N states; pass them detached, so that the penalty shapes the map and not the states.
        actions: (N, steps, A), the actions taken in these states; unused if the policy is included.
        embed: (N, E), used by the map "posterior" only, which is differentiated with respect to h
            or, with inputs "both", to h and the embed (as in GPLD, where the gradient also reaches
            the encoder and the GRU; here both are given).
        policy: the policy's mean action as a function of features; used if `config.policy` is
            "included".
    """

    def act(now: State, step: int) -> Tensor:
        if config.policy == "included":
            assert policy is not None  # guaranteed by the caller
            return policy(now.features)
        return actions[:, step]

    def deterministic(now: State) -> tuple[Tensor, ...]:
        return (rssm.deterministic(now, act(now, 0)),)

    def several(now: State) -> tuple[Tensor, ...]:
        steps = config.steps if config.map == "multi_step" else 1
        deter, mean, std = mean_step(rssm, now, act(now, 0))
        for step in range(1, steps):
            now = State(deter, mean)
            deter, mean, std = mean_step(rssm, now, act(now, step))
        return deter, mean, std

    def moments(stats: Tensor) -> tuple[Tensor, ...]:
        return rssm.latent.mean(stats), rssm.latent.std(stats)

    deter, stoch = state
    if config.map == "prior":
        return StepMap(lambda h: moments(rssm.prior(h)), (deter,))
    if config.map == "posterior":
        if config.inputs == "deter":
            return StepMap(lambda h: moments(rssm.posterior(h, embed)), (deter,))
        return StepMap(lambda h, e: moments(rssm.posterior(h, e)), (deter, embed))
    whole = deterministic if config.map == "deterministic" else several
    if config.inputs == "deter":
        return StepMap(lambda h: whole(State(h, stoch)), (deter,))
    if config.inputs == "stoch":
        return StepMap(lambda z: whole(State(deter, z)), (stoch,))
    return StepMap(lambda h, z: whole(State(h, z)), (deter, stoch))


def output_size(config: PenaltyConfig, rssm: RSSM) -> int:
    """Number C of outputs of the chosen map."""
    latent = 2 * rssm.latent.size
    if config.map in ("prior", "posterior"):
        return latent
    return rssm.deter_size + (0 if config.map == "deterministic" else latent)

"""A world model with its inputs as a stochastic differential equation (S21, S27).

With time in steps of the model, the step x' = F(x) + G(x) ξ becomes a system with

    drift (F(x) − x)/τ,    diffusion G(x)/√τ.

One Euler–Maruyama step of length τ is then the model's step. Checks of a model use the default
τ = 1 with steps of length 1; a smaller step with the same τ refines the residual form.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from sdewm.base.checks import check_choice, check_count, check_finite_number
from sdewm.latent_sde.inputs import LatentPolicy, ModelInputs, model_inputs, recorded_embeds
from sdewm.latent_sde.model_contract import require_model
from sdewm.latent_sde.models import (
    LatentModel,
    RSSMModel,
    StepModel,
    as_latent_model,
    factored_law,
)
from sdewm.latent_sde.noise_factor import NoiseFactor
from sdewm.model.behaviour import Actor
from sdewm.model.world_model import WorldModel
from sdewm.sde.system import repeated

VARIANCES = {"step": 1.0, "stationary": 2.0}


class LatentSystem:
    """A world model with its inputs as a `System`; constructed by `as_system`.

    With more than one episode, the last component of the state is the number of the episode whose
    inputs the row uses. The model maps this component to its rounded value, so that its derivative
    is zero.

    Attributes:
        model: the world model.
        episodes: number E of episodes.
        steps: number T of input rows; None for a policy without observations.
        drivers: number of Brownian motions; a deterministic model has one, on which it does not
            depend.
        label: "exact", or the surrogate that replaces the model's noise.
    """

    noise_type, sde_type = "general", "ito"

    def __init__(
        self,
        model: LatentModel,
        actions: Tensor | None,
        policy: LatentPolicy | None,
        embeds: Tensor | None,
        relaxation_time: float,
        variance: float,
        error_drivers: int,
    ) -> None:
        self.model, self.actions, self.policy, self.embeds = model, actions, policy, embeds
        self.relaxation_time = relaxation_time
        self.diffusion_scale = (variance / relaxation_time) ** 0.5
        self.error_drivers = error_drivers
        self.drivers = max(1, model.noise_size + error_drivers)
        table = actions if actions is not None else embeds
        self.steps, self.episodes = (None, 1) if table is None else (len(table), table.shape[1])
        self.state_size = model.state_size + (self.episodes > 1)
        self.label = f"surrogate: {model.surrogate}" if model.surrogate else "exact"

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        """Drift (B, D)."""
        mean, _ = self.factored_law(t, y)
        return (mean - y) / self.relaxation_time

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        """Diffusion (B, D, M), zero on the error drivers."""
        return self.on_drivers(self.factored_law(t, y)[1].matrix(), y)

    def f_and_g_prod(self, t: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Drift and noise increment, each (B, D); the diffusion is not formed."""
        mean, factor = self.factored_law(t, y)
        return (mean - y) / self.relaxation_time, self.noise_increment(factor, y, v)

    def g_entries(self, t: Tensor, y: Tensor) -> Tensor:
        """The entries of the diffusion that are not zero at every state (B, n)."""
        return self.factored_law(t, y)[1].entries() * self.diffusion_scale

    def on_drivers(self, matrix: Tensor, y: Tensor) -> Tensor:
        """The diffusion (B, D, M) of a factor's matrix, with zeros on all other drivers."""
        drivers, rest = self.drivers - self.model.noise_size, y.shape[1] - self.model.state_size
        around = (0, drivers, 0, rest)
        return pad(matrix * self.diffusion_scale, around)

    def noise_increment(self, factor: NoiseFactor, y: Tensor, v: Tensor) -> Tensor:
        """The diffusion of a factor of the model's noise times increments v (B, M): (B, D)."""
        change = factor.product(v[:, : self.model.noise_size]) * self.diffusion_scale
        return pad(change, (0, y.shape[1] - self.model.state_size))

    def factored_law(
        self, t: Tensor, y: Tensor, embeds: Tensor | None = None
    ) -> tuple[Tensor, NoiseFactor]:
        """Mean (B, D) of the next state, and the factor of the model's noise on the model's state.

        `embeds` (T, E, …) replaces the embeds of the system's observations.
        """
        self._check_size(y)
        state, episode = y.tensor_split([self.model.state_size], 1)
        embeds = self.embeds if embeds is None else embeds
        seen = None if embeds is None else self.row(embeds, t, y)
        if self.policy is not None:
            action = self.policy(state)
        else:
            assert self.actions is not None
            action = self.row(self.actions, t, y)
        mean, factor = factored_law(self.model, state, action, seen)
        return torch.cat([mean, episode.round()], 1), factor

    def _check_size(self, y: Tensor) -> None:
        if y.shape[1] != self.state_size:
            more = ", and the number of the episode; see start()" if self.episodes > 1 else ""
            raise ValueError(
                f"a state has {y.shape[1]} numbers: expected {self.state_size}, those of the model "
                f"({self.model.state_size}){more}."
            )

    def law(self, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and factor (B, D, M) of the next state."""
        mean, factor = self.factored_law(t, y)
        return mean, pad(factor.matrix(), (0, 0, 0, y.shape[1] - self.model.state_size))

    def row(self, table: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Entries (B, …) of a table (T, E, …) at time t, for the episode of each state.

        Inputs are constant between integer times.
        """
        # As a tensor: a number taken out of t could not be recorded (base.taylor.fuse).
        time = torch.floor(t + 1e-6).long().reshape(1)
        try:
            now = table.index_select(0, time).squeeze(0)  # (E, …)
        except IndexError as problem:
            raise ValueError(
                f"t = {float(t):.6g} is outside the recorded inputs, {len(table)} rows from time "
                f"0 on: expected t0 of at least 0, and t1 of at most {len(table)}."
            ) from problem
        if self.episodes == 1:
            return now.expand(len(y), *now.shape[1:])
        return now.index_select(0, y[:, -1].round().long())

    def step(self, state: Tensor, n: int, noise: Tensor) -> Tensor:
        """The model's step from row n: states (B, D), model noise (B, M) -> next states (B, D)."""
        mean, factor = self.factored_law(torch.tensor(float(n), dtype=state.dtype), state)
        change = factor.product(noise.to(state))
        return mean + pad(change, (0, state.shape[1] - self.model.state_size))

    def path_steps(
        self, states: Tensor, increments: Tensor, t0: float, step_size: float
    ) -> tuple[Tensor, Callable[[int, Tensor], Tensor]]:
        """First states of the model and its steps on some paths, as `sde.system.PathSystem`."""
        native = (self.relaxation_time, self.diffusion_scale, step_size)
        if native != (1.0, 1.0, 1.0) or t0 != round(t0):
            raise ValueError(
                "system: expected the model's own steps, as_system(…) with relaxation_time=1 and "
                "variance='step', and step_size=1."
            )
        if isinstance(self.model, RSSMModel) and self.model.categorical:
            raise ValueError(
                "system: the latent is one-hot, a step that is not continuous; expected a Gaussian "
                "latent."
            )
        last = round(t0) + increments.shape[1]
        if self.steps is not None and last > self.steps:
            raise ValueError(f"steps={last}: the system has inputs for {self.steps} steps only.")
        self._check_size(states)
        first = states[:, -1] if self.episodes > 1 else states.new_zeros(len(states))
        noise = increments[..., : self.model.noise_size]
        step = partial(self._path_step, noise, first.round().long(), round(t0))
        return states[:, : self.model.state_size], step

    def _path_step(self, noise: Tensor, episodes: Tensor, first: int, n: int, x: Tensor) -> Tensor:
        """Step n of some paths: the model's own step, or the mean and the factor of its law."""
        model, row, rows = self.model, first + n, len(x)
        seen = None if self.embeds is None else repeated(self.embeds[row, episodes], rows)
        if self.policy is not None:
            action = self.policy(x)
        else:
            assert self.actions is not None
            action = repeated(self.actions[row, episodes], rows)
        drawn = repeated(noise[:, n], rows)
        if isinstance(model, StepModel) and seen is None:
            return model.step(x, action, drawn)
        if isinstance(model, RSSMModel):
            return model.sample(x, action, seen, drawn)[0]
        mean, factor = model.law(x, action, seen)
        return mean + (factor * drawn.unsqueeze(1)).sum(2)

    def posterior_entry(self, states: Tensor, increments: Tensor) -> Callable[[Tensor], Tensor]:
        """The posterior's first step as a function of the observation (`ObservedSystem`)."""
        if self.embeds is not None or self.episodes > 1:
            raise ValueError(
                "observation: expected a world model as_system(…) of one episode, without "
                "observations."
            )
        if self.actions is None:
            raise ValueError("observation: expected a system with actions, not with a policy.")
        drawn = increments[:, : self.model.noise_size]
        return partial(self._posterior_step, states, self.actions[0, :1], drawn)

    def _posterior_step(
        self, states: Tensor, action: Tensor, drawn: Tensor, observations: Tensor
    ) -> Tensor:
        """The states that follow, as the model infers them from observations (R, n)."""
        model, rows = self.model, len(observations)
        # With gradients, which `embed` of an RSSMModel does not take.
        encoder = model.world_model.encoder if isinstance(model, RSSMModel) else model.embed
        before, act, noise = (repeated(part, rows) for part in (states, action, drawn))
        return model.sample(before, act, encoder(observations), noise)[0]

    def start(self, states: Tensor, repeats: int = 1) -> Tensor:
        """Initial states of the system: each of the model's states (E, D), `repeats` times.

        Raises:
            ValueError: the number of states is not that of the episodes, or another state size.
        """
        size = (self.episodes, self.model.state_size)
        if tuple(states.shape) != size:
            raise ValueError(f"states={tuple(states.shape)}: expected (E, D) = {size}.")
        rows = states.double()
        if self.episodes > 1:
            numbers = torch.arange(self.episodes, dtype=rows.dtype, device=rows.device)
            rows = torch.cat([rows, numbers[:, None]], 1)
        return rows.repeat_interleave(check_count("repeats", repeats), 0)


def as_system(
    world_model: WorldModel | LatentModel,
    *,
    actions: Tensor | None = None,
    policy: LatentPolicy | None = None,
    observations: Tensor | None = None,
    relaxation_time: float = 1.0,
    variance: str = "step",
    error_drivers: int = 0,
) -> LatentSystem:
    """A trained world model as a system: state x = (h, z), time in steps of the model (S21, S27).

    Row n of the inputs belongs to the step from time n to n + 1: the action taken in the state at
    time n and the observation that follows. Both are exogenous, or the action comes from a policy
    in the loop (S7), through which derivatives are taken; recorded observations remain exogenous.

    Args:
        world_model: a `WorldModel`, or any `LatentModel`.
        actions: (T, A), or (E, T, A) for E episodes.
        policy: states (B, D) -> actions (B, A), instead of `actions`.
        observations: (T, *shape) or (E, T, *shape), in the environment's units: z follows the
            posterior (teacher forcing); None: the prior (imagination).
        relaxation_time: τ. One Euler–Maruyama step of length τ is a step of the model.
        variance: "step": diffusion G/√τ, which reproduces that step; "stationary": G·√(2/τ), with
            which z, undriven, has the stationary variance of the model's noise, but which does not
            reproduce the step.
        error_drivers: number of further Brownian motions, on which the system does not depend, for
            error diffusions that are independent of the system's noise.

    Returns:
        A system in float64, with `.start(states)` for its initial states, `.step(state, n, noise)`
        for the model's step, and `.label`: "exact", or the surrogate that replaces the noise.

    Raises:
        ValueError: both or neither of `actions` and `policy`, shapes that do not match each other
            or the model, a number out of range, or something that `sdewm.check_model` finds in the
            model, wrong derivatives excepted: functions that use derivatives look for these.

    >>> from sdewm.latent_sde.models import StepModel
    >>> model = StepModel(lambda x, a, v: 0.5 * x + a + 0.1 * v, state_size=2, noise_size=2)
    >>> system = as_system(model, actions=torch.ones(3, 2))
    >>> x = system.start(torch.zeros(1, 2))
    >>> t, dB = torch.tensor(0.0), torch.ones(1, 2, dtype=torch.float64)
    >>> system.step(x, 0, dB)  # one step of Euler–Maruyama
    tensor([[1.1000, 1.1000]], dtype=torch.float64)
    >>> x + system.f(t, x) + (system.g(t, x) @ dB[..., None])[..., 0]
    tensor([[1.1000, 1.1000]], dtype=torch.float64)
    """
    inputs, model = model_inputs(actions, policy, observations), as_latent_model(world_model)
    require_model(model, inputs, prior=observations is None)
    return latent_system(
        model,
        inputs,
        relaxation_time=relaxation_time,
        variance=variance,
        error_drivers=error_drivers,
    )


def latent_system(
    model: LatentModel,
    inputs: ModelInputs,
    *,
    embeds: Tensor | None = None,
    relaxation_time: float = 1.0,
    variance: str = "step",
    error_drivers: int = 0,
) -> LatentSystem:
    """`as_system` of a model and inputs that have been checked.

    `embeds` (E, T, …) are those of the observations, where they are known already.
    """
    if not check_finite_number("relaxation_time", relaxation_time) > 0:
        raise ValueError(f"relaxation_time={relaxation_time!r}: expected a number above 0.")
    check_choice("variance", variance, VARIANCES)
    check_count("error_drivers", error_drivers, minimum=0)
    seen = inputs.observations
    if embeds is not None:
        by_rows = embeds.transpose(0, 1)
    else:
        by_rows = None if seen is None else recorded_embeds(model, seen)
    return LatentSystem(
        model,
        None if inputs.actions is None else inputs.actions.transpose(0, 1),
        inputs.policy,
        by_rows,
        float(relaxation_time),
        VARIANCES[variance],
        error_drivers,
    )


def mean_policy(actor: Actor) -> LatentPolicy:
    """An actor's mean action as a function of the state, in float64, for a closed loop (S7).

    Raises:
        ValueError: its actions are one-hot, so that no action is a differentiable function of the
            state, which the closed loop must be.
    """
    if actor.groups:
        raise ValueError(
            f"actor: its actions are one-hot, of {' + '.join(map(str, actor.groups))} classes, and "
            "no differentiable function of the state; expected an actor with continuous actions, "
            "or recorded actions in its place."
        )
    wide = copy.deepcopy(actor).double().requires_grad_(False)
    return lambda states: wide(states).mean

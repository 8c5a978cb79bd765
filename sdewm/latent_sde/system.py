"""A world model with its inputs as a system of the theory (S21, S27).

With time counted in steps of the model, x' = F(x) + G(x) ξ is read as

    drift (F(x) − x)/τ,    diffusion G(x)/√τ,

so that one Euler–Maruyama step of length τ is the model's own step. The default τ = 1 with steps of
length 1 is what checks of a model use; a smaller step with the same τ refines the residual form.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from sdewm.base.checks import check_choice, check_count, check_finite_number, check_output
from sdewm.latent_sde.models import LatentModel, StepModel, as_latent_model, rows_of_zeros
from sdewm.model.behaviour import Actor
from sdewm.model.world_model import WorldModel
from sdewm.sde.system import diffusion_product

LatentPolicy = Callable[[Tensor], Tensor]  # states (B, D) to actions (B, A)
VARIANCES = {"step": 1.0, "stationary": 2.0}


class LatentSystem:
    """A world model with its inputs as a `System`; made by `as_system`.

    With more than one episode the state has a last component, the number of the episode whose
    inputs the row takes; the model maps it to itself rounded, so that it has no derivative.

    Attributes:
        model: the world model.
        episodes: number E of episodes.
        steps: rows T of input; None for a policy without observations.
        label: how the noise is to be read.
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
        table = actions if actions is not None else embeds
        self.steps, self.episodes = (None, 1) if table is None else (len(table), table.shape[1])
        self.state_size = model.state_size + (self.episodes > 1)
        self.label = f"surrogate: {model.surrogate}" if model.surrogate else "exact"

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        """Drift (B, D)."""
        mean, _ = self.law(t, y)
        return (mean - y) / self.relaxation_time

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        """Diffusion (B, D, M), zero on the drivers of the error."""
        return self.on_drivers(self.law(t, y)[1] * self.diffusion_scale)

    def f_and_g_prod(self, t: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Drift and noise increment, each (B, D), from one evaluation of the model."""
        mean, factor = self.law(t, y)
        diffusion = self.on_drivers(factor * self.diffusion_scale)
        return (mean - y) / self.relaxation_time, diffusion_product(diffusion, v)

    def on_drivers(self, factor: Tensor) -> Tensor:
        """A factor on the model's drivers (B, D, M) among all of them."""
        return torch.nn.functional.pad(factor, (0, self.error_drivers))

    def law(self, t: Tensor, y: Tensor, embeds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and factor (B, D, M) of the next state, `embeds` (T, E, …) for the own."""
        state, episode = y.tensor_split([self.model.state_size], 1)
        embeds = self.embeds if embeds is None else embeds
        seen = None if embeds is None else self.row(embeds, t, y)
        if self.policy is not None:
            action = self.policy(state)
        else:
            assert self.actions is not None
            action = self.row(self.actions, t, y)
        mean, factor = self.model.law(state, action, seen)
        return torch.cat([mean, episode.round()], 1), rows_of_zeros(factor, 0, episode.shape[1])

    def row(self, table: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """What a table (T, E, …) holds at time t for each state's episode: (B, …).

        Inputs are constant between whole times.
        """
        # As a tensor: a number taken out of t could not be recorded (base.taylor.fuse).
        time = torch.floor(t + 1e-6).long().reshape(1)
        now = table.index_select(0, time).squeeze(0)  # (E, …)
        if self.episodes == 1:
            return now.expand(len(y), *now.shape[1:])
        return now.index_select(0, y[:, -1].round().long())

    def step(self, state: Tensor, n: int, noise: Tensor) -> Tensor:
        """The model's own step from row n: states (B, D), noise (B, M) of the model."""
        mean, factor = self.law(torch.tensor(float(n), dtype=state.dtype), state)
        return mean + torch.einsum("bdm,bm->bd", factor, noise.to(state))

    def start(self, states: Tensor, repeats: int = 1) -> Tensor:
        """Initial states of the system: each of the model's states (E, D) `repeats` times over.

        Raises:
            ValueError: another number of states than episodes, or of another size.
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
    in the loop (S7), differentiated with the rest; logged observations then stay as logged.

    Args:
        world_model: a `WorldModel`, or any `LatentModel`.
        actions: (T, A), or (E, T, A) for E episodes.
        policy: states (B, D) -> actions (B, A), in place of `actions`.
        observations: (T, *shape) or (E, T, *shape), in the environment's units: z follows the
            posterior (teacher forcing); None: the prior (imagination).
        relaxation_time: τ. Euler–Maruyama steps of length τ are the model's own.
        variance: "step": diffusion G/√τ, which reproduces that step; "stationary": G·√(2/τ), with
            which z, left alone, has the stationary variance of the model's noise, and which does
            not reproduce the step.
        error_drivers: further Brownian motions on which the system itself does not depend, for
            error diffusions of their own beside such on the system's drivers.

    Returns:
        A system in float64, with `.start(states)` for its initial states, `.step(state, n, noise)`
        for the model's own step, and `.label`: "exact", or by what the noise was replaced.

    Raises:
        ValueError: both or neither of `actions` and `policy`, shapes that do not fit each other or
            the model, a step that is not linear in its noise, a number out of range.

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
    if (actions is None) == (policy is None):
        both = "neither" if actions is None else "both"
        raise ValueError(f"{both} of actions and policy given: expected one of them.")
    if not check_finite_number("relaxation_time", relaxation_time) > 0:
        raise ValueError(f"relaxation_time={relaxation_time!r}: expected a number above 0.")
    check_choice("variance", variance, VARIANCES)
    check_count("error_drivers", error_drivers, minimum=0)
    model = as_latent_model(world_model)
    action_table = None if actions is None else by_time("actions", actions, 1).double()
    embeds = None
    if observations is not None:
        embeds = embed_by_time(model, observations)
    if action_table is not None and embeds is not None:
        if action_table.shape[:2] != embeds.shape[:2]:
            raise ValueError(
                f"observations have (T, E) = {tuple(embeds.shape[:2])}, actions "
                f"{tuple(action_table.shape[:2])}: expected the same."
            )
    scale = VARIANCES[variance]
    system = LatentSystem(
        model, action_table, policy, embeds, relaxation_time, scale, error_drivers
    )
    _try(system)
    return system


def mean_policy(actor: Actor) -> LatentPolicy:
    """An actor's mean action at a state, in float64, to be put into the loop (S7)."""
    wide = copy.deepcopy(actor).double().requires_grad_(False)
    return lambda states: wide(states).mean


def embed_by_time(model: LatentModel, observations: Tensor) -> Tensor:
    """Embeds (T, E, …) of observations (T, *shape) or (E, T, *shape); images are uint8.

    Raises:
        ValueError: a shape that the encoder does not take.
    """
    images = getattr(observations, "dtype", None) == torch.uint8
    rows = by_time("observations", observations, 3 if images else 1)
    try:
        return model.embed(rows)
    except (RuntimeError, IndexError, TypeError) as problem:
        raise ValueError(
            f"the encoder does not take observations {tuple(observations.shape)} of "
            f"{observations.dtype}: {problem}"
        ) from problem


def by_time(name: str, table: Tensor, shape: int) -> Tensor:
    """(T, E, …) from (T, …) or (E, T, …), where a row has `shape` axes."""
    if not isinstance(table, Tensor):
        raise ValueError(f"{name} is a {type(table).__name__}: expected a tensor.")
    if table.dim() == shape + 1:
        return table.unsqueeze(1)
    if table.dim() != shape + 2 or table.numel() == 0:
        raise ValueError(
            f"{name} have shape {tuple(table.shape)}: expected (T, …) or (E, T, …) with {shape} "
            "axes after them."
        )
    return table.transpose(0, 1)


def _try(system: LatentSystem) -> None:
    """Two states through the model, for clear errors before any work."""
    model = system.model
    state = torch.zeros(2, system.state_size, dtype=torch.float64)
    if system.actions is not None:
        state = state.to(system.actions.device)
    time = state.new_zeros(())
    try:
        mean, factor = system.law(time, state)
    except (RuntimeError, IndexError, TypeError) as problem:
        raise ValueError(
            f"the world model does not take these inputs (float64, states "
            f"{(2, model.state_size)}): {problem}"
        ) from problem
    check_output("the model's next state", mean, tuple(state.shape), like=state)
    if isinstance(model, StepModel) and system.embeds is None:
        if system.policy is None:
            assert system.actions is not None
            action = system.actions[0, :1].expand(2, -1)
        else:
            action = system.policy(state[:, : model.state_size])
        model.check_linear(state[:, : model.state_size] + 0.1, action)

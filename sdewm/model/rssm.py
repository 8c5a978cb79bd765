"""The recurrent state-space model: deterministic state, prior and posterior of the latent.

One step, with all noise explicit:

    deter_t = f(deter_{t−1}, stoch_{t−1}, action_{t−1}),
    prior: stoch_t ~ p(· | deter_t),   posterior: stoch_t ~ q(· | deter_t, embed_t).

A row's `previous_action` is action_{t−1}, the action that led to it. If a row has `is_first`, the
state and the action before it are set to zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sdewm.base.checks import check_choice
from sdewm.base.fields import PositiveFloat, PositiveInt, UnitInterval
from sdewm.model.latents import CategoricalLatent, GaussianLatent, Latent
from sdewm.model.networks import ACTIVATIONS, MLP, BlockLinear, Dense, SumLinear, make_norm
from sdewm.model.scan import Scan, step_by_step


@dataclass(frozen=True)
class RSSMConfig:
    """Sizes of the RSSM and distribution of its stochastic state."""

    cell: Literal["block_gru", "gru"] = "block_gru"
    """block_gru: block-diagonal GRU (DreamerV3); gru: layer-normalised GRU (DreamerV2)."""
    deter: PositiveInt = 2048
    """Size of the deterministic (recurrent) state."""
    hidden: PositiveInt = 256
    """Units of the dense layers around the recurrent cell."""
    blocks: PositiveInt = 8
    """Number of diagonal blocks of block_gru; divides deter."""
    latent: Literal["categorical", "gaussian"] = "categorical"
    """Distribution of the stochastic state."""
    groups: PositiveInt = 32
    """Number of categorical variables in the stochastic state."""
    classes: PositiveInt = 16
    """Number of classes of each categorical variable."""
    unimix: UnitInterval = 0.01
    """Weight of the uniform distribution mixed into categorical prior and posterior."""
    gaussian_size: PositiveInt = 30
    """Dimension of a Gaussian stochastic state."""
    min_std: PositiveFloat = 0.1
    """Smallest standard deviation of a Gaussian stochastic state."""
    prior_layers: PositiveInt = 2
    """Hidden layers of the prior head."""


class State(NamedTuple):
    """Latent state: `deter` (…, R) and a flat sample `stoch` (…, Z)."""

    deter: Tensor
    stoch: Tensor

    @property
    def features(self) -> Tensor:
        """Concatenation (…, F), the input of every head."""
        return torch.cat([self.deter, self.stoch], -1)


class Cell(Protocol):
    """The deterministic step f, in two parts: the embedding of the action, and the rest."""

    def embed_action(self, action: Tensor) -> Tensor:
        """The part of the step that depends on the action alone: (…, A) → (…, hidden)."""
        ...

    def __call__(self, deter: Tensor, stoch: Tensor, embedded_action: Tensor) -> Tensor:
        """The next deter (B, R)."""
        ...


class GRUCell(nn.Module):
    """DreamerV2's cell: a dense layer on [stoch, action], then a GRU with one normalisation.

    With (r, c, u) the thirds of norm(W [x, h]): h' = u·tanh(r·c) + (1 − u)·h, r = sigmoid(r),
    u = sigmoid(u − 1).
    """

    def __init__(self, config: RSSMConfig, stoch: int, actions: int, norm: str, activation: str):
        super().__init__()
        self.input = SumLinear(stoch, actions, config.hidden)
        self.after_input = nn.Sequential(make_norm(norm, config.hidden), ACTIVATIONS[activation]())
        self.gates = nn.Linear(config.hidden + config.deter, 3 * config.deter)
        self.gates_norm = nn.LayerNorm(3 * config.deter, eps=1e-3)

    def embed_action(self, action: Tensor) -> Tensor:
        """W_a a."""
        return self.input.of_y(action)

    def forward(self, deter: Tensor, stoch: Tensor, embedded_action: Tensor) -> Tensor:
        """The next deter (B, R)."""
        x = self.after_input(self.input(stoch, embedded_action))  # (B, hidden)
        gates = self.gates_norm(self.gates(torch.cat([x, deter], -1)))  # (B, 3R)
        return gru_update(deter, *gates.chunk(3, -1))


class BlockGRUCell(nn.Module):
    """DreamerV3's cell: h, z and a are projected and normalised separately, then a block GRU.

    Each block of the state receives all three projections, but only its own block of h.
    """

    def __init__(self, config: RSSMConfig, stoch: int, actions: int, norm: str, activation: str):
        super().__init__()
        r, hidden = config.deter, config.hidden
        self.of_deter = Dense(r, hidden, norm, activation)
        self.of_stoch = Dense(stoch, hidden, norm, activation)
        self.of_action = Dense(actions, hidden, norm, activation)
        # BlockLinear on [all projections, own block of h] = dense part + block-diagonal part.
        # The fan-in counts the projections once per block, as published.
        self.shared = nn.Linear(3 * hidden, r, bias=False)
        self.own = BlockLinear(r, r, config.blocks)
        fan_in = config.blocks * 3 * hidden + r
        self.shared.fan_in = self.own.fan_in = fan_in  # type: ignore[assignment]
        self.after = nn.Sequential(make_norm(norm, r), ACTIVATIONS[activation]())
        self.gates = BlockLinear(r, 3 * r, config.blocks)
        self.blocks = config.blocks

    def embed_action(self, action: Tensor) -> Tensor:
        """Dense, normalised projection of the action."""
        return self.of_action(action)

    def forward(self, deter: Tensor, stoch: Tensor, embedded_action: Tensor) -> Tensor:
        """The next deter (B, R)."""
        x = torch.cat([self.of_deter(deter), self.of_stoch(stoch), embedded_action], -1)
        x = self.after(self.shared(x) + self.own(deter))  # (B, R)
        gates = self.gates(x).reshape(*x.shape[:-1], self.blocks, 3, -1)  # (B, G, 3, R / G)
        reset, candidate, update = (gate.flatten(-2) for gate in gates.unbind(-2))
        return gru_update(deter, reset, candidate, update)


def gru_update(deter: Tensor, reset: Tensor, candidate: Tensor, update: Tensor) -> Tensor:
    """Gated step h' = u·tanh(r·c) + (1 − u)·h with r = σ(reset), u = σ(update − 1)."""
    u = torch.sigmoid(update - 1)
    # In bfloat16 the gates have less precision than the state, which keeps its own.
    new = torch.tanh(torch.sigmoid(reset) * candidate)
    return torch.lerp(deter, new.to(deter.dtype), u.to(deter.dtype))


class Observed(NamedTuple):
    """Result of `RSSM.observe`; all tensors have the leading axes (B, T)."""

    state: State
    prior: Tensor
    posterior: Tensor


class RSSM(nn.Module):
    """Recurrent cell, prior head and posterior head, with a distribution of the latent.

    Args:
        config: sizes and distributions.
        actions: dimension A of the action.
        embed: dimension E of the encoder's output.
        norm: normalisation of the layers, see `make_norm`.
        activation: "silu" or "elu".
    """

    def __init__(
        self, config: RSSMConfig, actions: int, embed: int, norm: str, activation: str
    ) -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        self.latent: Latent = (
            CategoricalLatent(config.groups, config.classes, config.unimix)
            if config.latent == "categorical"
            else GaussianLatent(config.gaussian_size, config.min_std)
        )
        cell = BlockGRUCell if config.cell == "block_gru" else GRUCell
        self.cell: Cell = cell(config, self.latent.size, actions, norm, activation)
        self.prior_head = MLP(
            config.deter, config.hidden, config.prior_layers, self.latent.raw_size, norm, activation
        )
        self.posterior_input = SumLinear(config.deter, embed, config.hidden)
        self.posterior_output = nn.Sequential(
            make_norm(norm, config.hidden),
            ACTIVATIONS[activation](),
            nn.Linear(config.hidden, self.latent.raw_size),
        )
        self.deter_size = config.deter
        self.features_size = config.deter + self.latent.size
        self.scan: Scan | None = None  # of `posterior_step`, where gradients are taken

    def dynamics_weights(self) -> list[nn.Parameter]:
        """The weights of cell and prior head: those of imagination."""
        parts = ("cell.", "prior_head.")
        return [weight for name, weight in self.named_parameters() if name.startswith(parts)]

    def initial(self, batch: int) -> State:
        """The state before the first row, which is zero."""
        weight = self.posterior_input.of_x.weight
        return State(
            weight.new_zeros(batch, self.deter_size), weight.new_zeros(batch, self.latent.size)
        )

    def deterministic(self, state: State, action: Tensor) -> Tensor:
        """Next deter, f(deter, stoch, action): (B, R)."""
        return self.cell(*state, self.cell.embed_action(clip_action(action)))

    def prior(self, deter: Tensor) -> Tensor:
        """Stats of p(stoch | deter)."""
        return self.latent.stats(self.prior_head(deter))

    def posterior(self, deter: Tensor, embed: Tensor) -> Tensor:
        """Stats of q(stoch | deter, embed)."""
        return self._posterior(deter, self.posterior_input.of_y(embed))

    def _posterior(self, deter: Tensor, embedded: Tensor) -> Tensor:
        return self.latent.stats(self.posterior_output(self.posterior_input(deter, embedded)))

    def imagine_step(self, state: State, action: Tensor, noise: Tensor) -> State:
        """One step of the prior."""
        deter = self.deterministic(state, action)
        return State(deter, self.latent.sample(self.prior(deter), noise))

    def observe_step(
        self, state: State, action: Tensor, is_first: Tensor, embed: Tensor, noise: Tensor
    ) -> State:
        """One step of the posterior; `state` and `action` before a first row are set to zero."""
        keep = (~is_first).to(embed.dtype).unsqueeze(-1)  # (B, 1)
        state = State(state.deter * keep, state.stoch * keep)
        deter = self.deterministic(state, action * keep)
        return State(deter, self.latent.sample(self.posterior(deter, embed), noise))

    def posterior_step(
        self,
        deter: Tensor,
        stoch: Tensor,
        keep: Tensor,
        action: Tensor,
        embedded: Tensor,
        noise: Tensor,
        error: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The recurrent part of `observe_step`, on the embedded action and observation.

        Args:
            deter: (B, R), like all arguments of one time step.
            stoch: (B, Z).
            keep: (B, 1), 0 where the state before is forgotten.
            action: its embedding.
            embedded: the observation's.
            noise: of the draw of stoch.
            error: added to stoch.

        Returns:
            The next deter and stoch, and the stats of the posterior from which stoch was drawn.
        """
        deter = self.cell(deter * keep, stoch * keep, action)
        posterior = self._posterior(deter, embedded)
        stoch = self.latent.sample(posterior, noise)
        return deter, stoch if error is None else stoch + error, posterior

    def observe(
        self,
        embed: Tensor,
        previous_action: Tensor,
        is_first: Tensor,
        noise: Tensor,
        initial: State | None = None,
    ) -> Observed:
        """`filter`, and the prior at each state."""
        state, posterior = self.filter(embed, previous_action, is_first, noise, initial)
        return Observed(state, self.prior(state.deter), posterior)

    def filter(
        self,
        embed: Tensor,
        previous_action: Tensor,
        is_first: Tensor,
        noise: Tensor,
        initial: State | None = None,
        error: Tensor | None = None,
    ) -> tuple[State, Tensor]:
        """Posterior along a batch of sequences; `observe_step` in a loop is the slow version.

        Args:
            embed: (B, T, E).
            previous_action: (B, T, A).
            is_first: (B, T).
            noise: (B, T, …) of `latent.draw_noise`.
            initial: the state before row 0; None: the zero state.
            error: (B, T, Z), added to stoch.

        Returns:
            The states (B, T, …), and the stats of the posteriors from which stoch was drawn.
        """
        if initial is None:
            initial = self.initial(len(embed))
            is_first = torch.cat([torch.ones_like(is_first[:, :1]), is_first[:, 1:]], 1)
        keep = (~is_first).to(embed.dtype).unsqueeze(-1)  # (B, T, 1)
        # All that does not depend on the recurrent state, for all steps at once.
        actions = self.cell.embed_action(clip_action(previous_action) * keep)
        embedded = self.posterior_input.of_y(embed)
        along = (keep, actions, embedded, noise, *([] if error is None else [error]))
        inputs = tuple(part.transpose(0, 1) for part in along)
        unroll = partial(step_by_step, self.posterior_step)
        if self.scan is not None and torch.is_grad_enabled():
            unroll = self.scan
        found = unroll(initial, inputs)
        deter, stoch, posterior = (part.transpose(0, 1).contiguous() for part in found)
        return State(deter, stoch), posterior


def clip_action(action: Tensor) -> Tensor:
    """Clip every component to [−1, 1] by a/max(1, |a|), as environments do."""
    return action / torch.clamp(action.abs(), min=1).detach()

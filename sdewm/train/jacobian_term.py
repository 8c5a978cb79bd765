"""The Jacobian of the agent's latent dynamics: penalised in the loss, and always monitored."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdewm.jacobian.diagnostics import jacobian_metrics
from sdewm.jacobian.penalty import draw_rows
from sdewm.jacobian.penalty_config import (
    PenaltyConfig,
    configured_penalty,
    describe_penalty,
    draw_probes,
    weight_schedule,
)
from sdewm.model.behaviour import Actor
from sdewm.model.rssm import Observed, State
from sdewm.model.step_maps import StepMap, chosen_map, output_size
from sdewm.model.world_model import ReplayRows, WorldModel

# The diagnostics are those of the square map (h, mean z) → (h', mean z'), whatever is penalised.
WATCHED = PenaltyConfig(map="full", inputs="both")


class Drawn(NamedTuple):
    """Random probes and rows of one penalty, drawn outside the compiled region."""

    probes: Tensor | None
    rows: Tensor | None


class JacobianTerm:
    """The Jacobian penalty of one agent.

    Args:
        config: configuration of the penalty.
        world_model: the model whose dynamics are penalised.
        actor: the policy, if the map includes it; a frozen view, because only the dynamics are
            penalised.
        watched_states: number of states at which the diagnostics are computed.
    """

    def __init__(
        self, config: PenaltyConfig, world_model: WorldModel, actor: Actor, watched_states: int = 4
    ) -> None:
        self.config, self.world_model, self.actor = config, world_model, actor
        self.watched_states = watched_states
        self.schedule = weight_schedule(config)
        self.on = config.weight > 0
        self.steps = config.steps if config.map == "multi_step" else 1
        self.outputs = output_size(config, world_model.rssm)

    @property
    def inputs(self) -> int:
        """Number n of components of the map's input."""
        rssm, embed = self.world_model.rssm, self.world_model.encoder.size
        if self.config.map in ("prior", "posterior"):
            both = self.config.map == "posterior" and self.config.inputs == "both"
            return rssm.deter_size + (embed if both else 0)
        sizes = {"deter": rssm.deter_size, "stoch": rssm.latent.size, "both": rssm.features_size}
        return sizes[self.config.inputs]

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Drawn:
        """Probes and the selected rows, for a batch of `batch` sequences of `length` rows."""
        if not self.on:
            return Drawn(None, None)
        total, rows = batch * (length - self.steps), None
        if self.config.fraction < 1:
            rows = draw_rows(total, self.config.fraction, generator)
            total = len(rows)
        # Only their shapes and device are read.
        inputs, outputs = (
            torch.empty(total, size, device=generator.device)
            for size in (self.inputs, self.outputs)
        )
        return Drawn(draw_probes(self.config, inputs, outputs, generator), rows)

    def loss(self, rows: ReplayRows, seen: Observed, embed: Tensor, drawn: Drawn) -> Tensor:
        """The penalty without its weight, at the states of a batch, which receive no gradient."""
        chosen = self._map(self.config, rows, seen, embed, drawn.rows)
        return configured_penalty(self.config, chosen.step, chosen.inputs, drawn.probes)

    def metrics(
        self, rows: ReplayRows, seen: Observed, embed: Tensor, generator: torch.Generator
    ) -> dict[str, float]:
        """Norms and growth rates of the one-step map at random states of the batch.

        The map is (h, z) → (h', mean of z'), the action fixed; see `jacobian_metrics`.
        """
        batch, length = rows.reward.shape
        count = min(self.watched_states, batch * (length - 1))
        few = torch.randperm(batch * (length - 1), generator=generator, device=embed.device)
        chosen = self._map(WATCHED, rows, seen, embed, few[:count])
        with torch.no_grad():
            found = jacobian_metrics(
                lambda h, z: chosen.step(h, z)[:2], chosen.inputs, generator
            ).summary()
        return {f"jacobian/{name}": value for name, value in found.items()}

    def describe(self) -> str:
        """The weight of the penalty with its normalisation, in one line."""
        if not self.on:
            return "Jacobian penalty: weight 0, off"
        return describe_penalty(self.config, self.inputs, self.outputs)

    def _map(
        self,
        config: PenaltyConfig,
        rows: ReplayRows,
        seen: Observed,
        embed: Tensor,
        chosen: Tensor | None,
    ) -> StepMap:
        """The map at those states of a batch that are followed by enough rows.

        The last state of an episode is one of them; its action is the zero of the first row that
        follows, and of several steps the later actions are those of the next episode.
        """
        steps = config.steps if config.map == "multi_step" else 1
        length = rows.reward.shape[1] - steps
        state = State(*(part[:, :length].detach().flatten(0, 1) for part in seen.state))
        # The actions taken from state t on are the previous_action of rows t + 1, t + 2, …
        actions = (
            rows.previous_action[:, 1:].unfold(1, steps, 1).movedim(-1, 2)
        )  # (B, T', steps, A)
        actions = actions.flatten(0, 1)
        embeds = embed[:, :length].detach().flatten(0, 1)
        if chosen is not None:
            state = State(*(part[chosen] for part in state))
            actions, embeds = actions[chosen], embeds[chosen]
        return chosen_map(
            config,
            self.world_model.rssm,
            state,
            actions,
            embeds,
            lambda features: self.actor(features).mean,
        )

"""The agent: world model, behaviour and optimiser; `update` makes one gradient update."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from sdewm.base.compiling import remove_broken_libraries
from sdewm.data.one_hot import action_groups
from sdewm.data.replay import Field
from sdewm.model.behaviour import Behaviour, act_and_imagine, imagine
from sdewm.model.networks import share_frozen
from sdewm.model.rssm import Observed, State
from sdewm.model.scan import Scan
from sdewm.model.world_model import ReplayRows, WorldModel, total_loss
from sdewm.train.comparators import Comparators, Disturbance, RunningMean, rollout_spread
from sdewm.train.config import Config
from sdewm.train.jacobian_term import Drawn, JacobianTerm
from sdewm.train.latent_storage import pack_stoch, stored_fields, unpack_stoch
from sdewm.train.optimiser import Optimiser
from sdewm.train.policy import AgentPolicy
from sdewm.train.update_graph import UpdateGraph


class Noise(NamedTuple):
    """The noise of one update, drawn before it."""

    posterior: Tensor  # (B, T, …)
    latent: Tensor  # (H, N, …) of imagination from N states
    action: Tensor  # (H, N, …)
    jacobian: Drawn
    disturbance: Disturbance


class Agent:
    """World model, actor, critic and optimiser of one run.

    Args:
        config: configuration of the run.
        observation_space: a Box, (D,) or (64, 64, 3); (12288 + D,) with config.obs="both".
        action_space: a Box(−1, 1, (A,)), or a OneHotSpace.

    Raises:
        ValueError: the weights do not fit into memory, or the configuration differentiates through
            discrete actions.
    """

    def __init__(self, config: Config, observation_space: Box, action_space: Box) -> None:
        self.config = config
        self.device = torch.device(config.device)
        self.actions, groups = int(np.prod(action_space.shape)), action_groups(action_space)
        if groups and config.jacobian.weight and config.jacobian.policy == "included":
            raise ValueError(
                "jacobian.policy='included': expected 'fixed' for discrete actions, through which "
                "there is no gradient."
            )
        weights = torch.Generator().manual_seed(config.seed)
        shape = tuple(observation_space.shape)
        try:
            both = config.obs == "both"
            self.world_model = WorldModel(config.model, shape, self.actions, weights, both)
            self.behaviour = Behaviour(
                config.behaviour, self.world_model, self.actions, weights, groups
            )
        except RuntimeError as problem:  # a size that no memory holds
            if "alloc" not in str(problem) and "Storage size" not in str(problem):
                raise
            raise ValueError(
                f"model={config.model}: its weights do not fit into memory ({problem})."
            ) from problem
        self.world_model.to(self.device)
        self.behaviour.to(self.device)
        self.frozen_model = share_frozen(self.world_model)
        self.frozen_critic = share_frozen(self.behaviour.critic)
        self.parts = {
            "model": self.world_model,
            "actor": self.behaviour.actor,
            "critic": self.behaviour.critic,
        }
        rssm = self.world_model.rssm
        self.comparators = Comparators(config.comparator, rssm.latent).to(self.device)
        dynamics = rssm.dynamics_weights()
        self.optimiser = Optimiser(config.optimiser, self.parts, dynamics)
        self.updates = 0
        frozen_actor = share_frozen(self.behaviour.actor)
        self.jacobian = JacobianTerm(config.jacobian, self.world_model, frozen_actor)
        self.noise_generator = torch.Generator(self.device).manual_seed(config.seed + 1)
        self.policy_generator = torch.Generator(self.device).manual_seed(config.seed + 2)
        # Of its own, so that runs with other penalties share every other random number.
        self.probe_generator = torch.Generator(self.device).manual_seed(config.seed + 5)
        self.comparator_generator = torch.Generator(self.device).manual_seed(config.seed + 6)
        self.average: RunningMean | None = None
        if config.comparator.average_decay:
            weights_now = dict(self.world_model.named_parameters())
            self.average = RunningMean(weights_now, config.comparator.average_decay)
        self.scan: Scan | None = None  # of imagination
        self.penalty_weight = torch.zeros((), device=self.device)
        self._graph: UpdateGraph | None = None
        if config.cuda_graph == "auto" and self.device.type == "cuda":
            self._graph = UpdateGraph(self._learn, self.learned)

    def compile(self) -> None:
        """Compile the steps and the losses, at the first update; values change by rounding only.

        Compiling the update as one graph, with its loops unrolled, takes many minutes. The parts
        take seconds each, and all steps of a loop share one compiled function.
        """
        remove_broken_libraries()
        rssm, compiled = self.world_model.rssm, partial(torch.compile, dynamic=False)
        rssm.scan = Scan(rssm.posterior_step, [rssm], states=2)
        self._encode = compiled(self._encode)  # type: ignore[method-assign]
        self._score = compiled(self._score)  # type: ignore[method-assign]
        self.behaviour.losses = compiled(self.behaviour.losses)  # type: ignore[method-assign]
        self.jacobian.loss = compiled(self.jacobian.loss)  # type: ignore[method-assign]
        actor = self.behaviour.actor
        step = partial(act_and_imagine, self.frozen_model.rssm, actor)
        self.scan = Scan(step, [actor], states=2)

    # -- acting ----------------------------------------------------------------------------------

    def policy(self, mode: Literal["sample", "mean"]) -> AgentPolicy:
        """A policy with the current weights.

        "sample" draws actions with the agent's generator. "mean" takes the mean action, of one-hot
        actions the likeliest, and draws latents with a newly seeded generator, so that evaluations
        do not affect training.
        """
        generator = self.policy_generator
        if mode == "mean":
            generator = torch.Generator(self.device).manual_seed(self.config.seed + 3)
        return AgentPolicy(
            self.world_model,
            self.behaviour.actor,
            generator,
            mode,
            store_latents=mode == "sample" and self.config.context > 0,
            autocast=self._autocast,
        )

    @property
    def latent_fields(self) -> dict[str, Field]:
        """Fields of the replay that hold latent states, from which sequences start."""
        return stored_fields(self.config.model.rssm) if self.config.context else {}

    # -- learning --------------------------------------------------------------------------------

    def update(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One gradient update of world model, actor and critic.

        Args:
            batch: rows (B, context + T, …) from `Replay.sample`.

        Returns:
            Metrics by name (0-dim tensors), and refreshed latent fields (B, context + T, …).
        """
        return self._update(batch, behaviour=True)

    def update_world_model(
        self, batch: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One gradient update of the world model alone; see `update`."""
        return self._update(batch, behaviour=False)

    def _update(
        self, batch: Mapping[str, Tensor], behaviour: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        rows, initial = self._split_context(batch)
        noise = self._draw_noise(rows.observation)
        if self.jacobian.on:
            self.penalty_weight.fill_(self.jacobian.schedule(self.updates))
        self.updates += 1
        self.optimiser.schedule(self.updates)
        learn = self._graph if behaviour and self._graph is not None else self._learn
        metrics, seen = learn(rows, initial, noise, behaviour)
        if behaviour:
            self.behaviour.update_slow_critic(self.updates)
        if self.average is not None:
            self.average.update()
        if self.updates % self.config.log_every_updates == 0:
            metrics = metrics | self._watch(rows, initial, seen)
        return metrics, self._refreshed(batch, seen, noise)

    def _learn(
        self, rows: ReplayRows, initial: State | None, noise: Noise, behaviour: bool
    ) -> tuple[dict[str, Tensor], Observed]:
        """The part of an update that takes place on the device alone; it can be recorded.

        All that changes from one update to the next is in tensors: the arguments, the weight of the
        penalty, the learning rates, the numbers of steps.
        """
        with self._autocast():
            losses, metrics, seen = self.model_losses(rows, initial, noise)
            weights: dict[str, float | Tensor] = {**self.world_model.weights()}
            if noise.disturbance.rollouts is not None:
                weights["rollout_spread"] = self.config.comparator.rollout_spread
            if self.jacobian.on:
                weights["jacobian"] = self.penalty_weight
            if behaviour:
                more, returns, more_metrics = self.behaviour_losses(rows, seen, noise)
                losses, metrics = losses | more, metrics | more_metrics
                weights |= self.behaviour.weights()
                if self.config.behaviour.replay_critic_weight:
                    weights["replay_critic"] = self.config.behaviour.replay_critic_weight
        total = total_loss(losses, weights)
        total.backward()
        norms = self.optimiser.step()
        metrics = {f"loss/{name}": value for name, value in losses.items()} | metrics
        metrics |= {f"gradient_norm/{name}": value for name, value in norms.items()}
        metrics["loss/total"] = total
        metrics = {name: value.detach().float().clone() for name, value in metrics.items()}
        return metrics, seen

    def model_losses(
        self, rows: ReplayRows, initial: State | None, noise: Noise
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Observed]:
        """World-model losses with the Jacobian penalty, metrics, and the posterior states."""
        seen_by_encoder = noise.disturbance.observation
        embed = self._encode(rows.observation if seen_by_encoder is None else seen_by_encoder)
        error = self.comparators.latent_error(noise.disturbance)
        state, posterior = self.world_model.rssm.filter(
            embed, rows.previous_action, rows.is_first, noise.posterior, initial, error
        )
        self.comparators.measure(state.stoch if error is None else state.stoch - error)
        losses, metrics, prior = self._score(rows, state, posterior)
        seen = Observed(state, prior, posterior)
        rollouts = noise.disturbance.rollouts
        if rollouts is not None:
            losses["rollout_spread"] = rollout_spread(
                self.world_model, state, rows.previous_action, rollouts
            )
        if self.jacobian.on:
            losses["jacobian"] = self.jacobian.loss(rows, seen, embed, noise.jacobian)
        return losses, metrics, seen

    def _encode(self, observation: Tensor) -> Tensor:
        return self.world_model.encoder(observation)

    def _score(
        self, rows: ReplayRows, state: State, posterior: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Losses of the world model, metrics of the latent, and the priors."""
        rssm = self.world_model.rssm
        prior = rssm.prior(state.deter)
        losses = self.world_model.losses(rows, Observed(state, prior, posterior))
        with torch.no_grad():
            metrics = {
                "latent/kl": rssm.latent.kl(posterior, prior).mean(),
                "latent/prior_entropy": rssm.latent.entropy(prior).mean(),
                "latent/posterior_entropy": rssm.latent.entropy(posterior).mean(),
            }
        return losses, metrics, prior

    def behaviour_losses(
        self, rows: ReplayRows, seen: Observed, noise: Noise
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Losses of actor and critic from imagination, λ-returns, metrics."""
        stride = self.config.behaviour.imagination_stride
        start = State(*(part[:, ::stride].detach().flatten(0, 1) for part in seen.state))  # (N, …)
        grad = nullcontext() if self.behaviour.objective.needs_gradient else torch.no_grad()
        with grad:
            imagined = imagine(
                self.frozen_model.rssm,
                self.behaviour.actor,
                start,
                noise.latent,
                noise.action,
                self.scan,
            )
        continues = 1 - rows.is_terminal[:, ::stride].flatten().float()
        losses, returns = self.behaviour.losses(
            self.frozen_model, self.frozen_critic, imagined, continues
        )
        if self.config.behaviour.replay_critic_weight:
            starts = returns[:, 0].detach().unflatten(0, rows.reward.shape)
            losses["replay_critic"] = self.behaviour.replay_loss(rows, seen.state.features, starts)
        with torch.no_grad():
            metrics = {
                "behaviour/return": returns.mean(),
                "behaviour/return_scale": self.behaviour.returns.scale(),
                "behaviour/action_std": imagined.actions.std(1).mean(),
            }
        return losses, returns, metrics

    def open_loop(self, batch: Mapping[str, Tensor], context: int) -> dict[str, Tensor]:
        """Truth and prediction (B, T, *obs_shape), in observation units, images in [0, 1].

        The first `context` rows are reconstructed from the posterior. The others are predicted by
        the prior from the actions alone. Every call uses the same noise.
        """
        rows = ReplayRows.of(batch)
        generator = torch.Generator(self.device).manual_seed(self.config.seed + 4)
        noise = self.world_model.rssm.latent.draw_noise((*rows.reward.shape,), generator)
        with torch.no_grad(), self._autocast():
            predicted = self.world_model.open_loop(rows, context, noise)
        truth = rows.observation
        if truth.dtype == torch.uint8:
            truth = truth.float() / 255
        return {"truth": truth, "model": predicted.float()}

    def describe(self) -> list[str]:
        """Number of parameters of each part, and the penalty's weight with its normalisation."""
        lines = [
            f"{name}: {sum(weight.numel() for weight in part.parameters()):,} parameters"
            for name, part in self.parts.items()
        ]
        return [*lines, self.jacobian.describe()]

    # -- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser moments, running scales, counters and generators, as a nested dict."""
        return {
            **self.networks(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
            "noise_generator": self.noise_generator.get_state(),
            "policy_generator": self.policy_generator.get_state(),
            "probe_generator": self.probe_generator.get_state(),
            "comparators": dict(self.comparators.state_dict()),
            "comparator_generator": self.comparator_generator.get_state(),
        }

    def networks(self) -> dict[str, Any]:
        """The weights alone, with the running mean of the world model's if there is one."""
        mean = {} if self.average is None else {"averaged_world_model": dict(self.average.means)}
        return {
            "world_model": dict(self.world_model.state_dict()),
            "behaviour": dict(self.behaviour.state_dict()),
            **mean,
        }

    def learned(self) -> list[Tensor]:
        """All tensors that an update changes: weights, running scales and moments."""
        moments = self.optimiser.algorithm.state.values()
        return [
            *self.world_model.parameters(),
            *self.behaviour.parameters(),
            *self.behaviour.buffers(),
            *self.comparators.buffers(),
            *(tensor for entry in moments for tensor in entry.values()),
        ]

    def load_networks(self, state: Mapping[str, Any]) -> None:
        """Restore only the networks; the world model's running mean, if it has one, in its place.

        A run with --world-model-only has no behaviour to restore.
        """
        self.world_model.load_state_dict(state["world_model"])
        self.world_model.load_state_dict(state.get("averaged_world_model", {}), strict=False)
        if "behaviour" in state:
            self.behaviour.load_state_dict(state["behaviour"])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict` of the same configuration and spaces."""
        self.load_networks({name: state[name] for name in ("world_model", "behaviour")})
        if self.average is not None:
            for name, value in state["averaged_world_model"].items():
                self.average.means[name].copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])
        if self._graph is not None:  # the moments are other tensors now
            self._graph.forget()
        self.updates = int(state["updates"])
        self.noise_generator.set_state(state["noise_generator"].cpu())
        self.policy_generator.set_state(state["policy_generator"].cpu())
        self.probe_generator.set_state(state["probe_generator"].cpu())
        self.comparators.load_state_dict(state["comparators"])
        self.comparator_generator.set_state(state["comparator_generator"].cpu())

    def _watch(self, rows: ReplayRows, initial: State | None, seen: Observed) -> dict[str, Tensor]:
        """Jacobian diagnostics at states of this batch; their noise depends on the update."""
        generator = torch.Generator(self.device).manual_seed(self.config.seed + self.updates)
        with torch.no_grad():
            embed = self.world_model.encoder(rows.observation)
        found = self.jacobian.metrics(rows, seen, embed, generator)
        on_device = {
            name: torch.full((), value, device=self.device) for name, value in found.items()
        }
        if self.jacobian.on:
            on_device["jacobian/gradient_ratio"] = self._gradient_ratio(rows, initial, generator)
        return on_device

    def _gradient_ratio(
        self, rows: ReplayRows, initial: State | None, generator: torch.Generator
    ) -> Tensor:
        """‖∇(weight·penalty)‖/‖∇(other losses of the world model)‖, undisturbed."""
        batch, length = rows.reward.shape
        model, weights = self.world_model, [*self.world_model.parameters()]
        with self._autocast():
            embed = model.encoder(rows.observation)
            noise = model.rssm.latent.draw_noise((batch, length), generator)
            state, posterior = model.rssm.filter(
                embed, rows.previous_action, rows.is_first, noise, initial
            )
            seen = Observed(state, model.rssm.prior(state.deter), posterior)
            losses = total_loss(model.losses(rows, seen), model.weights())
            drawn = self.jacobian.draw(batch, length, generator)
            penalty = self.penalty_weight * self.jacobian.loss(rows, seen, embed, drawn)
        norms = [
            torch.cat(
                [
                    one.flatten()
                    for one in torch.autograd.grad(total, weights, allow_unused=True)
                    if one is not None
                ]
            ).norm()
            for total in (penalty, losses)
        ]
        return (norms[0] / norms[1]).float()

    # -- parts of an update ----------------------------------------------------------------------

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"
        )

    def _split_context(self, batch: Mapping[str, Tensor]) -> tuple[ReplayRows, State | None]:
        """The rows to train on and the latent state before them."""
        if not self.config.context:
            return ReplayRows.of(batch), None
        rows = ReplayRows(*(field[:, self.config.context :] for field in ReplayRows.of(batch)))
        deter = batch["deter"][:, 0].float()
        stoch = unpack_stoch(batch["stoch"][:, 0], self.config.model.rssm)
        # Rows without a stored state, such as those of a dataset, hold zeros: no class, either.
        return rows, State(deter, stoch * deter.any(-1, keepdim=True))

    def _refreshed(
        self, batch: Mapping[str, Tensor], seen: Observed, noise: Noise
    ) -> dict[str, Tensor]:
        if not self.config.context:
            return {}
        deter, stoch = seen.state.deter.detach().to(torch.float16), seen.state.stoch
        if noise.disturbance.latent is not None:  # classes that an error changes are no draws
            stoch = self.world_model.rssm.latent.sample(seen.posterior, noise.posterior)
        stoch = pack_stoch(stoch.detach(), self.config.model.rssm)
        fresh = {"deter": deter, "stoch": stoch}
        return {name: torch.cat([batch[name][:, :1], fresh[name]], 1) for name in fresh}

    def _draw_noise(self, observation: Tensor) -> Noise:
        batch, length = observation.shape[:2]
        config, generator, rssm = self.config, self.noise_generator, self.world_model.rssm
        horizon = config.behaviour.imagination_horizon
        starts = batch * -(-length // config.behaviour.imagination_stride)
        return Noise(
            rssm.latent.draw_noise((batch, length), generator),
            rssm.latent.draw_noise((horizon, starts), generator),
            self.behaviour.actor.draw_noise((horizon, starts), generator),
            self.jacobian.draw(batch, length, self.probe_generator),
            self.comparators.draw(observation, self.comparator_generator),
        )

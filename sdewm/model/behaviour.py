"""Actor and critic learnt from imagined trajectories."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sdewm.base.fields import NonNegativeFloat, PositiveInt, UnitInterval
from sdewm.model.distributions import Normal, OneHot, TruncatedNormal, widen
from sdewm.model.heads import SCALAR_HEADS, ScalarHead
from sdewm.model.networks import MLP, initialise_all
from sdewm.model.returns import ReturnNormaliser, lambda_return
from sdewm.model.rssm import RSSM, State
from sdewm.model.scan import Scan, step_by_step
from sdewm.model.world_model import ReplayRows, WorldModel


@dataclass(frozen=True)
class BehaviourConfig:
    """Actor, critic and imagination; the defaults are DreamerV3's."""

    imagination_horizon: PositiveInt = 15
    """Imagined time steps per trajectory."""
    imagination_stride: PositiveInt = 1
    """Imagine from every k-th time step of a sequence; k > 1 needs replay_critic_weight=0."""
    discount: UnitInterval = 1 - 1 / 333
    """Discount factor per policy step."""
    discount_lambda: UnitInterval = 0.95
    """Lambda of the lambda-returns."""
    actor_gradient: Literal["reinforce", "dynamics"] = "reinforce"
    """Gradient estimator of the actor: score function, or backpropagation through the dynamics."""
    actor_distribution: Literal["normal", "truncated_normal"] = "normal"
    """Distribution of continuous actions: normal (DreamerV3) or truncated_normal (DreamerV2).
    Discrete actions are one-hot, with 1 % of a uniform distribution."""
    entropy_weight: NonNegativeFloat = 3e-4
    """Weight of the actor's entropy bonus."""
    units: PositiveInt = 256
    """Units per hidden layer of actor and critic."""
    actor_layers: PositiveInt = 3
    """Hidden layers of the actor."""
    critic_layers: PositiveInt = 3
    """Hidden layers of the critic."""
    critic_head: Literal["two_hot", "normal"] = "two_hot"
    """Distribution of the predicted return."""
    normalise_returns: bool = True
    """Divide advantages by max(1, range of returns from the 5th to the 95th percentile)."""
    slow_rate: UnitInterval = 0.02
    """Mixing rate of the slow critic: slow ← (1 − rate)·slow + rate·critic."""
    slow_every: PositiveInt = 1
    """Updates between updates of the slow critic."""
    slow_targets: bool = False
    """Compute lambda-returns from the slow critic (DreamerV2), not from the critic (DreamerV3)."""
    slow_regulariser_weight: NonNegativeFloat = 1.0
    """Weight of the loss that draws the critic towards the mean of the slow critic."""
    replay_critic_weight: NonNegativeFloat = 0.3
    """Weight of the critic's loss on replayed states; its gradient reaches the world model."""


class Imagined(NamedTuple):
    """An imagined batch: states 0, and states 1 … H and actions 0 … H − 1, time first."""

    start: State  # (N, …)
    later: State  # (H, N, …)
    actions: Tensor  # (H, N, A)

    @property
    def features(self) -> Tensor:
        """Features of states 0 … H: (H + 1, N, F)."""
        return torch.cat([self.start.features.unsqueeze(0), self.later.features])


ACTION_UNIMIX = 0.01  # DreamerV3's weight of the uniform distribution in discrete policies
ActionLaw = Normal | TruncatedNormal | OneHot


class Actor(nn.Module):
    """Multilayer perceptron from features to a distribution over actions (…, A).

    Args:
        config: `units`, `actor_layers` and `actor_distribution` are used.
        features: size F.
        actions: dimension A of the action.
        norm: see `make_norm`.
        activation: "silu" or "elu".
        groups: number of classes of each group of one-hot actions; empty: continuous actions.
    """

    def __init__(
        self,
        config: BehaviourConfig,
        features: int,
        actions: int,
        norm: str,
        activation: str,
        groups: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        outputs = actions if groups else 2 * actions
        self.layers = MLP(
            features, config.units, config.actor_layers, outputs, norm, activation, 0.01
        )
        self.actions, self.groups = actions, groups
        self.truncated = config.actor_distribution == "truncated_normal"

    def draw_noise(self, leading: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Noise of one action at each of (…) states, for `sample` of the distribution."""
        if self.groups:
            shape = (*leading, len(self.groups))
            return torch.rand(shape, generator=generator, device=generator.device)
        law = TruncatedNormal if self.truncated else Normal
        return law.draw_noise((*leading, self.actions), generator)

    def forward(self, features: Tensor) -> ActionLaw:
        """The action distribution at each state; a continuous one has its mean in [−1, 1]."""
        outputs = widen(self.layers(features))
        if self.groups:
            return OneHot(outputs, self.groups, ACTION_UNIMIX)
        mean, free = outputs.chunk(2, -1)
        if self.truncated:
            return TruncatedNormal(torch.tanh(mean), 2 * torch.sigmoid(free / 2) + 0.1)
        return Normal(torch.tanh(mean), 0.1 + 0.9 * torch.sigmoid(free + 2))


def act_and_imagine(
    rssm: RSSM,
    actor: Actor,
    deter: Tensor,
    stoch: Tensor,
    latent_noise: Tensor,
    action_noise: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the prior under the actor's action: next deter and stoch, and the action."""
    state = State(deter, stoch)
    action = actor(state.features).sample(action_noise)
    deter, stoch = rssm.imagine_step(state, action, latent_noise)
    return deter, stoch, action


def imagine(
    rssm: RSSM,
    actor: Actor,
    start: State,
    latent_noise: Tensor,
    action_noise: Tensor,
    scan: Scan | None = None,
) -> Imagined:
    """H steps of the prior under the actor from N states.

    Args:
        rssm: the dynamics.
        actor: the policy.
        start: N states; gradients are not propagated beyond them.
        latent_noise: (H, N, …) from `latent.draw_noise`.
        action_noise: (H, N, …) from `actor.draw_noise`.
        scan: of `act_and_imagine` with this rssm and actor; None: step by step.
    """
    unroll = scan or partial(step_by_step, partial(act_and_imagine, rssm, actor))
    deter, stoch, action = unroll(start, (latent_noise, action_noise))
    return Imagined(start, State(deter, stoch), action)


class Objective(Protocol):
    """Estimator of the actor's gradient."""

    needs_gradient: bool  # through the imagined trajectory

    def gain(self, log_prob: Tensor, returns: Tensor, value: Tensor, scale: Tensor) -> Tensor:
        """Objective that the actor maximises, (N, H), before weights and entropy bonus."""
        ...


class Reinforce:
    """Score function: stop-gradient((G − v)/scale)·ln π(a)."""

    needs_gradient = False

    def gain(self, log_prob: Tensor, returns: Tensor, value: Tensor, scale: Tensor) -> Tensor:
        """(N, H)."""
        return ((returns - value) / scale).detach() * log_prob


class DynamicsBackprop:
    """The scaled return, G/scale, differentiated through dynamics, rewards and values.

    This is the full gradient, including the dependence of later actions on earlier ones. DreamerV2
    stops the gradient at the inputs of later actions.
    """

    needs_gradient = True

    def gain(self, log_prob: Tensor, returns: Tensor, value: Tensor, scale: Tensor) -> Tensor:
        """(N, H)."""
        return returns / scale


OBJECTIVES = {"reinforce": Reinforce, "dynamics": DynamicsBackprop}


class Behaviour(nn.Module):
    """Actor, critic, slow critic and normaliser of returns.

    Args:
        config: see `BehaviourConfig`.
        world_model: only its sizes, normalisation and activation are used here.
        actions: dimension A of the action.
        generator: generator of the initial weights.
        groups: number of classes of each group of one-hot actions; empty: continuous actions.

    Raises:
        ValueError: one-hot actions with actor_gradient="dynamics".
    """

    def __init__(
        self,
        config: BehaviourConfig,
        world_model: WorldModel,
        actions: int,
        generator: torch.Generator,
        groups: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        if groups and config.actor_gradient == "dynamics":
            raise ValueError(
                "behaviour.actor_gradient='dynamics': expected 'reinforce' for discrete actions, "
                "through which there is no gradient."
            )
        self.config = config
        features = world_model.rssm.features_size
        style = (world_model.config.norm, world_model.config.activation)
        self.actor = Actor(config, features, actions, *style, groups)
        self.critic: ScalarHead = SCALAR_HEADS[config.critic_head](
            features, config.units, config.critic_layers, world_model.config.bins, *style
        )
        initialise_all(self, generator)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.returns = ReturnNormaliser()
        self.objective: Objective = OBJECTIVES[config.actor_gradient]()

    def losses(
        self,
        world_model: WorldModel,
        critic: ScalarHead,
        imagined: Imagined,
        start_continues: Tensor,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of actor and critic on an imagined batch.

        State t has the weight w_t = continue_0·∏_{k=1…t} γ·continue_k, the discounted probability
        of reaching it. The last state, where no action is taken, trains neither network.

        Args:
            world_model: provides rewards and continuation; a frozen view, because the actor's loss
                must not change it.
            critic: a frozen view of the critic, for the same reason.
            imagined: the batch; with gradient if the objective needs it.
            start_continues: (N,), 0 where the start state is terminal, else 1.

        Returns:
            The losses by name, and the λ-returns (N, H).
        """
        config, features = self.config, imagined.features
        after = features[1:]  # the states arrived at; time first, so that rows lie side by side
        reward = world_model.reward.mean(world_model.reward(after)).T  # (N, H)
        discount = config.discount * world_model.continue_probability(after).T
        slow = self.slow_critic.mean(self.slow_critic(features)).T  # (N, H + 1)
        law = self.critic(features.detach())  # (H + 1, N, …)
        if config.slow_targets:
            value = slow
        elif self.objective.needs_gradient:
            value = critic.mean(critic(features)).T
        else:
            value = self.critic.mean(law.detach()).T
        returns = lambda_return(reward, discount, value[:, 1:], config.discount_lambda)
        with torch.no_grad():
            self.returns.update(returns)
            scale = self.returns.scale() if config.normalise_returns else returns.new_ones(())
            chances = torch.cat([start_continues[:, None], discount[:, :-1]], 1)
            weight = chances.cumprod(1)  # (N, H)
        actions = self.actor(features[:-1].detach())
        log_prob = actions.log_prob(imagined.actions.detach()).T
        gain = self.objective.gain(log_prob, returns, value[:, :-1], scale)
        losses = {
            "actor": -(weight * gain).mean(),
            "entropy": -(weight * actions.entropy().T).mean(),
        }
        more = self.critic_losses(law[:-1], returns.T, slow[:, :-1].T, weight.T)
        return losses | more, returns

    def critic_losses(
        self, law: Tensor, returns: Tensor, slow: Tensor, weight: Tensor
    ) -> dict[str, Tensor]:
        """Weighted mean negative log-likelihoods of the returns and of the slow critic's mean."""
        losses = {"critic": (weight * self.critic.loss(law, returns.detach())).mean()}
        if self.config.slow_regulariser_weight:
            losses["slow"] = (weight * self.critic.loss(law, slow.detach())).mean()
        return losses

    def replay_loss(self, rows: ReplayRows, features: Tensor, start_returns: Tensor) -> Tensor:
        """The critic's loss on replayed states, with gradients into the features.

        The targets are λ-returns along the replayed rewards, bootstrapped from the imagined return
        of each state. A λ-return ends at the last row of its episode with the imagined return of
        that row, or with zero if the row is terminal.

        Args:
            rows: (B, T, …).
            features: (B, T, F) posterior features, with gradient.
            start_returns: (B, T) imagined λ-returns from these states.
        """
        alive = 1 - rows.is_terminal[:, 1:].float()
        lambda_ = self.config.discount_lambda * (1 - rows.is_last[:, 1:].float())
        returns = lambda_return(
            rows.reward[:, 1:], self.config.discount * alive, start_returns[:, 1:], lambda_
        )
        weight = 1 - rows.is_last[:, :-1].float()  # a row after the last belongs elsewhere
        features = features[:, :-1]
        with torch.no_grad():
            slow = self.slow_critic.mean(self.slow_critic(features))
        losses = self.critic_losses(self.critic(features), returns, slow, weight)
        return losses["critic"] + self.config.slow_regulariser_weight * losses.get("slow", 0.0)

    def weights(self) -> dict[str, float]:
        """The weight of every term of `losses`."""
        weights = {"actor": 1.0, "entropy": self.config.entropy_weight, "critic": 1.0}
        if self.config.slow_regulariser_weight:
            weights["slow"] = self.config.slow_regulariser_weight
        return weights

    @torch.no_grad()
    def update_slow_critic(self, updates: int) -> None:
        """Move the slow critic towards the critic, after update number `updates` (from 1)."""
        if updates % self.config.slow_every == 0:
            pairs = zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, self.config.slow_rate)

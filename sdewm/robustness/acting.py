"""An agent that acts under a perturbation, and what the perturbation really did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_choice
from sdewm.data.dmc import DmcEnv
from sdewm.model.rssm import State
from sdewm.perturbations.acting import PerturbedPolicy
from sdewm.perturbations.adversarial import AdversarialPerturbation
from sdewm.perturbations.draws import EpisodeCounter, Realised, draw_seed
from sdewm.perturbations.dynamics import NAMES, DynamicsPerturbation, PerturbedDynamics, acts_on
from sdewm.perturbations.latent import LatentPerturbation
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.perturbations.parsing import Perturbation, check_fits
from sdewm.train.agent import Agent
from sdewm.train.config import Config
from sdewm.train.policy import AgentPolicy
from sdewm.train.sources import configured_vector


class LatentErrors:
    """Errors of stoch along episodes: the `latent_error` of a policy.

    The draws are a function of task, perturbation, number of the episode and step.

    Args:
        perturbation: what is added.
        deviation: standard deviations (Z,) of stoch in unperturbed episodes.
        task: name of the task.

    Attributes:
        realised: moments of the errors so far, in these standard deviations; errors of components
            whose deviation is 0 are left out.
    """

    def __init__(self, perturbation: LatentPerturbation, deviation: Tensor, task: str) -> None:
        self.perturbation, self.deviation, self.task = perturbation, deviation, task
        self.realised, self._places = Realised(), EpisodeCounter()

    def __call__(self, stoch: Tensor, is_first: Tensor) -> Tensor:
        """Stoch (N, Z) with its errors."""
        rows = []
        places = self._places(is_first.tolist())
        for row, (episode, step) in zip(stoch, places, strict=True):
            facts = (self.task, self.perturbation.label, *episode)
            seed = draw_seed(*facts, step) if self.perturbation.every_step else draw_seed(*facts)
            generator = torch.Generator().manual_seed(seed)
            error = self.perturbation.error(row, self.deviation, generator)
            # An error of a component that does not vary has no size in its deviations.
            sized = (self.deviation > 0) | (error == 0)
            sizes = (error / self.deviation.clamp(min=1e-12))[sized].cpu().numpy()
            self.realised.add(np.zeros(len(sizes)), sizes)
            rows.append(row + error)
        return torch.stack(rows) if self.perturbation.strength else stoch


class LatentSpread:
    """Watches stoch while a policy acts; its standard deviations afterwards."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def __call__(self, stoch: Tensor, is_first: Tensor) -> Tensor:
        """stoch, as it is."""
        values = stoch.double()
        self._count += len(values)
        self._sum = self._sum + values.sum(0)
        self._squares = self._squares + values.square().sum(0)
        return stoch

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each component (Z,)."""
        assert isinstance(self._sum, Tensor) and isinstance(self._squares, Tensor)
        mean = self._sum / self._count
        return (self._squares / self._count - mean**2).clamp(min=0).sqrt()


class AttackedPolicy:
    """An agent's policy under adversarial observations, with its latent state known.

    The signs from which an attack starts are a function of task, attack, number of the episode and
    step.

    Args:
        agent: whose encoder or critic is attacked.
        policy: its policy.
        perturbation: the attack.
        task: name of the task.

    Attributes:
        realised: moments of the change so far.
    """

    def __init__(
        self, agent: Agent, policy: AgentPolicy, perturbation: AdversarialPerturbation, task: str
    ) -> None:
        self.agent, self.policy, self.perturbation = agent, policy, perturbation
        self.task = task
        self.realised, self._places = Realised(), EpisodeCounter()

    def start(self, envs: int) -> dict[str, Tensor]:
        """The policy's state; the next rows are the first ones."""
        self._places = EpisodeCounter()
        return self.policy.start(envs)

    def __call__(
        self, rows: Mapping[str, np.ndarray], state: Mapping[str, Tensor]
    ) -> tuple[np.ndarray, dict[str, Tensor], Mapping[str, Any]]:
        """Act on the attacked rows."""
        given = rows["observation"]
        seen = self._attacked(rows, state) if self.perturbation.strength else given
        self.realised.add(given, seen)
        return self.policy({**rows, "observation": seen}, dict(state))

    def _attacked(self, rows: Mapping[str, np.ndarray], state: Mapping[str, Tensor]) -> np.ndarray:
        given, rssm = rows["observation"], self.agent.world_model.rssm
        unit = 255.0 if given.dtype == np.uint8 else 1.0
        device = self.agent.device
        keep = torch.as_tensor(~rows["is_first"], device=device).float()[:, None]
        before = State(state["deter"] * keep, state["stoch"] * keep)
        action = torch.as_tensor(rows["previous_action"], device=device) * keep
        with torch.no_grad():
            deter = rssm.deterministic(before, action)
        clean = torch.as_tensor(given, device=device).float() / unit

        def mean(observation: Tensor) -> Tensor:
            embed = self.agent.world_model.encoder(unit * observation)
            return rssm.latent.mean(rssm.posterior(deter, embed))

        with torch.no_grad():
            reference = mean(clean)

        def damage(observation: Tensor) -> Tensor:
            now = mean(observation)
            if self.perturbation.goal == "posterior":
                return (now - reference).square().sum(1)
            head = self.agent.behaviour.critic
            return -head.mean(head(State(deter, now).features))

        # Of images this rounds the division by 255 alone: the attack shows levels of 8 bits.
        found = unit * self.perturbation.attack(clean, damage, self._signs(rows, clean))
        return (found.round() if unit > 1 else found).cpu().numpy().astype(given.dtype)

    def _signs(self, rows: Mapping[str, np.ndarray], clean: Tensor) -> Tensor:
        facts = (self.task, self.perturbation.label)
        drawn = [
            torch.randn(
                clean.shape[1:],
                generator=torch.Generator().manual_seed(draw_seed(*facts, *episode, step)),
            )
            for episode, step in self._places(rows["is_first"])
        ]
        return torch.stack(drawn).sign().to(clean)


class DynamicsChange:
    """Wraps simulators of this process in a perturbation.

    Attributes:
        made: the wrapped simulators.
    """

    def __init__(self, perturbation: DynamicsPerturbation) -> None:
        self.perturbation = perturbation
        self.made: list[PerturbedDynamics] = []

    def __call__(self, env: gymnasium.Env) -> gymnasium.Env:
        """The simulator with perturbed physics."""
        self.made.append(PerturbedDynamics(env, self.perturbation))
        return self.made[-1]

    @property
    def realised(self) -> Realised:
        """Moments of factor − 1 over all control steps, read back from the simulators' models."""
        found = Realised()
        for env in self.made:
            factors = np.array(env.factors)
            found.add(np.ones(len(factors)), factors)
        return found


def acts_in(name: str, env: str) -> bool:
    """Whether a perturbation of the simulator changes the motion in an environment.

    False of gravity in a plane, for example, and of all environments other than dmc:.

    Args:
        name: one of `sdewm.perturbations.dynamics.NAMES`, without a schedule.
        env: name of the environment.

    Raises:
        ValueError: an unknown perturbation, or an unknown task of dmc:.

    >>> acts_in("gravity", "dmc:cartpole_swingup"), acts_in("gravity", "dmc:reacher_easy")
    (True, False)
    """
    check_choice("perturbation", name, NAMES)
    kind, _, task = env.partition(":")
    if kind != "dmc":
        return False
    simulator = DmcEnv(task, render="fast", pixels=False, seed=0)
    try:
        return acts_on(simulator, name)
    finally:
        simulator.close()


def check_simulator(perturbations: Sequence[Perturbation], config: Config) -> None:
    """Refuse perturbations of a simulator whose physics is not known, or that change nothing in it.

    Raises:
        ValueError: as `PerturbedDynamics`.
    """
    for one in perturbations:
        if isinstance(one, DynamicsPerturbation):
            configured_vector(config, 1, config.seed, DynamicsChange(one)).close()


def check_applies(one: Perturbation, config: Config, *, own_policy: bool) -> None:
    """Refuse a perturbation that does not fit, or changes nothing in the simulator.

    Args:
        one: the perturbation.
        config: configuration of the run that names environment and observations.
        own_policy: as for `check_fits`.

    Raises:
        ValueError: as `check_fits` and `check_simulator`.
    """
    check_fits(one, env=config.env, obs=config.obs, own_policy=own_policy)
    check_simulator([one], config)


def perturbed(
    perturbation: Perturbation, agent: Agent, policy: Any, deviation: Tensor, task: str
) -> tuple[Any, DynamicsChange | None, Any]:
    """The acting policy under a perturbation, the change of its simulator, and what realised it.

    Raises:
        ValueError: a perturbation that does not fit, see `sdewm.perturbations.parsing.check_fits`.
    """
    own = isinstance(policy, AgentPolicy)
    check_fits(perturbation, env=task, obs=agent.config.obs, own_policy=own)
    if isinstance(perturbation, ObservationPerturbation):
        acting = PerturbedPolicy(policy, perturbation, task)
        return acting, None, acting
    if isinstance(perturbation, DynamicsPerturbation):
        change = DynamicsChange(perturbation)
        return policy, change, change
    assert isinstance(policy, AgentPolicy)
    if isinstance(perturbation, LatentPerturbation):
        errors = LatentErrors(perturbation, deviation.to(agent.device), task)
        policy.latent_error = errors
        return policy, None, errors
    attacked = AttackedPolicy(agent, policy, perturbation, task)
    return attacked, None, attacked

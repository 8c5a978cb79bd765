"""Bias of a critic's value after imagination from a perturbed initial latent (S20, S14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from sdewm.base.checks import check_count
from sdewm.base.progress import counted
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.inputs import LatentPolicy, episode_inputs
from sdewm.latent_sde.model_contract import require_model
from sdewm.latent_sde.models import LatentModel, as_latent_model
from sdewm.latent_sde.system import LatentSystem
from sdewm.model.world_model import WorldModel
from sdewm.model_theorems.episode_statistics import mean_curve
from sdewm.model_theorems.imagination import imagination, perturbed_initial_states
from sdewm.model_theorems.representation_error import Perturb, check_episodes
from sdewm.sde.rates import SAMPLED
from sdewm.sde.solve import solve_path
from sdewm.theory.curve import Curve
from sdewm.theory.flow.error_enclosure import enclose_errors
from sdewm.theory.flow.initial_error import CoupledSystem
from sdewm.theory.flow.value_expansion import ValueExpansion, ValueRow, value_expansion

MakeQ = Callable[[LatentSystem], Callable[[Tensor], Tensor]]
SECOND_ORDER_WITHIN = 0.1  # remainder over measured bias up to which second order holds


@dataclass(frozen=True)
class EnclosedBias:
    """Proven bounds on the change of Q on a few paths, beside what is measured on these paths.

    Attributes:
        bound: by step k, the mean of bounds on |Q(X_k(s e)) − Q(X_k(0))| for all |s| ≤ 1; infinite
            from the first step on at which a path abstains.
        change: E|Q(X_k(e)) − Q(X_k(0))|, at most `bound`.
        bias: E[Q(X_k(e)) − Q(X_k(0))], in absolute value at most `change`.
        kind: of the bound: a certificate for each path and a sampled mean over paths.
    """

    bound: Curve
    change: Curve
    bias: Curve
    kind: str = SAMPLED


@dataclass(frozen=True)
class ModelValueBias:
    """Result of `value_bias_on_model`; episodes are the units of all standard errors.

    Attributes:
        expansion: `.terms`, the expansion terms; `.measure(scales)`, the measured bias at scales of
            e; `.order(scales)`, the order of the remainder.
        label: "exact", or the surrogate that replaces the model's noise.
    """

    expansion: ValueExpansion
    label: str
    _paths: tuple[int, ...] = field(repr=False)  # the number of each episode's first path

    def enclosed(self) -> EnclosedBias:
        """Bounds on the change of Q (S34), on one path of each episode.

        Each path takes seconds, up to a minute for large errors. What is proven is said at
        `enclose_rollouts`.

        Raises:
            NoEnclosure: a function of the model or of Q has no enclosure; the message names it.
        """
        problem = self.expansion.problem
        noise, q_function = problem.noise, problem.q_function
        times = noise.grid(torch.float64).tolist()
        bounds, changes, steps = [], [], noise.steps
        for first in counted("bounds of the value", self._paths, len(self._paths)):
            states, errors = (
                part[[first % len(part)]] for part in (problem.states, problem.errors)
            )
            pair = torch.cat((states, states + errors), dim=1)
            with torch.no_grad():
                coupled = CoupledSystem(problem.system)
                path = solve_path(coupled, pair, noise, times=times, first=first)
            here, there = (
                torch.stack([q_function(x) for x in half]) for half in path.chunk(2, dim=2)
            )
            changes.append(there - here)
            more = {"first": first, "steps": steps, "readout": q_function.function}
            bounds.append(enclose_errors(problem.system, states, errors, noise, **more))
            reached = torch.isfinite(bounds[-1][0]).nonzero()
            steps = int(reached.max()) if len(reached) else 0  # the mean is infinite after it
        change, bound = (torch.stack(parts).numpy() for parts in (changes, bounds))
        curves = [mean_curve(times, one.mean(1)) for one in (bound, abs(change), change)]
        return EnclosedBias(bound=curves[0], change=curves[1], bias=curves[2])


def value_bias_on_model(
    world_model: WorldModel | LatentModel,
    episodes: Episodes,
    perturbation: Perturb,
    make_q: MakeQ,
    *,
    start: int,
    horizon: int,
    copies: int = 8,
    paths: int = 4,
    mode: str = "accumulated",
    policy: LatentPolicy | None = None,
    seed: int = 0,
) -> ModelValueBias:
    """Bias of Q after `horizon` imagined steps, caused by a perturbed latent at a row.

    The initial states x0 and the errors e are those of `diverge_on_model`. Q and the predicted bias
    are those of `value_expansion`, at the model's native step.

    Args:
        world_model: a `WorldModel` or any `LatentModel`.
        episodes: recorded, at least two, with start + 1 + horizon rows (with a policy: start + 1).
        perturbation: see `measure_representation_error`.
        make_q: system -> Q of its states (B, D), such as
            `lambda system: sdewm.latent_sde.losses.value(system, agent.behaviour.critic)`.
        start: row of the initial state.
        horizon: number of steps.
        copies: perturbed copies of each episode.
        paths: sample paths of each copy; copies·paths must be even.
        mode: see `diverge_on_model`.
        policy: states (B, D) -> actions (B, A), in closed loop, instead of the recorded actions.
        seed: root seed; for independent repetitions see `measure_representation_error`.

    Raises:
        ValueError: an argument is not allowed; the message states what is.
        FloatingPointError: trajectories become infinite or nan.
    """
    each = check_count("copies", copies) * check_count("paths", paths)
    model = as_latent_model(world_model)
    check_episodes(episodes)
    require_model(model, episode_inputs(episodes, policy), prior=True)
    system = imagination(model, episodes, start=start, horizon=horizon, policy=policy)
    starts = perturbed_initial_states(
        model, episodes, perturbation, start=start, copies=copies, mode=mode, seed=seed
    )
    count = len(starts.states)
    if policy is None:
        states = system.start(starts.states, each)
    else:
        states = starts.states.repeat_interleave(each, 0)
    # Path i of an episode has error i mod K; the episode's number in the state has none.
    errors = starts.errors.repeat(1, paths, 1).flatten(0, 1)  # (E·P·K, D)
    expansion = value_expansion(
        system,
        make_q(system),
        states,
        pad(errors, (0, states.shape[1] - errors.shape[1])),
        t1=horizon,
        steps=horizon,
        paths=count * each,
        groups=count,
        seed=seed,
    )
    return ModelValueBias(expansion, system.label, tuple(range(0, count * each, each)))


def second_order_reach(rows: Sequence[ValueRow]) -> float:
    """Largest scale up to which |remainder| ≤ 0.1·|measured| at every measured scale.

    It is 0 if the inequality fails at the smallest scale.
    """
    reach = 0.0
    for row in sorted(rows, key=lambda row: row.scale):
        if abs(row.remainder.value) > SECOND_ORDER_WITHIN * abs(row.measured.value):
            break
        reach = row.scale
    return reach

"""The bias of a critic's value at the end of imagination from a wrong initial latent (S20, S14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad

from sdewm.base.checks import check_count
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import LatentModel, as_latent_model
from sdewm.latent_sde.system import LatentPolicy, LatentSystem
from sdewm.model.world_model import WorldModel
from sdewm.model_theorems.imagination import imagination, perturbed_initial_states
from sdewm.model_theorems.representation_error import Perturb
from sdewm.theory.flow.value_expansion import ValueExpansion, ValueRow, value_expansion

MakeQ = Callable[[LatentSystem], Callable[[Tensor], Tensor]]
SECOND_ORDER_WITHIN = 0.1  # relative error up to which second order is said to hold


@dataclass(frozen=True)
class ModelValueBias:
    """Result of `value_bias_on_model`; episodes are the units of all standard errors.

    Attributes:
        expansion: its terms, the measured bias at other scales of e, and the order of the remainder
            (`.terms`, `.measure(scales)`, `.order(scales)`).
        label: how the model's noise is to be read, see `LatentSystem.label`.
    """

    expansion: ValueExpansion
    label: str


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
    """How a wrong latent at a row biases Q of the state `horizon` steps of imagination later.

    The starts x0 and the errors e are those of `diverge_on_model`; Q and its prediction are those
    of `value_expansion`, for the model's own steps.

    Args:
        world_model: a `WorldModel` or any `LatentModel`.
        episodes: recorded, at least two, with start + 1 + horizon rows (with a policy: start + 1).
        perturbation: see `measure_representation_error`.
        make_q: system -> Q of its states (B, D), such as
            `lambda system: sdewm.latent_sde.losses.value(system, agent.behaviour.critic)`.
        start: row of the initial state.
        horizon: steps.
        copies: perturbed copies of each episode.
        paths: sample paths of each copy; copies·paths must be even.
        mode: see `diverge_on_model`.
        policy: states (B, D) -> actions (B, A) in the loop, in place of the recorded actions.
        seed: root seed.

    Raises:
        ValueError: names the argument, what was given and what is allowed.
        FloatingPointError: trajectories leave the finite numbers.
    """
    each = check_count("copies", copies) * check_count("paths", paths)
    model = as_latent_model(world_model)
    system = imagination(model, episodes, start=start, horizon=horizon, policy=policy)
    starts = perturbed_initial_states(
        model, episodes, perturbation, start=start, copies=copies, mode=mode, seed=seed
    )
    count = len(starts.states)
    if policy is None:
        states = system.start(starts.states, each)
    else:
        states = starts.states.repeat_interleave(each, 0)
    # Path i of an episode takes row i mod K; the number of the episode has no error.
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
    return ModelValueBias(expansion, system.label)


def second_order_reach(rows: Sequence[ValueRow], share: float = SECOND_ORDER_WITHIN) -> float:
    """Largest scale up to which, at all scales measured, second order errs by at most `share`.

    That is |remainder| ≤ share·|measured|; 0 if it fails at the smallest.
    """
    reach = 0.0
    for row in sorted(rows, key=lambda row: row.scale):
        if abs(row.remainder.value) > share * abs(row.measured.value):
            break
        reach = row.scale
    return reach

"""The configuration of a training run and its presets; the command line is made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args, get_origin, get_type_hints

from sdewm.base.checks import check_choice, check_count, check_device, check_finite_number
from sdewm.jacobian.penalty_config import PenaltyConfig, check_penalty
from sdewm.model.behaviour import BehaviourConfig
from sdewm.model.world_model import WorldModelConfig
from sdewm.train.optimiser import OptimiserConfig


@dataclass(frozen=True)
class Config:
    """Everything that determines a run; the defaults are DreamerV3's for DeepMind Control, 12m."""

    preset: str = "dreamerv3-12m"
    """The preset from which these values started."""
    env: str = "dmc:walker_walk"
    """Environment: dmc:<domain>_<task>, gym:<id> or own:<name>."""
    obs: Literal["proprio", "pixels"] = "proprio"
    """Vectors of the simulator, or images of 64 × 64 pixels."""
    render: Literal["full", "fast"] = "full"
    """Published look, or without shadows, reflections, multisampling and sky (DeepMind Control)."""
    action_repeat: int = 2
    """Simulator steps (env_frames) per policy step."""
    envs: int = 16
    """Environments that are stepped together."""
    workers: bool = True
    """Step each environment in a process of its own, if there are several."""
    env_frames: int = 500_000
    """Length of the run in simulator steps, all environments together."""
    updates: int = 100_000
    """Length of a run with --world-model-only, in gradient updates."""
    train_ratio: float = 512
    """Replayed rows per policy step: one update per batch_size·batch_length/train_ratio of them."""
    batch_size: int = 16
    """Sequences in a batch."""
    batch_length: int = 64
    """Rows in a sequence."""
    context: int = 1
    """1: sequences start from the latent state stored with the row before them (DreamerV3);
    0: from zero."""
    prefill_policy_steps: int = 1040
    """Policy steps before the first update."""
    random_prefill: bool = False
    """Uniformly random actions during the prefill (DreamerV2), else the fresh policy's."""
    replay_capacity: int = 500_000
    """Rows kept, all environments together."""
    eval_every_env_frames: int = 25_000
    """Frames between evaluations."""
    eval_episodes: int = 10
    """Episodes of an evaluation, on fixed seeds."""
    checkpoint_every_seconds: float = 300.0
    """Seconds between checkpoints."""
    log_every_updates: int = 250
    """Updates between rows of metrics.jsonl."""
    seed: int = 0
    """Seed of weights, environments, replay and noise."""
    device: str = "cpu"
    """cpu or cuda."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the networks (autocast); weights are float32."""
    compile: bool = False
    """Compile the losses: minutes at the start, faster updates."""
    deterministic: bool = False
    """Deterministic kernels: on a CPU, equal runs are equal to the last bit."""
    pictures: bool = True
    """Open-loop strips and an episode GIF at each evaluation."""
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    """World model."""
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    """Actor and critic."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """Optimiser."""
    jacobian: PenaltyConfig = field(default_factory=PenaltyConfig)
    """Jacobian penalty."""


COUNTS = (
    "action_repeat envs env_frames updates batch_size batch_length replay_capacity "
    "eval_every_env_frames eval_episodes log_every_updates"
).split()
MODEL_COUNTS = "units vector_layers image_depth reward_layers bins".split()
RSSM_COUNTS = "deter hidden blocks groups classes gaussian_size prior_layers".split()
BEHAVIOUR_COUNTS = "horizon start_every units actor_layers critic_layers slow_every".split()
MODEL_WEIGHTS = "dyn_weight rep_weight free_nats".split()
BEHAVIOUR_WEIGHTS = "entropy slow_regulariser replay_critic".split()


def check_config(config: Config) -> None:
    """Check every number of a configuration before anything is made.

    Raises:
        ValueError: naming the field, what was given and what is allowed.
    """
    for part, names in (
        (config, COUNTS),
        (config.model, MODEL_COUNTS),
        (config.model.rssm, RSSM_COUNTS),
        (config.behaviour, BEHAVIOUR_COUNTS),
    ):
        for name in names:
            check_count(name, getattr(part, name))
    for name in ("prefill_policy_steps", "seed"):
        check_count(name, getattr(config, name), minimum=0)
    check_count("context", config.context, minimum=0, maximum=1)
    check_count("batch_length", config.batch_length, minimum=2)
    _check_above("train_ratio", config.train_ratio, 0.0)
    _check_above("checkpoint_every_seconds", config.checkpoint_every_seconds, 0.0)
    behaviour, rssm, optimiser = config.behaviour, config.model.rssm, config.optimiser
    if config.model.continue_layers is not None:
        check_count("continue_layers", config.model.continue_layers)
    check_count("warm_up", optimiser.warm_up, minimum=0)
    for part, names in ((config.model, MODEL_WEIGHTS), (behaviour, BEHAVIOUR_WEIGHTS)):
        for name in names:
            _check_within(name, getattr(part, name), 0.0, float("inf"))
    for name in ("momentum", "square_decay", "decay"):
        if not 0.0 <= check_finite_number(name, getattr(optimiser, name)) < 1.0:
            given = getattr(optimiser, name)
            raise ValueError(f"{name}={given!r}: expected a number from 0 to below 1.")
    for name in ("discount", "lambda_", "slow_rate"):
        _check_within(name, getattr(behaviour, name), 0.0, 1.0)
    _check_within("unimix", rssm.unimix, 0.0, 1.0)
    _check_above("min_std", rssm.min_std, 0.0)
    for name in ("model_rate", "actor_rate", "critic_rate", "clip", "guard"):
        _check_above(name, getattr(optimiser, name), 0.0)
    for part in (config, config.model, rssm, behaviour, optimiser):
        for name, annotation in get_type_hints(type(part)).items():
            if get_origin(annotation) is Literal:
                check_choice(name, getattr(part, name), get_args(annotation))
    _check_combinations(config)
    check_device(config.device)
    check_penalty(config.jacobian)


def _check_combinations(config: Config) -> None:
    rssm, behaviour, jacobian = config.model.rssm, config.behaviour, config.jacobian
    if rssm.cell == "block_gru" and rssm.deter % rssm.blocks:
        raise ValueError(f"deter={rssm.deter}: expected a multiple of blocks={rssm.blocks}.")
    if behaviour.start_every > 1 and behaviour.replay_critic:
        raise ValueError(
            f"start_every={behaviour.start_every}: replay_critic={behaviour.replay_critic} needs "
            "an imagined return at every row; use start_every=1 or replay_critic=0."
        )
    if config.model.bins % 2 == 0:
        raise ValueError(f"bins={config.model.bins}: expected an odd number, with one bin at 0.")
    window = config.context + config.batch_length
    if window > config.replay_capacity // config.envs:
        raise ValueError(
            f"replay_capacity={config.replay_capacity}: expected at least {window * config.envs}, "
            f"a sequence of {window} rows in each of envs={config.envs}."
        )
    if config.context and rssm.latent == "categorical" and rssm.classes > 256:
        raise ValueError(f"classes={rssm.classes}: at most 256 can be stored with context=1.")
    if jacobian.map == "multi_step" and jacobian.steps >= config.batch_length:
        raise ValueError(
            f"steps={jacobian.steps}: expected fewer than batch_length={config.batch_length}."
        )


def _check_above(name: str, value: object, least: float) -> None:
    if not check_finite_number(name, value) > least:
        raise ValueError(f"{name}={value!r}: expected a number above {least:g}.")


def _check_within(name: str, value: object, low: float, high: float) -> None:
    if not low <= check_finite_number(name, value) <= high:
        raise ValueError(f"{name}={value!r}: expected a number from {low:g} to {high:g}.")

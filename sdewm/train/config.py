"""The configuration of a training run; the command line is made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from sdewm.base.checks import check_device
from sdewm.base.fields import (
    LATER,
    Arguments,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_fields,
)
from sdewm.jacobian.penalty_config import PenaltyConfig, check_penalty
from sdewm.model.behaviour import BehaviourConfig
from sdewm.model.world_model import WorldModelConfig
from sdewm.train.comparators import SPREAD_STEPS, ComparatorConfig
from sdewm.train.optimiser import OptimiserConfig


@dataclass(frozen=True)
class Config:
    """Everything that determines a run; the defaults are DreamerV3's for DeepMind Control, 12m."""

    preset: str = "dreamerv3-12m"
    """Preset that supplies the defaults."""
    env: str = "dmc:walker_walk"
    """Environment: dmc:<domain>_<task>, gym:<id>, gym:<module>:<id> or own:<name>."""
    env_kwargs: Arguments = field(default_factory=dict, metadata=LATER)
    """Arguments of the constructor of a gym: environment; --env-kwargs.NAME VALUE gives one.
    A value is read as JSON (number, true, false, null, quoted text, list), else as a text."""
    time_limit: PositiveInt | None = field(default=None, metadata=LATER)
    """Simulator steps (env_frames) after which an episode is cut off.
    None: only where the environment itself does so."""
    obs: Literal["proprio", "positions", "pixels", "both"] = "proprio"
    """Observations.
    proprio: the simulator's state vector;
    positions: the same without the entries that have velocities (dmc:; not quadrupeds);
    pixels: images of 64 × 64 pixels;
    both: image and vector."""
    render: Literal["full", "fast"] = "full"
    """Images of DeepMind Control.
    full: as published;
    fast: without shadows, reflections, multisampling and sky."""
    action_repeat: PositiveInt = 2
    """Simulator steps (env_frames) per policy step."""
    envs: PositiveInt = 16
    """Number of environments stepped in parallel."""
    workers: bool = True
    """Run each of several environments in its own process."""
    env_frames: PositiveInt = 500_000
    """Length of the run in env_frames (simulator steps), summed over all environments."""
    updates: PositiveInt = 100_000
    """Length of a run with --world-model-only, in gradient updates."""
    train_ratio: PositiveFloat = 512
    """Replayed time steps trained on per policy step; an update uses batch_size × batch_length."""
    batch_size: PositiveInt = 16
    """Sequences per batch."""
    batch_length: Annotated[int, Ge(2)] = 64
    """Time steps per sequence."""
    context: Annotated[int, Ge(0), Le(1)] = 1
    """Latent state from which training sequences start.
    1: the state stored one time step earlier (DreamerV3);
    0: zero."""
    prefill_policy_steps: NonNegativeInt = 1040
    """Policy steps collected before the first update, all environments together."""
    random_prefill: bool = False
    """Collect the prefill with uniformly random actions (DreamerV2), not by the initial policy."""
    replay_capacity: PositiveInt = 500_000
    """Time steps kept in the replay memory, all environments together."""
    eval_every_env_frames: PositiveInt = 25_000
    """env_frames between evaluations."""
    eval_episodes: PositiveInt = 10
    """Episodes per evaluation, on fixed seeds."""
    checkpoint_every_seconds: PositiveFloat = 300.0
    """Seconds between checkpoints; longer if saving takes more than 5 % of that time."""
    keep_every_updates: NonNegativeInt = 0
    """Updates between weights that are kept for good, in the directory kept; 0: none."""
    log_every_updates: PositiveInt = 250
    """Updates between rows of metrics.jsonl."""
    seed: NonNegativeInt = 0
    """Seed of initial weights, environments, replay sampling and noise."""
    device: str = "cpu"
    """Device: cpu, cuda or cuda:<index>."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the networks; bfloat16 uses autocast and keeps the weights in float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile updates: the first takes about a minute longer, in later runs on the same machine
    some seconds, the others about 0.6 of the time.
    auto: if the run makes at least 2000 updates and a compiler is there;
    on: always; off: never."""
    cuda_graph: Literal["auto", "off"] = "auto"
    """Record updates as a CUDA graph.
    auto: on a GPU, if a replay gives the same numbers as an ordinary update;
    off: never."""
    deterministic: bool = False
    """Use deterministic kernels; on a CPU, runs with equal settings are then equal bit for bit."""
    pictures: bool = True
    """Save open-loop image strips and a GIF of an episode at each evaluation."""
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    """World model."""
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    """Actor and critic."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """Optimiser."""
    jacobian: PenaltyConfig = field(default_factory=PenaltyConfig)
    """Jacobian penalty."""
    comparator: ComparatorConfig = field(default_factory=ComparatorConfig)
    """Alternatives to the penalty."""


def check_config(config: Config) -> None:
    """Check every field of a configuration, and how they go together, before anything is made.

    Raises:
        ValueError: the full name of the field, what was given and what is allowed.

    >>> check_config(Config(model=WorldModelConfig(units=-3)))
    Traceback (most recent call last):
    ...
    ValueError: model.units=-3: expected a whole number of at least 1.
    """
    check_fields(config)
    _check_combinations(config)
    check_device(config.device)
    check_penalty(config.jacobian, "jacobian")


def _check_combinations(config: Config) -> None:
    rssm, behaviour, jacobian = config.model.rssm, config.behaviour, config.jacobian
    if rssm.cell == "block_gru" and rssm.deter % rssm.blocks:
        raise ValueError(
            f"model.rssm.deter={rssm.deter}: expected a multiple of "
            f"model.rssm.blocks={rssm.blocks}."
        )
    if behaviour.imagination_stride > 1 and behaviour.replay_critic_weight:
        raise ValueError(
            f"behaviour.imagination_stride={behaviour.imagination_stride}: "
            f"behaviour.replay_critic_weight={behaviour.replay_critic_weight} needs an imagined "
            "return at every time step; use a stride of 1 or a weight of 0."
        )
    if config.optimiser.weight_decay and config.optimiser.algorithm == "laprop":
        raise ValueError(
            f"optimiser.weight_decay={config.optimiser.weight_decay}: "
            "optimiser.algorithm='laprop' has no weight decay; use 0, or 'adam'."
        )
    if config.model.bins % 2 == 0:
        raise ValueError(
            f"model.bins={config.model.bins}: expected an odd number, with one bin at 0."
        )
    window = config.context + config.batch_length
    if window > config.replay_capacity // config.envs:
        raise ValueError(
            f"replay_capacity={config.replay_capacity}: expected at least {window * config.envs}, "
            f"a sequence of {window} time steps in each of envs={config.envs}."
        )
    if config.context and rssm.latent == "categorical" and rssm.classes > 256:
        raise ValueError(
            f"model.rssm.classes={rssm.classes}: at most 256 can be stored with context=1."
        )
    for name in ("input_noise", "input_mask"):
        if config.obs == "both" and (given := getattr(config.comparator, name)):
            raise ValueError(
                f"comparator.{name}={given}: expected 0 with obs='both', whose image and vector "
                "have other units."
            )
    if config.comparator.rollout_spread and config.batch_length <= SPREAD_STEPS:
        raise ValueError(
            f"comparator.rollout_spread={config.comparator.rollout_spread}: expected "
            f"batch_length={config.batch_length} of more than {SPREAD_STEPS}."
        )
    if jacobian.map == "multi_step" and jacobian.steps >= config.batch_length:
        raise ValueError(
            f"jacobian.steps={jacobian.steps}: expected fewer than "
            f"batch_length={config.batch_length}."
        )

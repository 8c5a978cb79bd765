"""The configuration of a training run and its presets; the command line is made from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sdewm.base.checks import check_choice, check_count, check_device, check_finite_number
from sdewm.jacobian_penalty import PenaltyConfig, check_penalty
from sdewm.model.behaviour import BehaviourConfig
from sdewm.model.rssm import RSSMConfig
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
    """Step each environment in a process of its own."""
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


def _dreamerv3(deter: int, hidden: int, classes: int, depth: int, units: int, name: str) -> Config:
    return Config(
        preset=name,
        model=WorldModelConfig(
            rssm=RSSMConfig(deter=deter, hidden=hidden, classes=classes),
            units=units,
            image_depth=depth,
        ),
        behaviour=BehaviourConfig(units=units),
    )


def _dreamerv2(name: str, latent: Literal["categorical", "gaussian"]) -> Config:
    return Config(
        preset=name,
        envs=1,
        workers=False,
        env_frames=1_000_000,
        train_ratio=16 * 50 / 5,  # one update per 5 policy steps
        batch_length=50,
        context=0,
        prefill_policy_steps=1000,
        random_prefill=True,
        replay_capacity=2_000_000,
        eval_every_env_frames=20_000,
        eval_episodes=1,
        model=WorldModelConfig(
            rssm=RSSMConfig(
                cell="gru",
                deter=200,
                hidden=200,
                latent=latent,
                groups=32,
                classes=32,
                unimix=0.0,
                prior_layers=1,
            ),
            norm="none",
            activation="elu",
            units=400,
            vector_layers=4,
            image_layers="strided",
            image_depth=48,
            symlog_inputs=False,
            reward_head="normal",
            reward_layers=4,
            continue_layers=None,
            dyn_weight=0.8,
            rep_weight=0.2,
            free_nats_on="batch_mean",
        ),
        behaviour=BehaviourConfig(
            discount=0.99,
            objective="dynamics",
            actor_law="truncated_normal",
            entropy=1e-4,
            units=400,
            actor_layers=4,
            critic_layers=4,
            critic_head="normal",
            normalise_returns=False,
            slow_rate=1.0,
            slow_every=100,
            slow_targets=True,
            slow_regulariser=0.0,
            replay_critic=0.0,
        ),
        optimiser=OptimiserConfig(
            rule="adam",
            model_rate=3e-4,
            actor_rate=8e-5,
            critic_rate=8e-5,
            guard=1e-5,
            clip=100.0,
            warm_up=0,
            decay=1e-6,
        ),
    )


_TINY = Config(
    preset="tiny",
    envs=1,
    workers=False,
    env_frames=100_000,
    batch_length=32,
    context=0,
    prefill_policy_steps=1000,
    random_prefill=True,
    eval_episodes=5,
    model=WorldModelConfig(
        rssm=RSSMConfig(cell="gru", deter=128, hidden=64, groups=8, classes=8, prior_layers=1),
        norm="layer",
        units=64,
        vector_layers=2,
        image_layers="strided",
        image_depth=4,
        bins=63,
    ),
    behaviour=BehaviourConfig(
        start_every=2, units=64, actor_layers=2, critic_layers=2, replay_critic=0.0
    ),
    optimiser=OptimiserConfig(model_rate=3e-4, actor_rate=3e-4, critic_rate=3e-4, warm_up=200),
)

PRESETS: dict[str, Config] = {
    "tiny": _TINY,
    "dreamerv2": _dreamerv2("dreamerv2", "categorical"),
    "dreamerv2-gaussian": _dreamerv2("dreamerv2-gaussian", "gaussian"),
    "dreamerv3-1m": _dreamerv3(512, 64, 4, 4, 64, "dreamerv3-1m"),
    "dreamerv3-12m": _dreamerv3(2048, 256, 16, 16, 256, "dreamerv3-12m"),
    "dreamerv3-25m": _dreamerv3(3072, 384, 24, 24, 384, "dreamerv3-25m"),
}


def preset(name: str, **changes: Any) -> Config:
    """The named preset with some top-level fields changed.

    >>> preset("tiny", env="dmc:cartpole_swingup").batch_size
    16
    >>> preset("dreamer3-12m")
    Traceback (most recent call last):
    ...
    ValueError: preset='dreamer3-12m' is not allowed; did you mean 'dreamerv3-12m'? Allowed: ...
    """
    return replace(PRESETS[check_choice("preset", name, PRESETS)], **changes)


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

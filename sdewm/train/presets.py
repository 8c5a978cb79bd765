"""The presets: DreamerV2 and V3 as published, and a tiny one for CPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from sdewm.base.checks import check_choice
from sdewm.model.behaviour import BehaviourConfig
from sdewm.model.rssm import RSSMConfig
from sdewm.model.world_model import WorldModelConfig
from sdewm.train.config import Config
from sdewm.train.optimiser import OptimiserConfig


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
            image_encoder="strided",
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
            actor_gradient="dynamics",
            actor_distribution="truncated_normal",
            entropy_weight=1e-4,
            units=400,
            actor_layers=4,
            critic_layers=4,
            critic_head="normal",
            normalise_returns=False,
            slow_rate=1.0,
            slow_every=100,
            slow_targets=True,
            slow_regulariser_weight=0.0,
            replay_critic_weight=0.0,
        ),
        optimiser=OptimiserConfig(
            algorithm="adam",
            model_lr=3e-4,
            actor_lr=8e-5,
            critic_lr=8e-5,
            eps=1e-5,
            clip=100.0,
            warmup_updates=0,
            weight_decay=1e-6,
        ),
    )


_TINY = Config(
    preset="tiny",
    envs=1,
    workers=False,
    env_frames=100_000,
    train_ratio=256,
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
        image_encoder="patches",
        image_depth=4,
        bins=63,
    ),
    behaviour=BehaviourConfig(
        imagination_stride=4, units=64, actor_layers=2, critic_layers=2, replay_critic_weight=0.0
    ),
    optimiser=OptimiserConfig(model_lr=1e-3, actor_lr=1e-3, critic_lr=1e-3, warmup_updates=200),
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

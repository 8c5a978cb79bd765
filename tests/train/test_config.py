"""Presets against the reference tables, number by number."""

import pytest
import torch
from gymnasium.spaces import Box

from sdewm.train.agent import Agent
from sdewm.train.config import Config, check_config
from sdewm.train.presets import PRESETS, preset

# Every number as the reference tables state it; names are paths in the configuration.
DREAMERV3 = {
    "action_repeat": 2,
    "envs": 16,
    "train_ratio": 512,
    "batch_size": 16,
    "batch_length": 64,
    "context": 1,
    "prefill_policy_steps": 16 * 65,
    "random_prefill": False,
    "model.norm": "rms",
    "model.activation": "silu",
    "model.vector_layers": 3,
    "model.image_encoder": "pooled",
    "model.symlog_inputs": True,
    "model.reward_head": "two_hot",
    "model.reward_layers": 1,
    "model.bins": 255,
    "model.continue_layers": 1,
    "model.dyn_weight": 1.0,
    "model.rep_weight": 0.1,
    "model.free_nats": 1.0,
    "model.free_nats_on": "state",
    "model.rssm.cell": "block_gru",
    "model.rssm.blocks": 8,
    "model.rssm.latent": "categorical",
    "model.rssm.groups": 32,
    "model.rssm.unimix": 0.01,
    "model.rssm.prior_layers": 2,
    "behaviour.imagination_horizon": 15,
    "behaviour.imagination_stride": 1,
    "behaviour.discount": 1 - 1 / 333,
    "behaviour.discount_lambda": 0.95,
    "behaviour.actor_gradient": "reinforce",
    "behaviour.actor_distribution": "normal",
    "behaviour.entropy_weight": 3e-4,
    "behaviour.actor_layers": 3,
    "behaviour.critic_layers": 3,
    "behaviour.critic_head": "two_hot",
    "behaviour.normalise_returns": True,
    "behaviour.slow_rate": 0.02,
    "behaviour.slow_every": 1,
    "behaviour.slow_targets": False,
    "behaviour.slow_regulariser_weight": 1.0,
    "behaviour.replay_critic_weight": 0.3,
    "optimiser.algorithm": "laprop",
    "optimiser.model_lr": 4e-5,
    "optimiser.actor_lr": 4e-5,
    "optimiser.critic_lr": 4e-5,
    "optimiser.beta1": 0.9,
    "optimiser.beta2": 0.999,
    "optimiser.eps": 1e-20,
    "optimiser.clip": 0.3,
    "optimiser.warmup_updates": 1000,
    "optimiser.weight_decay": 0.0,
    "jacobian.weight": 0.0,
}
SIZES = {  # deter, hidden, classes, depth of convolutions, units
    "dreamerv3-1m": (512, 64, 4, 4, 64),
    "dreamerv3-12m": (2048, 256, 16, 16, 256),
    "dreamerv3-25m": (3072, 384, 24, 24, 384),
}
DREAMERV2 = {
    "action_repeat": 2,
    "envs": 1,
    "train_ratio": 16 * 50 / 5,  # one update per 5 policy steps
    "batch_size": 16,
    "batch_length": 50,
    "context": 0,
    "prefill_policy_steps": 1000,
    "random_prefill": True,
    "replay_capacity": 2_000_000,
    "eval_every_env_frames": 2 * 10_000,
    "eval_episodes": 1,
    "model.norm": "none",
    "model.activation": "elu",
    "model.units": 400,
    "model.vector_layers": 4,
    "model.image_encoder": "strided",
    "model.image_depth": 48,
    "model.symlog_inputs": False,
    "model.reward_head": "normal",
    "model.reward_layers": 4,
    "model.continue_layers": None,
    "model.dyn_weight": 0.8,
    "model.rep_weight": 0.2,
    "model.free_nats": 1.0,
    "model.free_nats_on": "batch_mean",
    "model.rssm.cell": "gru",
    "model.rssm.deter": 200,
    "model.rssm.hidden": 200,
    "model.rssm.groups": 32,
    "model.rssm.classes": 32,
    "model.rssm.unimix": 0.0,
    "model.rssm.gaussian_size": 30,
    "model.rssm.min_std": 0.1,
    "model.rssm.prior_layers": 1,
    "behaviour.imagination_horizon": 15,
    "behaviour.discount": 0.99,
    "behaviour.discount_lambda": 0.95,
    "behaviour.actor_gradient": "dynamics",
    "behaviour.actor_distribution": "truncated_normal",
    "behaviour.entropy_weight": 1e-4,
    "behaviour.units": 400,
    "behaviour.actor_layers": 4,
    "behaviour.critic_layers": 4,
    "behaviour.critic_head": "normal",
    "behaviour.normalise_returns": False,
    "behaviour.slow_rate": 1.0,
    "behaviour.slow_every": 100,
    "behaviour.slow_targets": True,
    "behaviour.slow_regulariser_weight": 0.0,
    "behaviour.replay_critic_weight": 0.0,
    "optimiser.algorithm": "adam",
    "optimiser.model_lr": 3e-4,
    "optimiser.actor_lr": 8e-5,
    "optimiser.critic_lr": 8e-5,
    "optimiser.eps": 1e-5,
    "optimiser.clip": 100.0,
    "optimiser.warmup_updates": 0,
    "optimiser.weight_decay": 1e-6,
}


def value_at(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


def differences(config, table):
    return {
        path: (value_at(config, path), wanted)
        for path, wanted in table.items()
        if value_at(config, path) != wanted
    }


@pytest.mark.parametrize("name", [*SIZES])
def test_dreamerv3_presets_have_the_constants_of_the_table(name):
    deter, hidden, classes, depth, units = SIZES[name]
    sizes = {
        "preset": name,
        "model.rssm.deter": deter,
        "model.rssm.hidden": hidden,
        "model.rssm.classes": classes,
        "model.image_depth": depth,
        "model.units": units,
        "behaviour.units": units,
    }
    assert differences(PRESETS[name], DREAMERV3 | sizes) == {}
    assert differences(PRESETS["dreamerv2"], DREAMERV3) != {}


@pytest.mark.parametrize(
    ("name", "latent"), [("dreamerv2", "categorical"), ("dreamerv2-gaussian", "gaussian")]
)
def test_dreamerv2_presets_have_the_constants_of_the_table(name, latent):
    assert differences(PRESETS[name], DREAMERV2 | {"model.rssm.latent": latent}) == {}


def updates_per_frame(config):
    per_step = config.train_ratio / (config.batch_size * config.batch_length)
    return per_step / config.action_repeat


def test_updates_per_frame_are_those_of_the_papers():
    assert updates_per_frame(PRESETS["dreamerv3-12m"]) == 250_000 / 1_000_000
    assert updates_per_frame(PRESETS["dreamerv2"]) == 100_000 / 1_000_000


# walker: 24 observations, 6 actions. 1m proprio and the three pixel sizes are in the reference
# tables (640,867 exactly; 0.7, 10.5 and 23.5 million).
PARAMETERS = [
    ("dreamerv3-1m", (24,), 640_867, 0),
    ("dreamerv3-1m", (64, 64, 3), 700_000, 50_000),
    ("dreamerv3-12m", (64, 64, 3), 10_500_000, 50_000),
    ("dreamerv3-25m", (64, 64, 3), 23_500_000, 50_000),
]


def count_of(*modules):
    return sum(weight.numel() for module in modules for weight in module.parameters())


@pytest.mark.parametrize(("name", "shape", "wanted", "rounding"), PARAMETERS)
def test_parameters_are_as_many_as_published(name, shape, wanted, rounding):
    agent = Agent(PRESETS[name], Box(-1, 1, shape), Box(-1, 1, (6,)))
    parts = agent.world_model, agent.behaviour.actor, agent.behaviour.critic
    assert abs(count_of(*parts) - wanted) <= rounding
    lines = " ".join(agent.describe())
    assert all(f"{count_of(part):,} parameters" in lines for part in parts)


def test_dreamerv2_world_model_has_as_many_parameters_as_computed():
    agent = Agent(PRESETS["dreamerv2"], Box(-1, 1, (64, 64, 3)), Box(-1, 1, (6,)))
    assert abs(count_of(agent.world_model) - 13_700_000) <= 50_000
    images = count_of(agent.world_model.encoder, agent.world_model.decoder)
    assert images > 0.8 * count_of(agent.world_model)


@pytest.mark.parametrize("name", [*PRESETS])
def test_presets_pass_the_check_and_carry_their_name(name):
    check_config(PRESETS[name])
    assert PRESETS[name].preset == name and preset(name, seed=7).seed == 7


def test_defaults_are_the_preset_they_say_they_are():
    assert Config() == PRESETS["dreamerv3-12m"]
    assert torch.device(Config().device).type == "cpu"

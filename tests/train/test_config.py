"""Presets against the reference tables, number by number; bad values are refused."""

from dataclasses import replace

import pytest
import torch
from gymnasium.spaces import Box

from sdewm.jacobian.penalty_config import PenaltyConfig
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
    "model.image_layers": "pooled",
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
    "behaviour.horizon": 15,
    "behaviour.start_every": 1,
    "behaviour.discount": 1 - 1 / 333,
    "behaviour.lambda_": 0.95,
    "behaviour.objective": "reinforce",
    "behaviour.actor_law": "normal",
    "behaviour.entropy": 3e-4,
    "behaviour.actor_layers": 3,
    "behaviour.critic_layers": 3,
    "behaviour.critic_head": "two_hot",
    "behaviour.normalise_returns": True,
    "behaviour.slow_rate": 0.02,
    "behaviour.slow_every": 1,
    "behaviour.slow_targets": False,
    "behaviour.slow_regulariser": 1.0,
    "behaviour.replay_critic": 0.3,
    "optimiser.rule": "laprop",
    "optimiser.model_rate": 4e-5,
    "optimiser.actor_rate": 4e-5,
    "optimiser.critic_rate": 4e-5,
    "optimiser.momentum": 0.9,
    "optimiser.square_decay": 0.999,
    "optimiser.guard": 1e-20,
    "optimiser.clip": 0.3,
    "optimiser.warm_up": 1000,
    "optimiser.decay": 0.0,
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
    "model.image_layers": "strided",
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
    "behaviour.horizon": 15,
    "behaviour.discount": 0.99,
    "behaviour.lambda_": 0.95,
    "behaviour.objective": "dynamics",
    "behaviour.actor_law": "truncated_normal",
    "behaviour.entropy": 1e-4,
    "behaviour.units": 400,
    "behaviour.actor_layers": 4,
    "behaviour.critic_layers": 4,
    "behaviour.critic_head": "normal",
    "behaviour.normalise_returns": False,
    "behaviour.slow_rate": 1.0,
    "behaviour.slow_every": 100,
    "behaviour.slow_targets": True,
    "behaviour.slow_regulariser": 0.0,
    "behaviour.replay_critic": 0.0,
    "optimiser.rule": "adam",
    "optimiser.model_rate": 3e-4,
    "optimiser.actor_rate": 8e-5,
    "optimiser.critic_rate": 8e-5,
    "optimiser.guard": 1e-5,
    "optimiser.clip": 100.0,
    "optimiser.warm_up": 0,
    "optimiser.decay": 1e-6,
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


def changed(path, value, base="dreamerv3-12m"):
    """The preset with the value at a path replaced, whatever it is."""

    def change(part, names):
        new = value if len(names) == 1 else change(getattr(part, names[0]), names[1:])
        return replace(part, **{names[0]: new})

    return change(PRESETS[base], path.split("."))


BAD = [
    ("envs", 0, "envs=0: expected a whole number of at least 1"),
    ("context", 2, "context=2: .* at most 1"),
    ("batch_length", 1, "batch_length=1: .* at least 2"),
    ("train_ratio", 0.0, "train_ratio=0.0: expected a number above 0"),
    ("checkpoint_every_seconds", float("nan"), "checkpoint_every_seconds=nan"),
    ("obs", "pixel", "obs='pixel' is not allowed; did you mean 'pixels'"),
    ("precision", "float16", "did you mean 'bfloat16'|did you mean 'float32'"),
    ("device", "cpux", "device"),
    ("replay_capacity", 100, "replay_capacity=100"),
    ("model.norm", "rsm", "did you mean 'rms'"),
    ("model.bins", 254, "bins=254: expected an odd number"),
    ("model.rep_weight", -0.1, "rep_weight=-0.1"),
    ("model.continue_layers", 0, "continue_layers=0"),
    ("model.rssm.cell", "block-gru", "did you mean 'block_gru'"),
    ("model.rssm.deter", 2047, "deter=2047: expected a multiple of blocks=8"),
    ("model.rssm.classes", 257, "classes=257: at most 256"),
    ("model.rssm.unimix", 1.5, "unimix=1.5: expected a number from 0 to 1"),
    ("behaviour.objective", "dynamic", "did you mean 'dynamics'"),
    ("behaviour.discount", 1.1, "discount=1.1"),
    ("behaviour.start_every", 2, "start_every=2: replay_critic=0.3"),
    ("behaviour.entropy", -1.0, "entropy=-1.0"),
    ("optimiser.rule", "adamw", "did you mean 'adam'"),
    ("optimiser.momentum", 1.0, "momentum=1.0"),
    ("optimiser.model_rate", 0.0, "model_rate=0.0"),
    ("optimiser.warm_up", -1, "warm_up=-1"),
    ("jacobian", PenaltyConfig(map="multi_step", steps=64), "steps=64: .*batch_length=64"),
    ("jacobian", PenaltyConfig(share=0.0), "share=0.0"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_bad_values_are_refused_by_name(path, value, message):
    with pytest.raises(ValueError, match=message):
        check_config(changed(path, value))


def test_defaults_are_the_preset_they_say_they_are():
    assert Config() == PRESETS["dreamerv3-12m"]
    assert torch.device(Config().device).type == "cpu"

"""Every field of a configuration is checked, and errors give its full name."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sdewm.base.fields import field_names
from sdewm.jacobian.penalty_config import PenaltyConfig
from sdewm.train.config import Config, check_config
from sdewm.train.presets import PRESETS


def changed(path, value, base="dreamerv3-12m"):
    """The preset with the value at a path replaced, whatever it is."""

    def change(part, names):
        new = value if len(names) == 1 else change(getattr(part, names[0]), names[1:])
        return replace(part, **{names[0]: new})

    return change(PRESETS[base], path.split("."))


BAD = [
    ("envs", 0, "envs=0: expected a whole number of at least 1."),
    ("envs", True, "envs=True: expected a whole number"),
    ("envs", 2.0, "envs=2.0: expected a whole number"),
    ("workers", 1, "workers=1: expected True or False."),
    ("env", Path("x"), "env=PosixPath('x'): expected a text."),
    ("context", 2, "context=2: expected a whole number of at least 0 and at most 1."),
    ("batch_length", 1, "batch_length=1: expected a whole number of at least 2."),
    ("train_ratio", 0.0, "train_ratio=0.0: expected a finite number above 0."),
    ("train_ratio", True, "train_ratio=True: expected a finite number above 0."),
    ("checkpoint_every_seconds", float("nan"), "checkpoint_every_seconds=nan: expected a finite"),
    ("obs", "pixel", "obs='pixel' is not allowed; did you mean 'pixels'?"),
    ("precision", "float16", "did you mean 'bfloat16'?"),
    ("device", "cpux", "device='cpux': expected 'cpu' or 'cuda[:index]'"),
    ("replay_capacity", 100, "replay_capacity=100: expected at least 1040"),
    ("model", "small", "model='small': expected the fields of WorldModelConfig."),
    ("model.units", -3, "model.units=-3: expected a whole number of at least 1."),
    ("model.norm", "rsm", "model.norm='rsm' is not allowed; did you mean 'rms'?"),
    ("model.bins", 254, "model.bins=254: expected an odd number"),
    ("model.rep_weight", -0.1, "model.rep_weight=-0.1: expected a finite number of at least 0."),
    ("model.continue_layers", 0, "0: expected a whole number of at least 1, or None."),
    ("model.rssm.cell", "block-gru", "did you mean 'block_gru'?"),
    ("model.rssm.deter", 2047, "2047: expected a multiple of model.rssm.blocks=8."),
    ("model.rssm.classes", 257, "model.rssm.classes=257: at most 256"),
    ("model.rssm.unimix", 1.5, "1.5: expected a finite number of at least 0 and at most 1."),
    ("behaviour.actor_gradient", "dynamic", "did you mean 'dynamics'?"),
    ("behaviour.discount", 1.1, "behaviour.discount=1.1: expected a finite number"),
    ("behaviour.imagination_stride", 2, "2: behaviour.replay_critic_weight=0.3 needs"),
    ("behaviour.entropy_weight", float("inf"), "behaviour.entropy_weight=inf: expected a finite"),
    ("optimiser.algorithm", "adamw", "did you mean 'adam'?"),
    ("optimiser.beta1", 1.0, "1.0: expected a finite number of at least 0 and below 1."),
    ("optimiser.weight_decay", 2, "2: expected a finite number of at least 0 and below 1."),
    ("optimiser.model_lr", torch.tensor(0.1), "optimiser.model_lr=tensor(0.1000): expected"),
    ("optimiser.warmup_updates", -1, "-1: expected a whole number of at least 0."),
    ("jacobian.probes", 0, "jacobian.probes=0: expected a whole number of at least 1."),
    ("jacobian.floor", 0.5, "jacobian.floor=0.5: only jacobian.schedule='decay'"),
    ("jacobian.policy", "include", "did you mean 'included'?"),
    ("jacobian", PenaltyConfig(map="multi_step", steps=64), ".steps=64: expected fewer than batch"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), BAD)
def test_bad_values_are_refused_by_their_full_name(path, value, sentence):
    with pytest.raises(ValueError) as refused:
        check_config(changed(path, value))
    said = str(refused.value)
    assert said.startswith(path) and sentence in said, said


@pytest.mark.parametrize("path", [*field_names(Config)])
def test_every_field_refuses_a_value_of_another_type_by_its_full_name(path):
    with pytest.raises(ValueError) as refused:
        check_config(changed(path, object()))
    assert re.fullmatch(rf"{re.escape(path)}=<object .*>: expected .*\.", str(refused.value))


def test_whole_numbers_will_do_for_floats():
    check_config(changed("train_ratio", 256))
    check_config(changed("model.rssm.unimix", 0))
    check_config(changed("train_ratio", np.float64(256)))

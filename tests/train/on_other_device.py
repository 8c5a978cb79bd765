"""Agents and a whole run on a device that is not the CPU; run as a script, it prints JSON lines.

Presets, made small, make three updates, the third of them with a row of the log. Then a run is
trained, saved, and resumed.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box

from tests import other_device
from tests.other_device import DEVICE, NAME, crossings

torch.set_num_threads(1)
torch.Generator = other_device.Generator

from sdewm.data import replay  # noqa: E402
from sdewm.train import trainer  # noqa: E402
from sdewm.train.agent import Agent  # noqa: E402
from sdewm.train.metrics import UpdateMeans  # noqa: E402
from sdewm.train.presets import PRESETS  # noqa: E402
from sdewm.train.run_directory import create_run, read_run  # noqa: E402
from tests.train.fake_agent import small_config  # noqa: E402
from tests.train.small_agent import ACTIONS, OBSERVATIONS, make_batch  # noqa: E402

SPACES = Box(-1, 1, (OBSERVATIONS,)), Box(-1, 1, (ACTIONS,))


def small(config, **changes):
    """The configuration with the smallest sizes, on the device."""
    sizes = {"deter": 16, "hidden": 8, "blocks": 4, "groups": 4, "classes": 4, "gaussian_size": 5}
    model = replace(
        config.model, rssm=replace(config.model.rssm, **sizes), units=16, vector_layers=1, bins=41
    )
    behaviour = replace(
        config.behaviour, imagination_horizon=3, units=16, actor_layers=1, critic_layers=1
    )
    settings = {"batch_size": 3, "batch_length": 6, "log_every_updates": 3, "device": NAME}
    return replace(config, model=model, behaviour=behaviour, **settings, **changes)


def updates(config):
    """What crosses between the devices in an update after the first, a logged one, in acting."""
    agent, means = Agent(config, *SPACES), UpdateMeans()
    batch = {name: rows.to(DEVICE) for name, rows in make_batch(config).items()}
    found = []
    for _ in range(3):  # in the first the penalty looks at its step
        with crossings() as crossed:
            metrics, fresh = agent.update(batch)
        found.append(crossed)
        means.add(metrics)
        strange = [name for name, value in metrics.items() if value.device != DEVICE]
        assert not strange, strange
        assert all(value.device == DEVICE for value in fresh.values())
    kept = UpdateMeans()
    kept.load_state_dict([[names, table.to("cpu")] for names, table in means.state_dict()], DEVICE)
    kept.add(metrics)
    kept.check(4)
    assert all(np.isfinite(value) for value in kept.take().values())
    other = Agent(config, *SPACES)
    other.load_state_dict(agent.state_dict())
    other.update(batch)
    policy = agent.policy("sample")
    rows = {"reward": np.zeros(2, np.float32), "is_first": np.array([True, False])}
    rows["observation"] = np.zeros((2, OBSERVATIONS), np.float32)
    rows["previous_action"] = np.zeros((2, ACTIONS), np.float32)
    with crossings() as acting:
        policy(rows, policy.start(2))
    return {"second": found[1], "logged": found[2], "acting": acting}


def whole_run(folder):
    """A run that is saved, and resumed, with replay and evaluation on the device."""
    replay.check_device = torch.device  # the public door allows cpu and cuda only
    config = small(
        small_config(
            env_frames=600, prefill_policy_steps=40, eval_every_env_frames=600, eval_episodes=1,
            context=1, train_ratio=4.0, jacobian=replace(small_config().jacobian, weight=0.01),
        ),
        precision="bfloat16", deterministic=False,
    )  # fmt: skip
    trainer.Trainer(folder, create_run(folder, config)).train()
    (folder / "config.json").write_text(
        json.dumps({**json.loads((folder / "config.json").read_text()), "env_frames": 800})
    )
    made = trainer.Trainer(folder, read_run(folder))
    made.train()
    return {"updates": made.updates, "device": str(made.replay.device)}


def controls():
    """What the device notices."""
    here, there = torch.ones(2, device=DEVICE), torch.ones(())
    try:
        torch.stack([here.sum(), there])
        mixed = False
    except RuntimeError:
        mixed = True
    with crossings() as crossed:
        float(here.sum())
        here.nonzero()
        here[here > 0]
        here.cpu()
        here + 1.0
    broken = Agent(small(PRESETS["tiny"]), *SPACES)
    broken._watch = lambda rows, initial, seen: {"jacobian/x": torch.zeros(())}
    batch = {name: rows.to(DEVICE) for name, rows in make_batch(broken.config).items()}
    means, noticed = UpdateMeans(), False
    try:
        for _ in range(3):
            means.add(broken.update(batch)[0])
    except RuntimeError:
        noticed = True
    return {"mixed": mixed, "crossed": crossed, "noticed": noticed}


def main(names):
    for name in names:
        if name == "controls":
            print(json.dumps({"name": name, **controls()}), flush=True)
            continue
        if name == "run":
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps({"name": name, **whole_run(Path(folder) / "run")}), flush=True)
            continue
        preset, precision, weight = name.split("/")
        config = small(PRESETS[preset], precision=precision)
        config = replace(config, jacobian=replace(config.jacobian, weight=float(weight)))
        print(json.dumps({"name": name, **updates(config)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""A run of the real agent on real physics, killed and resumed, as `sdewm` does it."""

import json
import signal
import sys

import pytest
import torch

from sdewm.base.records import read_log
from sdewm.cli import main
from sdewm.data.dataset import read_dataset
from sdewm.train.checkpoint import Checkpoints, tensors_of
from sdewm.train.metrics import CLOCK_COLUMNS
from sdewm.train.saved_agent import saved_agent
from tests.child_process import run as run_process
from tests.data.opengl_here import needs_opengl

# Both sizes of sequences: with stored latents at their start (context 1), and without.
WORDS = (
    "--preset tiny --env dmc:cartpole_swingup --obs proprio --env-frames 1392 --deterministic "
    "--prefill-policy-steps 150 --train-ratio 64 --batch-size 4 --batch-length 16 --envs 2 "
    "--log-every-updates 4 --eval-every-env-frames 100000 --eval-episodes 1 --no-pictures "
    "--jacobian.weight 0.01 --action-repeat 8"  # episodes of 125 steps
).split()
# Episodes of about 20 steps, so that the kill comes in the middle of one.
DISCRETE = tuple(
    "--context 1 --env gym:CartPole-v1 --action-repeat 1 --env-frames 174 --random-prefill".split()
)
# `sdewm` that saves after its second row and is killed after its third, 12 of about 24 updates.
KILLED = """
import os, signal, sys
import torch
from sdewm.cli import main
from sdewm.train.trainer import Trainer

torch.set_num_threads(1)
write = Trainer._log_row

def log_row(self):
    write(self)
    if self.log.rows == 2:
        self.saved = float("-inf")
    if self.log.rows == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Trainer._log_row = log_row
sys.exit(main())
"""


def finish(*words):
    assert main([str(word) for word in words]) == 0


def metrics(run):
    rows = read_log(run / "metrics.jsonl")[0]
    kept = [{name: row[name] for name in row if name not in CLOCK_COLUMNS} for row in rows]
    return kept, read_log(run / "evaluation.jsonl")[0]


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--context", "0"), ("--context", "1"), DISCRETE], ids=str)
def test_a_killed_run_of_the_real_agent_goes_on_bitwise(more, tmp_path):
    words = [*WORDS, *more]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish("train", *words, "--run", whole)
    killed = run_process(sys.executable, "-c", KILLED, "train", *words, "--run", broken)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Checkpoints(broken / "checkpoints").load()["counters"]["updates"] == 8
    assert len(metrics(broken)[0]) == 3
    finish("resume", broken)
    assert metrics(broken) == metrics(whole)
    found, expected = (
        dict(tensors_of(Checkpoints(run / "checkpoints").load()["agent"]))
        for run in (broken, whole)
    )
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    rows = metrics(whole)[0]
    assert rows[-1]["loss/reconstruction"] < rows[0]["loss/reconstruction"]


PIXELS = (
    "--preset tiny --obs pixels --env-frames 880 --prefill-policy-steps 64 --train-ratio 64 "
    "--batch-size 4 --batch-length 16 --log-every-updates 5 --eval-every-env-frames 100000 "
    "--eval-episodes 1 --render fast --action-repeat 8"
).split()


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        "own:cartpole_pixels",
        pytest.param("dmc:cartpole_swingup", marks=needs_opengl),
    ],
)
def test_a_run_from_pixels_learns_to_reconstruct_and_draws_it(env, tmp_path):
    run = tmp_path / "run"
    finish("train", *PIXELS, "--env", env, "--run", run)
    rows, evaluations = metrics(run)
    assert rows[-1]["loss/reconstruction"] < 0.7 * rows[0]["loss/reconstruction"]
    assert evaluations[-1]["env_frames"] >= 880
    drawn = {path.suffix for path in (run / "pictures").iterdir()}
    assert drawn == {".png", ".gif"}


@pytest.mark.slow
def test_a_world_model_learns_from_episodes_that_a_run_recorded(tmp_path):
    run, data, model = (tmp_path / name for name in ("run", "data", "model"))
    finish("train", *WORDS, "--run", run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"eval_episodes": 7}))
    finish("record", data, "--from-run", run, "--episodes", "2")
    said = read_dataset(data).facts["policy"]
    assert said.endswith("updates, changed since: eval_episodes: 1 -> 7")
    assert (read_dataset(data).rows, read_dataset(data).facts["env"]) == (
        2 * 126,
        "dmc:cartpole_swingup",
    )
    more = "--preset tiny --world-model-only --updates 60 --log-every-updates 15 --batch-size 4 "
    more += "--optimiser.warmup-updates 0 --keep-every-updates 30"
    finish("train", *more.split(), "--data", data, "--run", model)
    rows = metrics(model)[0]
    assert [row["updates"] for row in rows] == [15, 30, 45, 60]
    assert rows[-1]["loss/reconstruction"] < 0.7 * rows[0]["loss/reconstruction"]
    actor = [name for name in rows[-1] if "actor" in name]
    assert actor == []
    assert sorted(int(path.name) for path in (model / "kept").iterdir()) == [30, 60]
    middle, last = (saved_agent(model, updates).agent.world_model for updates in (30, None))
    assert not torch.equal(*(next(one.parameters()) for one in (middle, last)))

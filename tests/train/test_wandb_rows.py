"""Weights & Biases is given the rows of a run; the package itself is replaced by a recorder."""

import sys
from types import SimpleNamespace

import pytest

from sdewm.train.wandb_rows import wandb_rows


def test_numbers_are_logged_by_the_counter_of_the_run(monkeypatch):
    calls = []

    def recorder(name):
        return lambda *given, **named: calls.append((name, given, named))

    names = ("init", "define_metric", "log")
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(**{n: recorder(n) for n in names}))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    on_row = wandb_rows()
    about = {
        "name": "cartpole",
        "directory": "/runs/cartpole",
        "step_name": "env_frames",
        "seed": 1,
    }
    on_row("run", about)
    on_row("metrics", {"env_frames": 10, "loss/total": 0.5, "episodes": 2, "episode_return": None})
    on_row("evaluation", {"env_frames": 20, "mean_return": 3.0, "returns": [3.0], "by": "train"})
    (_, _, init), (_, given, step), *rows = calls
    assert (init["project"], init["name"], init["resume"]) == ("sdewm", "cartpole", "allow")
    assert init["config"] == about and (given, step) == (("*",), {"step_metric": "env_frames"})
    assert [one for _, (one,), _ in rows] == [
        {"env_frames": 10, "loss/total": 0.5, "metrics/episodes": 2},
        {"env_frames": 20, "evaluation/mean_return": 3.0},
    ]
    wandb_rows()("run", about)  # resumed
    wandb_rows()("run", about | {"directory": "/runs/other"})
    _, resumed, other = (named["id"] for name, _, named in calls if name == "init")
    assert resumed == init["id"] != other


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install 'sdewm\[wandb\]'"):
        wandb_rows()

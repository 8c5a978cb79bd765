"""Functions of users' files, `sdewm analyse FILE.py:build` and `sdewm train --on-row`."""

import json
import sys

import numpy as np
import pytest

from sdewm.base.records import read_log, read_table
from sdewm.cli import main
from sdewm.commands.user_function import user_function
from sdewm.train import trainer
from tests.train.fake_agent import ENV, FakeAgent

FILE = """
import torch
import neighbour
import sdewm

def build():
    return sdewm.StepModel(
        lambda x, a, v: neighbour.RATE * x + a + 0.1 * v, state_size=2, noise_size=2,
        encoder=lambda x, o: (0.5 * x + 0.5 * o, torch.full_like(x, 0.1)))

def asks(path): return build()
def number(): return 3
def fails(): return build().weights
def leaves(): raise SystemExit("no weights")
def ends(): raise SystemExit(0)
"""
RECORDS = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Sizes:
    deter: int = 2

def build():
    import late
    return Sizes(late.DETER), lambda: __import__("later").DETER
"""
TRAIN = (
    f"--preset tiny --env {ENV} --obs proprio --action-repeat 10 --env-frames 1500 --envs 1 "
    "--prefill-policy-steps 100 --train-ratio 16 --batch-size 4 --batch-length 8 "
    "--log-every-updates 10 --eval-every-env-frames 5000 --eval-episodes 1 --no-pictures"
).split()
STABILITY = "--only stability --stability.start 1 --stability.steps 4 --stability.discard 1".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scratch")
    (folder / "model.py").write_text(FILE)
    (folder / "broken.py").write_text("import nothing_of_this_name\n")
    (folder / "exits.py").write_text("raise SystemExit(0)\n")
    (folder / "neighbour.py").write_text("RATE = 0.5\n")
    draw = np.random.default_rng(0)
    (folder / "eps").mkdir()
    for name, shape in (("eps", (2,)), ("other", (3,))):
        (folder / name).mkdir(exist_ok=True)
        for number in range(3):
            rows = {"state": draw.standard_normal((8, *shape)), "action": np.zeros((8, 2))}
            np.savez(folder / name / f"{number}.npz", **rows, reward=np.zeros(8))
        assert main(["import", str(folder / name), str(folder / f"data-{name}")]) == 0
    return folder


def test_a_file_of_a_user_is_analysed(place, tmp_path, capsys):
    words = ["analyse", f"{place / 'model.py'}:build", "--data", str(place / "data-eps")]
    assert main([*words, *STABILITY, "--stability.exponents", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Left out: policy in the loop, because StepModel has no policy" in said
    _, facts = read_table(tmp_path / "data" / "fig_model_stability.csv")
    file = user_function("model", words[1])
    assert (facts["model"], facts["file"]) == ("model.py:build", file.digest)
    assert facts["data_policy"] == facts["data_seed"] == "unknown"


WRONG = {
    "no file": ("modl.py:build", "data-eps", "there is no file"),
    "no function": ("model.py", "data-eps", "model.py:FUNCTION."),
    "function": ("model.py:biuld", "data-eps", "did you mean 'build'"),
    "arguments": ("model.py:asks", "data-eps", "is called without arguments and raised TypeError"),
    "type": ("model.py:number", "data-eps", "world_model=int: expected a sdewm WorldModel"),
    "error": ("model.py:fails", "data-eps", "no attribute 'weights' (model.py, line 13)"),
    "leaves": ("model.py:leaves", "data-eps", "raised SystemExit: no weights (model.py, line 14)"),
    "ends": ("model.py:ends", "data-eps", "raised SystemExit: 0 (model.py, line 15)"),
    "ends at once": ("exits.py:build", "data-eps", "exits.py cannot be run: SystemExit: 0"),
    "import": ("broken.py:build", "data-eps", "No module named 'nothing_of_this_name' (broken.py"),
    "no data": ("model.py:build", None, "needs --data DIRECTORY"),
    "data": ("model.py:build", "data-ep", "holds no dataset"),
    "shape": ("model.py:build", "data-other", "encoder"),
    "short": ("model.py:build", "data-eps", "error (episodes=None, steps=100, draws=64): "),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_end_in_one_sentence(case, place, tmp_path, capsys):
    model, data, text = WRONG[case]
    words = ["analyse", str(place / model), "--out", str(tmp_path / "out")]
    code = main([*words, *(["--data", str(place / data)] if data else [])])
    said = capsys.readouterr().err
    assert code == 2 and text in " ".join(said.split()), said
    assert len(said.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_file_has_records_and_imports_where_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("late_records", "json"):  # the second is also the name of a module that is loaded
        (tmp_path / f"{name}.py").write_text(RECORDS)
    for name in ("late", "later"):
        (tmp_path / f"{name}.py").write_text("DETER = 3\n")
    for name in ("late_records", "json"):
        found = user_function("model", f"{tmp_path / name}.py:build")
        sizes, later = found.call()
        assert sizes.deter == later() == 3
    assert sys.modules["json"] is json and sys.path[0] != str(tmp_path)


LOG = """
import json
from pathlib import Path

def log(kind, row):
    with (Path(__file__).parent / "seen.jsonl").open("a") as file:
        file.write(json.dumps([kind, row["env_frames"]]) + "\\n")
"""


def test_a_training_run_calls_a_function_of_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trainer, "Agent", FakeAgent)
    (tmp_path / "log.py").write_text(LOG)
    words = ["train", *TRAIN, "--run", str(tmp_path / "run"), "--on-row", f"{tmp_path}/log.py"]
    for wrong, text in (
        (words, "log.py:FUNCTION"),
        ([*words[:-1], f"{tmp_path}/log.py:logs"], "did you mean 'log'"),
        ([*words[:-1], "wnadb"], "expected FILE.py:FUNCTION, or wandb"),
    ):
        assert main(wrong) == 2 and text in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
    assert main([*words[:-1], f"{tmp_path}/log.py:log"]) == 0
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    rows = read_log(tmp_path / "run" / "metrics.jsonl")[0]
    expected = [["metrics", row["env_frames"]] for row in rows]
    assert [one for one in seen if one[0] == "metrics"] == expected and expected
    resume = ["resume", str(tmp_path / "run"), "--env-frames", "2000", "--on-row"]
    assert main([*resume, f"{tmp_path}/log.py:log"]) == 0
    assert len((tmp_path / "seen.jsonl").read_text().splitlines()) > len(seen)

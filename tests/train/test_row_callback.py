"""A user's function sees every row of a run; its errors do not end the training."""

import pytest

from sdewm.base.records import read_log
from sdewm.train import trainer
from sdewm.train.row_callback import RowCallback
from sdewm.train.run_directory import create_run, read_run
from sdewm.train.trainer import Trainer
from tests.train.fake_agent import FakeAgent, small_config


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(trainer, "Agent", FakeAgent)


def train(run, on_row):
    Trainer(run, create_run(run, small_config(env_frames=2000)), on_row=on_row).train()


def test_rows_are_those_of_the_files_in_the_order_in_which_they_are_written(tmp_path):
    seen = []
    train(tmp_path / "run", lambda kind, row: seen.append((kind, row)))
    (kind, about), *rows = seen
    assert kind == "run" and about["name"] == "run" and about["step_name"] == "env_frames"
    assert about["env_frames"] == 2000 and about["model.rssm.deter"] > 0
    for kind in ("metrics", "evaluation"):
        expected = read_log(tmp_path / "run" / f"{kind}.jsonl")[0]
        assert [row for name, row in rows if name == kind] == expected and expected
    frames = [row["env_frames"] for _, row in rows]
    assert frames == sorted(frames)
    again = []
    Trainer(
        tmp_path / "run", read_run(tmp_path / "run"), on_row=lambda *one: again.append(one)
    ).train()
    assert [kind for kind, _ in again] == ["run"]  # nothing is left to do


def test_an_error_is_told_once_and_the_training_goes_on(tmp_path, capsys):
    calls = []

    def fails(kind, row):
        calls.append(kind)
        row.clear()
        if kind == "metrics":
            raise RuntimeError("the server is away")

    train(tmp_path / "run", fails)
    said = capsys.readouterr().err
    assert calls.count("metrics") == 1 and said.count("RuntimeError: the server") == 1
    assert "is not called any more; the training goes on" in said
    rows, _ = read_log(tmp_path / "run" / "metrics.jsonl")
    assert len(rows) > 1 and all("updates" in row for row in rows)


def test_an_interrupt_in_the_function_ends_the_run():
    def stops(kind, row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RowCallback(stops)("metrics", {})

"""The columns of the clock: updates and frames per second."""

from sdewm.base.records import read_log
from sdewm.train import trainer
from sdewm.train.run_directory import create_run
from tests.train.fake_agent import FakeAgent, small_config


def test_the_pace_is_that_of_training_without_evaluations(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "Agent", FakeAgent)
    clock = [0.0]
    evaluated = trainer.evaluate

    def slowly(*arguments, **named):
        clock[0] += 1000.0
        return evaluated(*arguments, **named)

    def tick():
        clock[0] += 1e-3
        return clock[0]

    monkeypatch.setattr(trainer, "evaluate", slowly)
    monkeypatch.setattr(trainer.time, "monotonic", tick)
    run = tmp_path / "run"
    trainer.Trainer(run, create_run(run, small_config(checkpoint_every_seconds=1e9))).train()
    rows = read_log(run / "metrics.jsonl")[0]
    assert all(row["updates_per_second"] > 1 for row in rows) and rows[-1]["seconds"] > 1000

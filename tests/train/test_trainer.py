"""The training loop with a small agent: what is done when, and that nothing is lost."""

import errno
import math
import os
import signal
import sys

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from sdewm.base.records import read_log
from sdewm.data import rollout
from sdewm.data.rollout import EndlessEpisodeError, RandomPolicy
from sdewm.train import checkpoint, trainer
from sdewm.train.checkpoint import CheckpointError, Checkpoints, tensors_of
from sdewm.train.metrics import CLOCK_COLUMNS, DivergedError
from sdewm.train.recording import record_dataset
from sdewm.train.run_directory import RunFacts, create_run, read_run
from sdewm.train.signals import Interrupted, StopRequest
from sdewm.train.trainer import Trainer
from tests.child_process import ROOT, started, wait_until
from tests.train.fake_agent import HELD_UPDATE, FakeAgent, UpdateClock, small_config


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(trainer, "Agent", FakeAgent)
    return FakeAgent


def train(run, data=None, **changes):
    made = Trainer(run, create_run(run, small_config(**changes), data))
    made.train()
    return made


def resume(run):
    made = Trainer(run, read_run(run))
    made.train()
    return made


def metrics(run):
    """All rows without the columns of the clock, exactly as written."""
    rows, facts = read_log(run / "metrics.jsonl")
    kept = [{name: row[name] for name in row if name not in CLOCK_COLUMNS} for row in rows]
    return facts["seed"], kept, read_log(run / "evaluation.jsonl")[0]


def weights(run):
    state = Checkpoints(run / "checkpoints").load()
    return {name: tensor for name, tensor in tensors_of(state["agent"])}


def same_runs(one, two):
    first, second = weights(one), weights(two)
    equal = all(torch.equal(first[name], second[name]) for name in first)
    return metrics(one) == metrics(two) and list(first) == list(second) and equal


@pytest.fixture
def update_clock(monkeypatch):
    """Checkpoints that are due every n seconds are due every n updates."""
    monkeypatch.setattr(trainer, "time", UpdateClock)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Agent", FakeAgent)
        train(run)
    return run


def test_updates_follow_the_train_ratio_and_rows_the_updates(whole):
    rows, facts = read_log(whole / "metrics.jsonl")
    # 300 policy steps, 100 of them before the first update, 16 rows each, 32 rows to a batch
    assert [row["updates"] for row in rows] == [20, 40, 60, 80, 100]
    assert rows[-1]["env_frames"] == 3000 and rows[-1]["policy_steps"] == 300
    for row in rows:
        due = math.floor((row["policy_steps"] - 100) * 16 / 32)
        assert due - 1 <= row["updates"] <= due
        assert row["loss/kl"] == 1.0 and row["loss/fit"] > 0
        assert set(CLOCK_COLUMNS) - {"gpu_memory_mb"} <= set(row)
    assert facts["seed"] == 0 and {"commit", "command", "mujoco", "cores"} <= set(facts)
    state = Checkpoints(whole / "checkpoints").load()
    assert state["counters"] == {"env_frames": 3000, "policy_steps": 300, "updates": 100}


def test_evaluations_come_at_the_interval_and_at_the_end_on_the_same_seeds(whole):
    rows, _ = read_log(whole / "evaluation.jsonl")
    assert [row["env_frames"] for row in rows] == [1260, 2500, 3000]
    assert len({row["seed"] for row in rows}) == 1
    for row in rows:
        assert len(row["returns"]) == row["episodes"] == 2
        assert row["mean_return"] == pytest.approx(np.mean(row["returns"]))
        spread = np.std(row["returns"], ddof=1) / math.sqrt(2)
        assert row["standard_error"] == pytest.approx(spread)


def test_evaluations_and_pictures_do_not_disturb_the_training(whole, tmp_path):
    other = {"eval_every_env_frames": 2000, "eval_episodes": 1, "pictures": True}
    train(tmp_path / "run", **other)
    assert metrics(tmp_path / "run")[1] == metrics(whole)[1]
    train(tmp_path / "seed", seed=1)
    assert metrics(tmp_path / "seed")[1] != metrics(whole)[1]


def test_pictures_are_drawn_at_each_evaluation(tmp_path):
    train(tmp_path / "run", pictures=True, env_frames=1500, obs="pixels")
    found = sorted(path.name for path in (tmp_path / "run" / "pictures").iterdir())
    numbers = ("000001260", "000001500")
    assert found == sorted(
        f"{name}-{number}.{kind}"
        for name, kind in (("episode", "gif"), ("open_loop", "png"))
        for number in numbers
    )


def interrupted_at(run, frames, updates=0, **changes):
    """Train until `frames` and `updates`, save as for a signal, leave."""

    class Stop(StopRequest):
        def check(self):
            if made.source.env_frames >= frames and made.updates >= updates:
                raise Interrupted(signal.SIGTERM)

    made = Trainer(run, create_run(run, small_config(**changes)), Stop())
    with pytest.raises(Interrupted):
        made.train()


@pytest.mark.parametrize("frames", [20, 990, 1380, 2500, 2980])
def test_a_stopped_run_becomes_bitwise_the_uninterrupted_one(frames, whole, tmp_path):
    run = tmp_path / "run"
    interrupted_at(run, frames)
    assert not same_runs(run, whole)
    resume(run)
    assert same_runs(run, whole)


def test_a_run_stopped_after_its_last_update_keeps_its_last_row(tmp_path):
    """Rows every 30 of 100 updates: the last one is written after the last evaluation."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(whole, log_every_updates=30)
    interrupted_at(run, 3000, updates=100, log_every_updates=30)
    assert [row["updates"] for row in metrics(run)[1]] == [30, 60, 90]
    resume(run)
    assert [row["updates"] for row in metrics(run)[1]] == [30, 60, 90, 100]
    assert same_runs(run, whole)
    resume(run)  # a finished run stays as it is
    assert same_runs(run, whole)


def test_without_the_random_states_the_run_would_differ(whole, tmp_path, monkeypatch):
    interrupted_at(tmp_path / "run", 2000)
    monkeypatch.setattr(trainer, "restore_random_states", lambda states: torch.manual_seed(5))
    resume(tmp_path / "run")
    assert not same_runs(tmp_path / "run", whole)


def saved_updates(run):
    """Updates of the newest checkpoint; -1 where there is none yet."""
    pointer = run / "checkpoints" / "latest"
    return int(pointer.read_text()[:9]) if pointer.exists() else -1


@pytest.fixture
def held(tmp_path):
    """A run with two checkpoints or more, in a process that waits for the end of `hold`."""
    run, hold = tmp_path / "run", tmp_path / "hold"
    create_run(run, small_config(checkpoint_every_seconds=5.0))
    hold.touch()
    agent = ROOT / "tests" / "train" / "fake_agent.py"
    with started(sys.executable, agent, "resume", run, environment={"HOLD": str(hold)}) as process:
        wait_until(lambda: saved_updates(run) >= 10, process)
        yield run, hold, process


def test_a_killed_run_becomes_bitwise_the_uninterrupted_one(whole, held):
    run, _, process = held
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 10 <= saved_updates(run) < HELD_UPDATE
    made = resume(run)
    assert made.updates == 100
    assert same_runs(run, whole)


def test_a_signal_saves_and_exits(whole, held):
    run, hold, process = held
    process.send_signal(signal.SIGTERM)
    hold.unlink()
    said = process.communicate()[1]
    assert process.returncode == 143
    assert "Stopped by SIGTERM; a checkpoint is saved." in said
    assert f"sdewm resume {run}" in said
    assert 10 <= saved_updates(run) <= HELD_UPDATE
    resume(run)
    assert same_runs(run, whole)


@pytest.mark.parametrize("part", ["loss", "weights"])
def test_divergence_stops_the_run_and_keeps_the_last_good_checkpoint(
    part, tmp_path, monkeypatch, fake, update_clock
):
    monkeypatch.setattr(fake, "break_at", 7)
    monkeypatch.setattr(fake, "broken_part", part)
    term = "loss/kl = nan" if part == "loss" else "network/weight of the agent is not finite"
    run = tmp_path / "run"
    with pytest.raises(DivergedError, match=f"^update 7: {term}$"):
        train(run, checkpoint_every_seconds=1.0)
    good = Checkpoints(run / "checkpoints").load()
    assert good["counters"]["updates"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in weights(run).values())


@pytest.mark.parametrize(("part", "named"), [("loss", "loss/kl = nan"), ("weights", "network/w")])
def test_divergence_between_checkpoints_is_named(part, named, tmp_path, monkeypatch, fake):
    monkeypatch.setattr(fake, "break_at", 33)
    monkeypatch.setattr(fake, "broken_part", part)  # weights: the environment refuses the actions
    with pytest.raises(DivergedError, match=f"^update 33: {named}"):
        train(tmp_path / "run")
    rows, _ = read_log(tmp_path / "run" / "metrics.jsonl")
    assert [row["updates"] for row in rows] == [20]


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch, fake):
    monkeypatch.setattr(fake, "break_at", 100)  # the last one: no later loss tells
    monkeypatch.setattr(fake, "broken_part", "weights")
    with pytest.raises(DivergedError, match="update 100: network/weight of the agent"):
        train(tmp_path / "run")
    assert not Checkpoints(tmp_path / "run" / "checkpoints").exist()


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path):
    run = tmp_path / "run"
    train(run)
    before = Checkpoints(run / "checkpoints").last, metrics(run)
    resume(run)
    assert (Checkpoints(run / "checkpoints").last, metrics(run)) == before


def test_full_disk_ends_the_run_and_loses_nothing(whole, tmp_path, monkeypatch, update_clock):
    run, real = tmp_path / "run", checkpoint._write

    def full(path, content):
        if "000000010" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, content)

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(CheckpointError, match="No space left"):
        train(run, checkpoint_every_seconds=1.0)
    monkeypatch.setattr(checkpoint, "_write", real)
    assert Checkpoints(run / "checkpoints").load()["counters"]["updates"] == 9
    resume(run)
    assert same_runs(run, whole)


def test_a_world_model_learns_from_a_recorded_dataset(tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    dataset = record_dataset(
        data,
        lambda seed: RandomPolicy(Box(-1.0, 1.0, (1,)), seed),
        small_config(),
        episodes=5,
        seed=3,
        policy_name="random",
    )
    made = train(run, data, updates=70, batch_size=8)
    rows, facts = read_log(run / "metrics.jsonl")
    assert [row["updates"] for row in rows] == [20, 40, 60, 70]
    assert rows[-1]["env_frames"] == 0 and facts["data"] == str(data)
    assert len(made.replay) == dataset.rows
    assert read_log(run / "evaluation.jsonl")[0] == []
    create_run(tmp_path / "again", small_config(updates=70, batch_size=8), data)
    stop = StopRequest()
    broken = Trainer(tmp_path / "again", read_run(tmp_path / "again"), stop)
    stop.number = signal.SIGTERM
    with pytest.raises(Interrupted):
        broken.train()
    resume(tmp_path / "again")
    assert same_runs(tmp_path / "again", run)


@pytest.mark.parametrize(
    ("compile", "updates", "there", "compiles"),
    [
        ("auto", 1999, True, False),
        ("auto", 2000, True, True),
        ("auto", 2000, False, False),
        ("off", 10**6, True, False),
        ("on", 3, True, True),
    ],
)
def test_long_runs_are_compiled(tmp_path, monkeypatch, compile, updates, there, compiles):
    calls = []
    monkeypatch.setattr(trainer.EnvironmentSource, "_due", lambda source, steps: updates)
    monkeypatch.setattr(trainer, "missing_compiler", lambda device: None if there else "g++")
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: calls.append("memory"))
    monkeypatch.setattr(
        trainer.Agent, "compile", lambda agent: calls.append("compile"), raising=False
    )
    made = Trainer(tmp_path, RunFacts(small_config(compile=compile), None, {}))
    assert ("compile" in calls) == compiles and ("memory" in calls) == (updates >= 2000)
    told = [line for line in made.describe() if line.startswith("updates: ")]
    assert len(told) == 1 and ("not compiled" in told[0]) == (not compiles)
    assert ("g++" in told[0]) == (compile != "off" and not there)


def test_planned_updates_are_those_made(whole):
    made = Trainer(whole, read_run(whole))
    assert made.source.planned_updates == read_log(whole / "metrics.jsonl")[0][-1]["updates"] == 100


def test_a_replay_that_outgrows_the_machine_is_warned_of(tmp_path, monkeypatch):
    made = Trainer(tmp_path, RunFacts(small_config(replay_capacity=200), None, {}))
    need = 200 * made.replay.bytes / made.replay.capacity / 1e6  # 300 steps do not all stay
    assert need > 0 and "warning" not in "".join(made.describe())
    for share, warned in ((0.99, True), (1.01, False)):
        monkeypatch.setattr(trainer, "machine_memory_mb", lambda share=share: share * need)
        assert ("--replay-capacity" in made.describe()[-1]) == warned
    made = Trainer(tmp_path, RunFacts(small_config(replay_capacity=10**9), None, {}))
    monkeypatch.setattr(trainer, "machine_memory_mb", lambda: 2 * need)
    assert "--replay-capacity" not in made.describe()[-1]  # of so many rows only 300 are used


def test_an_evaluation_that_does_not_end_saves_what_was_learnt(whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as short:
        short.setattr(rollout, "MOST_STEPS", 40)  # episodes have 100
        with pytest.raises(EndlessEpisodeError, match="has not ended after 40 policy steps"):
            train(run)
    assert Checkpoints(run / "checkpoints").load()["counters"]["updates"] > 0
    resume(run)
    assert same_runs(run, whole)


def test_saving_takes_at_most_a_twentieth_of_the_time(tmp_path, monkeypatch, update_clock):
    save, at = Checkpoints.save, []

    def slow(self, updates, *rest):
        at.append(updates)
        UpdateClock.updates += 1  # a second passes
        return save(self, updates, *rest)

    monkeypatch.setattr(Checkpoints, "save", slow)
    train(tmp_path / "run", checkpoint_every_seconds=5.0)
    assert at[0] <= 6 and [b - a for a, b in zip(at[:-1], at[1:-1], strict=False)] == [20] * 4

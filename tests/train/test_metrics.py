"""Means over updates; what was written is read back, on resume without the rows too many."""

import math

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sdewm.base.records import read_log
from sdewm.train.event_files import event_folder
from sdewm.train.metrics import (
    CLOCK_COLUMNS,
    DivergedError,
    RunLog,
    UpdateMeans,
    append_evaluation,
    memory_metrics,
)

FACTS = {"seed": 3, "command": "sdewm train"}


def row(step, **metrics):
    return {"env_frames": 2 * step, "policy_steps": step, "updates": step // 2, **metrics}


def evaluation(step, by="train"):
    return row(step, mean_return=float(step), standard_error=0.5, returns=[1.0], by=by)


def scalars(run, tag):
    events = EventAccumulator(str(event_folder(run)))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_means_are_those_of_numpy_over_the_updates_that_gave_a_metric():
    means, draw = UpdateMeans(), np.random.default_rng(0)
    values = draw.normal(size=(50, 2)).astype(np.float32)
    for number, (one, two) in enumerate(values):
        metrics = {"loss/one": torch.tensor(one), "two": torch.tensor(two)}
        means.add(metrics if number % 10 == 0 else {"loss/one": torch.tensor(one)})
    taken = means.take()
    assert taken["loss/one"] == pytest.approx(values[:, 0].astype(float).mean(), rel=1e-12)
    assert taken["two"] == pytest.approx(values[::10, 1].astype(float).mean(), rel=1e-12)
    assert means.take() == {}


def test_memory_of_a_metric_may_be_reused_by_the_next_update():
    means, loss = UpdateMeans(), torch.zeros(())
    for value in (1.0, 3.0):
        loss.fill_(value)
        means.add({"loss": loss})
    assert means.take() == {"loss": 2.0}


def test_means_go_on_after_a_checkpoint():
    whole, first, second = UpdateMeans(), UpdateMeans(), UpdateMeans()
    values = torch.rand(20, generator=torch.Generator().manual_seed(1))
    for number, value in enumerate(values):
        metrics = {"a": value} if number % 3 else {"a": value, "b": -value}
        whole.add(metrics)
        (first if number < 7 else second).add(metrics)
        if number == 6:
            second.load_state_dict(first.state_dict(), torch.device("cpu"))
    second.check(20)
    assert second.take() == whole.take()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e13])
def test_divergence_names_the_first_update_and_the_term(bad):
    means = UpdateMeans()
    for number in range(1, 6):
        broken = bad if number >= 3 else 0.0  # update 43; all later ones are broken throughout
        later = bad if number >= 4 else 0.0
        means.add({"loss/kl": torch.tensor(broken), "loss/reward": torch.tensor(later)})
    with pytest.raises(DivergedError, match=r"^update 43: loss/kl = \S+$"):
        means.check(last_update=45)


def test_large_figures_that_are_no_losses_pass():
    means = UpdateMeans()
    means.add({"jacobian/norm": torch.tensor(1e13), "loss/kl": torch.tensor(1e11)})
    means.check(1)


def test_rows_and_events_come_back(tmp_path):
    log = RunLog(tmp_path, FACTS, step_name="env_frames")
    rows = [row(step, episode_return=None if step == 1 else 1.5 * step) for step in (1, 2)]
    for one in rows:
        log.add_row(one | {"loss/kl": 0.25})
    log.add_evaluation(evaluation(2))
    log.add_picture("pictures/strip", np.full((4, 6, 3), 7, np.uint8), 4)
    log.close()
    expected = [one | {"loss/kl": 0.25} for one in rows]
    assert read_log(tmp_path / "metrics.jsonl") == (expected, FACTS)
    assert read_log(tmp_path / "evaluation.jsonl") == ([evaluation(2)], FACTS)
    assert scalars(tmp_path, "train/episode_return") == [(4, 3.0)]
    assert scalars(tmp_path, "loss/kl") == [(2, 0.25), (4, 0.25)]
    assert scalars(tmp_path, "evaluation/mean_return") == [(4, 2.0)]
    events = EventAccumulator(str(event_folder(tmp_path)))
    events.Reload()
    (picture,) = events.Images("pictures/strip")
    assert (picture.step, picture.width, picture.height) == (4, 6, 4)


def write(run, steps, **resumed):
    log = RunLog(run, FACTS, step_name="env_frames", **resumed)
    for step in steps:
        log.add_row(row(step, value=float(step)))
        log.add_evaluation(evaluation(step))
    log.close()


def test_resumed_files_are_those_of_an_uninterrupted_run(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write(whole, range(1, 9))
    write(broken, range(1, 7))
    with (broken / "metrics.jsonl").open("a") as file:
        file.write('{"env_frames": 14, "val')  # cut off by the kill
    assert scalars(broken, "train/value") != scalars(whole, "train/value")
    write(broken, range(4, 9), kept=(3, 3), step=6)
    for name in ("metrics.jsonl", "evaluation.jsonl"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert scalars(broken, "train/value") == scalars(whole, "train/value")


def test_a_run_that_starts_again_forgets_what_was_lost(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write(whole, range(1, 5))
    write(broken, range(1, 4))  # killed before its first checkpoint
    write(broken, range(1, 5))
    assert (broken / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert scalars(broken, "train/value") == scalars(whole, "train/value")


def test_evaluations_by_hand_stay(tmp_path):
    log = RunLog(tmp_path, FACTS, step_name="updates")
    for step, by in ((2, "train"), (2, "evaluate"), (4, "train"), (6, "evaluate")):
        log.add_evaluation(evaluation(step, by))
    log.close()
    RunLog(tmp_path, FACTS, step_name="updates", kept=(0, 1), step=2).close()
    kept = [(one["policy_steps"], one["by"]) for one in read_log(tmp_path / "evaluation.jsonl")[0]]
    assert kept == [(2, "train"), (2, "evaluate"), (6, "evaluate")]


def test_lost_rows_are_reported(tmp_path, capsys):
    write(tmp_path, [1])
    RunLog(tmp_path, FACTS, step_name="updates", kept=(3, 1), step=2).close()
    assert "has 1 rows, but the checkpoint counted 3" in capsys.readouterr().err


def test_bytes_that_are_not_utf8_cost_one_row_and_no_later_row_takes_its_place(tmp_path, capsys):
    write(tmp_path, range(1, 5))
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[2] = b"\xff" + lines[2][1:]
    path.write_bytes(b"\n".join(lines))
    RunLog(tmp_path, FACTS, step_name="updates", kept=(3, 3), step=3).close()
    assert read_log(path)[0] == [row(1, value=1.0), row(3, value=3.0)]
    assert "left out: line 3" in capsys.readouterr().err


def test_an_evaluation_appended_to_a_cut_line_is_read(tmp_path):
    (tmp_path / "evaluation.jsonl").write_bytes(b'{"manifest": {}}\n{"by": "tr')
    append_evaluation(tmp_path, evaluation(2))
    assert read_log(tmp_path / "evaluation.jsonl")[0] == [evaluation(2)]


def test_memory_is_a_clock_column_in_megabytes():
    metrics = memory_metrics()
    assert set(metrics) <= set(CLOCK_COLUMNS)
    assert 50 < metrics["memory_mb"] < 1e5


def test_of_gradient_norms_the_tail_is_kept_as_well():
    means, values = UpdateMeans(), np.random.default_rng(0).lognormal(size=201)
    for value in values:
        means.add({"gradient_norm/model": torch.tensor(value), "loss/one": torch.tensor(value)})
    taken = means.take()
    seen = {name: taken[f"gradient_norm/model_{name}"] for name in ("median", "p99", "max")}
    expected = {"median": np.median(values), "p99": np.quantile(values, 0.99), "max": max(values)}
    assert seen == pytest.approx(expected, rel=1e-6)
    assert not any(name.startswith("loss/one_") for name in taken)

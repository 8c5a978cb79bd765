"""The replay memory: what is in it, which windows come out, what is written back."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from sdewm.data.replay import Field, Replay
from tests.child_process import run

FIELDS = {
    "place": Field((2,), torch.int64),  # environment, time step
    "observation": Field((3, 2), torch.uint8),
    "reward": Field((), torch.float32),
    "is_first": Field((), torch.bool),
    "is_last": Field((), torch.bool),
    "deter": Field((4,), torch.float32, mutable=True),
}
EPISODE = 5  # rows


def row(env, step):
    """The obvious row: every field follows from where it is."""
    return {
        "place": torch.tensor([env, step]),
        "observation": torch.full((3, 2), (7 * step + env) % 256, dtype=torch.uint8),
        "reward": torch.tensor(step + 0.1 * env),
        "is_first": torch.tensor(step % EPISODE == 0),
        "is_last": torch.tensor(step % EPISODE == EPISODE - 1),
        "deter": torch.zeros(4),
    }


def rows_at(step, envs):
    every = [row(env, step) for env in range(envs)]
    return {name: torch.stack([one[name] for one in every]) for name in FIELDS}


def too_many():
    steps = [rows_at(step, 3) for step in range(9)]
    return {name: torch.stack([s[name] for s in steps], dim=1) for name in FIELDS}


def filled(steps, *, capacity=24, envs=3, seed=0, **more):
    replay = Replay(FIELDS, capacity=capacity, envs=envs, seed=seed, **more)
    for step in range(steps):
        replay.add(rows_at(step, envs))
    return replay


def contents(replay):
    """Every row in memory as (env, step), by sampling windows of one row until none is new."""
    batch, _ = replay.sample(60 * len(replay), 1)
    return {tuple(place) for place in batch["place"][:, 0].tolist()}


def window_counts(places):
    """How often each window (env, first step) was drawn."""
    windows, counts = np.unique(places[:, 0].numpy(), axis=0, return_counts=True)
    return {tuple(window): count for window, count in zip(windows.tolist(), counts, strict=True)}


@pytest.mark.parametrize("steps", [7, 8, 11, 29])
def test_all_windows_in_memory_are_equally_likely(steps):
    length, draws = 3, 24_000
    batch, _ = filled(steps).sample(draws, length)
    found = window_counts(batch["place"])
    oldest = max(0, steps - 8)
    every = {(env, step) for env in range(3) for step in range(oldest, steps - length + 1)}
    assert found.keys() == every
    assert scipy.stats.chisquare([*found.values()]).pvalue > 1e-3


def test_the_measure_of_uniformity_notices_a_slight_preference():
    batch, _ = filled(11).sample(24_000, 3)
    repeated = torch.cat([batch["place"], batch["place"][batch["place"][:, 0, 1] == 5][:500]])
    assert scipy.stats.chisquare([*window_counts(repeated).values()]).pvalue < 1e-3


@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_windows_are_consecutive_rows_of_one_environment_at_every_moment(length):
    replay = filled(length - 1)
    for step in range(length - 1, 30):
        replay.add(rows_at(step, 3))
        place = replay.sample(64, length)[0]["place"]
        assert (place[:, :, 0] == place[:, :1, 0]).all()
        assert (place[:, :, 1] == place[:, :1, 1] + torch.arange(length)).all()
        assert place[:, :, 1].min() >= max(0, step - 7) and place[:, :, 1].max() <= step


def test_every_field_comes_back_as_it_was_added_episode_ends_included():
    batch, _ = filled(29).sample(40, 6)
    assert batch["is_last"].any() and batch["is_first"].any()
    for one in range(40):
        for step in range(6):
            expected = row(*batch["place"][one, step].tolist())
            for name, field in FIELDS.items():
                assert batch[name].dtype == field.dtype
                assert torch.equal(batch[name][one, step], expected[name]), name


def test_the_oldest_rows_leave_when_the_memory_is_full():
    replay = filled(8)
    assert len(replay) == 24
    replay.add(rows_at(8, 3))
    assert len(replay) == 24
    assert contents(replay) == {(env, step) for env in range(3) for step in range(1, 9)}


def test_a_capacity_that_is_no_multiple_of_the_environments_is_not_exceeded():
    replay = filled(20, capacity=26)
    assert len(replay) == 24
    assert contents(replay) == {(env, step) for env in range(3) for step in range(12, 20)}


def test_context_rows_come_before_the_window():
    batch, windows = filled(8).sample(5, 3, context=2)
    assert batch["deter"].shape == (5, 5, 4)
    assert windows.places.shape == (5, 5)


def test_many_rows_at_once_are_as_many_single_ones():
    single, bulk = filled(21), filled(0)
    for first, last in ((0, 5), (5, 13), (13, 14), (14, 21)):
        steps = [rows_at(step, 3) for step in range(first, last)]
        bulk.extend({name: torch.stack([s[name] for s in steps], dim=1) for name in FIELDS})
    for name in FIELDS:
        assert torch.equal(single.sample(50, 4)[0][name], bulk.sample(50, 4)[0][name])


def test_numpy_rows_are_taken_even_if_read_only_or_reversed():
    replay = filled(3)
    rows = {name: value.numpy() for name, value in rows_at(3, 3).items()}
    rows["observation"] = rows["observation"][:, ::-1]
    rows["reward"].setflags(write=False)
    replay.add(rows)
    assert contents(replay) == {(env, step) for env in range(3) for step in range(4)}


def test_one_seed_draws_the_same_windows_and_another_others():
    first, same, other = (filled(20, seed=seed).sample(32, 4)[0]["place"] for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_written_latents_come_back_where_they_were_written():
    replay = filled(21)
    batch, windows = replay.sample(16, 3, context=2)
    fresh = batch["place"][:, 2:].float().repeat(1, 1, 2)
    replay.write(windows, {"deter": fresh})
    written = {tuple(place) for place in batch["place"][:, 2:].reshape(-1, 2).tolist()}
    assert 0 < len(written) < len(replay)
    after, _ = replay.sample(2000, 1)
    for place, deter in zip(after["place"][:, 0].tolist(), after["deter"][:, 0], strict=True):
        expected = torch.tensor(place * 2).float() if tuple(place) in written else torch.zeros(4)
        assert torch.equal(deter, expected)


def test_of_overlapping_windows_the_last_is_written():
    replay = filled(8, capacity=8, envs=1)
    _, windows = replay.sample(50, 4)
    number = torch.arange(50.0)[:, None, None].expand(50, 4, 4)
    replay.write(windows, {"deter": number})
    last = {int(place): one for one in range(50) for place in windows.places[one]}
    after, places = replay.sample(100, 1)
    for place, deter in zip(places.places[:, 0].tolist(), after["deter"][:, 0], strict=True):
        assert deter.tolist() == [last[place]] * 4


def test_latents_of_rows_that_have_left_are_not_written_over_new_ones():
    replay = filled(8)
    batch, windows = replay.sample(64, 4)
    for step in range(8, 11):
        replay.add(rows_at(step, 3))
    replay.write(windows, {"deter": torch.ones(64, 4, 4)})
    after, _ = replay.sample(500, 1)
    written = {tuple(place) for place in batch["place"].reshape(-1, 2).tolist() if place[1] >= 3}
    for place, deter in zip(after["place"][:, 0].tolist(), after["deter"][:, 0], strict=True):
        assert deter.tolist() == [float(tuple(place) in written)] * 4


MEMORY = """
import json, sys
from pathlib import Path

import torch

from sdewm.data.replay import Field, Replay


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


torch.use_deterministic_algorithms(sys.argv[1] == "True")
fields = {"observation": Field((24,), torch.float32), "reward": Field((), torch.float32)}
rows = {"observation": torch.ones(4, 500_000, 24), "reward": torch.ones(4, 500_000)}
start = resident_bytes()
replay = Replay(fields, capacity=2_000_000, envs=4, seed=0)
empty = resident_bytes()
replay.extend(rows)
arrays = replay._rings.arrays.values()
held = sum(a.untyped_storage().nbytes() for a in arrays)
print(json.dumps([replay.bytes, held, empty - start, resident_bytes() - empty]))
"""


@pytest.mark.parametrize("deterministic", [False, True])
def test_memory_is_stated_up_front_and_taken_as_rows_come(deterministic):
    """In a process of its own: memory that other tests freed would be taken again."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    ended = run(sys.executable, "-c", MEMORY, str(deterministic))
    assert ended.returncode == 0, ended.stderr
    stated, held, taken, grown = json.loads(ended.stdout)
    assert stated == held == 2_000_000 * 100
    assert taken < 0.05 * stated
    assert grown == pytest.approx(stated, rel=0.1)


def test_more_memory_than_the_machine_has_is_refused_with_its_size():
    with pytest.raises(MemoryError, match=r"need 37252902\d\.\d GiB on cpu"):
        Replay({"image": Field((200, 2000), torch.uint8)}, capacity=10**12, envs=1, seed=0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"capacity": 2}, "capacity=2: expected a whole number of at least 3"),
        ({"envs": 0}, "envs=0"),
        ({"seed": -1}, "seed=-1"),
        ({"device": "gpu"}, "device='gpu'"),
        ({"fields": {}}, "at least one field"),
        ({"fields": {"x": Field((0,), torch.float32)}}, "x: a size of its shape=0"),
        ({"fields": {"x": Field((), torch.complex64)}}, "x: dtype=torch.complex64"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, text):
    given = {"fields": FIELDS, "capacity": 24, "envs": 3, "seed": 0} | arguments
    with pytest.raises(ValueError) as refusal:
        Replay(**given)
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda r: r.can_sample(9), "length=9: capacity=24 stores only 8 rows of each of 3"),
        (lambda r: r.sample(1, 9), "at least 27"),
        (lambda r: r.sample(1, 5, context=4), "length=9"),
        (lambda r: r.sample(1, 6), "length=6, context=0: only 5 rows of each environment"),
        (lambda r: r.sample(0, 2), "batch=0"),
        (lambda r: r.sample(1, 0), "length=0"),
        (lambda r: r.sample(1, 0, context=3), "length=0: expected a whole number of at least 1"),
        (lambda r: r.sample(1, -1, context=4), "length=-1: expected a whole number of at least 1"),
        (lambda r: r.sample(1, 2, context=-1), "context=-1"),
        (lambda r: r.extend(too_many()), "rows per environment=9: expected a whole number"),
    ],
)
def test_windows_that_cannot_be_are_refused(call, text):
    with pytest.raises(ValueError) as refusal:
        call(filled(5))
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"reward": torch.zeros(3, dtype=torch.float64)}, "reward has shape (3,) and torch.float6"),
        ({"reward": torch.zeros(4)}, "expected (3,) and torch.float32"),
        ({"action": torch.zeros(3, 1)}, "expected ['place', 'observation', 'reward'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_added(changed, text):
    replay = filled(5)
    with pytest.raises(ValueError) as refusal:
        replay.add(rows_at(5, 3) | changed)
    assert text in str(refusal.value)
    assert len(replay) == 15
    assert contents(replay) == {(env, step) for env in range(3) for step in range(5)}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"reward": torch.zeros(4, 3)},
            "'reward' is not a mutable field; expected some of ['deter']",
        ),
        ({"deter": torch.zeros(4, 4, 4)}, "expected (4, 3, 4)"),
        ({"deter": torch.zeros(4, 3, 4).double()}, "torch.float64"),
    ],
)
def test_values_that_cannot_be_written_are_refused(values, text):
    replay = filled(8)
    _, windows = replay.sample(4, 3)
    with pytest.raises(ValueError) as refusal:
        replay.write(windows, values)
    assert text in str(refusal.value)

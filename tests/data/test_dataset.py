"""Recorded datasets: written as episodes come, continued, checked, read into a replay memory."""

import errno
import json
import os

import numpy as np
import pytest
import torch

from sdewm.data import dataset as dataset_file
from sdewm.data.dataset import MANIFEST, fill, read_dataset, recorded_episodes, write_dataset
from sdewm.data.replay import Field, Replay

FACTS = {
    "env": "gym:Pendulum-v1",
    "obs": "proprio",
    "action_repeat": 2,
    "policy": "random",
    "seed": 3,
    "command": "sdewm record",
    "commit": "0123456",
}
LENGTHS = [5, 3, 8, 1, 4, 6, 2]


def episode(number, **changed):
    length = LENGTHS[number]
    rows = {
        "observation": np.random.default_rng(number).standard_normal((length, 3), np.float32),
        "reward": np.arange(length, dtype=np.float32) + 100 * number,
        "is_first": np.arange(length) == 0,
        "is_last": np.arange(length) == length - 1,
    }
    return rows | changed


def episodes(first=0, last=7):
    return (episode(number) for number in range(first, last))


@pytest.fixture(autouse=True)
def three_episodes_per_file(monkeypatch):
    monkeypatch.setattr(dataset_file, "FILE_EPISODES", 3)


def stopped(directory, count, stop=KeyboardInterrupt):
    """A recording that something stops after `count` episodes."""

    def some():
        yield from episodes(0, count)
        raise stop

    with pytest.raises(stop):
        write_dataset(directory, some(), FACTS)


def assert_holds_all(dataset):
    found = [*dataset]
    assert len(found) == dataset.episodes == len(LENGTHS)
    assert dataset.rows == sum(LENGTHS)
    for number, one in enumerate(found):
        for name, value in episode(number).items():
            assert torch.equal(one[name], torch.from_numpy(value)), name


def test_what_was_written_is_read_with_its_facts(tmp_path):
    write_dataset(tmp_path, episodes(), FACTS | {"note": "ε"})
    dataset = read_dataset(tmp_path)
    assert_holds_all(dataset)
    assert dataset.fields["observation"] == Field((3,), torch.float32)
    assert dataset.fields["is_last"] == Field((), torch.bool)
    manifest = json.loads((tmp_path / MANIFEST).read_text("utf-8"))
    assert manifest.items() >= (FACTS | {"note": "ε", "rows": 29, "episodes": 7}).items()
    assert [chunk["lengths"] for chunk in manifest["chunks"]] == [[5, 3, 8], [1, 4, 6], [2]]


def test_a_file_is_written_when_it_is_large_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_file, "FILE_BYTES", 5 * (12 + 4 + 2))
    dataset = write_dataset(tmp_path, episodes(), FACTS)
    assert [chunk["lengths"] for chunk in dataset.facts["chunks"]] == [
        [5],
        [3, 8],
        [1, 4],
        [6],
        [2],
    ]


def test_arrays_that_are_used_again_for_the_next_episode_are_copied(tmp_path):
    def reused():
        rows = episode(0)
        for number in range(2):
            rows["reward"][:] = number
            yield rows

    dataset = write_dataset(tmp_path, reused(), FACTS)
    assert [one["reward"][0].item() for one in dataset] == [0, 1]


@pytest.mark.parametrize("count", [1, 3, 5, 7])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_recording_keeps_its_episodes_and_goes_on(count, stop, tmp_path):
    stopped(tmp_path, count, stop)
    with pytest.raises(ValueError, match=f"stopped after {count} episodes"):
        read_dataset(tmp_path)
    assert recorded_episodes(tmp_path, FACTS | {"command": "again"}) == count
    assert_holds_all(write_dataset(tmp_path, episodes(count), FACTS))


def test_a_recording_killed_between_file_and_manifest_goes_on(tmp_path):
    stopped(tmp_path, 3)
    manifest = (tmp_path / MANIFEST).read_bytes()
    stopped_again = [episode(3), episode(4), episode(5)]
    write_dataset(tmp_path, stopped_again, FACTS)
    (tmp_path / MANIFEST).write_bytes(manifest)  # as if the second file was never listed
    assert recorded_episodes(tmp_path, FACTS) == 3
    assert_holds_all(write_dataset(tmp_path, episodes(3), FACTS))


def test_nothing_recorded_counts_as_none(tmp_path):
    assert recorded_episodes(tmp_path / "new", FACTS) == 0


def test_a_complete_dataset_is_not_written_over(tmp_path):
    write_dataset(tmp_path, episodes(), FACTS)
    with pytest.raises(ValueError, match="holds a complete recording"):
        write_dataset(tmp_path, episodes(), FACTS)
    assert_holds_all(read_dataset(tmp_path))


@pytest.mark.parametrize("name", ["env", "obs", "action_repeat", "policy", "seed"])
def test_another_recording_is_not_continued(name, tmp_path):
    stopped(tmp_path, 4)
    with pytest.raises(ValueError, match=f"holds a recording with {name}="):
        write_dataset(tmp_path, episodes(4), FACTS | {name: "other"})


@pytest.mark.parametrize("name", FACTS)
def test_missing_facts_are_named(name, tmp_path):
    facts = {key: value for key, value in FACTS.items() if key != name}
    with pytest.raises(ValueError, match=f"facts lack {name}"):
        write_dataset(tmp_path / "new", episodes(), facts)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"reward": np.zeros(3)}, "episode 1 has fields"),
        ({"action": np.zeros((3, 1))}, "episode 1 has fields"),
        ({"reward": np.zeros(4, np.float32)}, "episode 1: expected fields of one length"),
        ({"is_last": np.zeros(3, bool)}, "episode 1: expected fields of one length"),
        ({"is_last": np.ones(3, bool)}, "is_last in the last row only"),
        ({"is_first": np.zeros(3, bool)}, "is_first true in the first row only"),
    ],
)
def test_episodes_that_are_not_whole_are_refused_and_those_before_kept(changed, text, tmp_path):
    with pytest.raises(ValueError) as refusal:
        write_dataset(tmp_path, [episode(0), episode(1, **changed)], FACTS)
    assert text in str(refusal.value)
    assert recorded_episodes(tmp_path, FACTS) == 1


def test_no_episode_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_dataset(tmp_path, [], FACTS)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_changed_file_is_named_when_it_is_read(tmp_path):
    dataset = write_dataset(tmp_path, episodes(), FACTS)
    file = sorted(tmp_path.glob("episodes-*"))[1]
    flip(file)
    with pytest.raises(ValueError, match=f"{file.name} is damaged: its SHA-256"):
        list(dataset)


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (lambda file: file.unlink(), "000000001.safetensors is missing"),
        (
            lambda file: file.write_bytes(b"0"),
            "000000001.safetensors is damaged: 1 bytes; expected",
        ),
        (lambda file: (file.parent / MANIFEST).unlink(), "manifest.json is missing"),
        (lambda file: (file.parent / MANIFEST).write_text("{"), "is not the manifest of a dataset"),
        (lambda file: (file.parent / MANIFEST).write_text("{}"), "lacks env, obs"),
    ],
)
def test_missing_and_cut_files_are_named_before_any_is_read(harm, text, tmp_path):
    write_dataset(tmp_path, episodes(), FACTS)
    harm(sorted(tmp_path.glob("episodes-*"))[1])
    with pytest.raises(ValueError) as refusal:
        read_dataset(tmp_path)
    assert text in str(refusal.value)


def test_a_file_outside_the_folder_is_refused(tmp_path):
    write_dataset(tmp_path / "a", episodes(), FACTS)
    manifest = json.loads((tmp_path / "a" / MANIFEST).read_text())
    manifest["chunks"][0]["name"] = "../b.safetensors"
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"'../b.safetensors': expected the name of a file in"):
        read_dataset(tmp_path / "a")


def test_lengths_that_are_not_those_of_the_episodes_are_refused_when_they_are_read(tmp_path):
    write_dataset(tmp_path, episodes(), FACTS)
    manifest = json.loads((tmp_path / MANIFEST).read_text("utf-8"))
    first = manifest["chunks"][0]["lengths"]
    manifest["chunks"][0]["lengths"] = [*first[1::-1], *first[2:]]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    text = f"says: an episode of {first[1]} rows, the one with number 0 in this file"
    with pytest.raises(ValueError, match=text):
        next(iter(read_dataset(tmp_path)))


def test_a_full_disk_leaves_the_episodes_before_it(tmp_path, monkeypatch):
    def fsync(_):
        if sorted(tmp_path.glob("episodes-*1.safetensors.part")):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left on device"):
            write_dataset(tmp_path, episodes(), FACTS)
    assert recorded_episodes(tmp_path, FACTS) == 3
    assert_holds_all(write_dataset(tmp_path, episodes(3), FACTS))


def replay_for(dataset, *, capacity=29, envs=1, **more):
    return Replay(dict(dataset.fields) | more, capacity=capacity, envs=envs, seed=0)


def test_a_replay_memory_gets_all_episodes_one_after_the_other(tmp_path):
    dataset = write_dataset(tmp_path, episodes(), FACTS)
    replay = replay_for(dataset, deter=Field((2,), torch.bfloat16, mutable=True))
    fill(replay, dataset)
    assert len(replay) == 29
    batch, _ = replay.sample(1, 29)
    for name in ("observation", "reward", "is_first", "is_last"):
        expected = np.concatenate([episode(number)[name] for number in range(7)])
        assert torch.equal(batch[name][0], torch.from_numpy(expected))
    assert not batch["deter"].any()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"envs": 2, "capacity": 100}, "envs=2: expected a replay of one environment"),
        ({"capacity": 28}, "29 rows and 0 are in memory; use a capacity of at least 29"),
        ({"discount": Field((), torch.float32)}, "discount: "),
        ({"reward": Field((), torch.float64)}, "expected () float64"),
        ({"observation": Field((4,), torch.float32)}, "has (3,) float32; expected (4,) float32"),
    ],
)
def test_a_replay_memory_that_does_not_fit_is_refused_and_stays_empty(arguments, text, tmp_path):
    dataset = write_dataset(tmp_path, episodes(), FACTS)
    replay = replay_for(dataset, **arguments)
    with pytest.raises(ValueError) as refusal:
        fill(replay, dataset)
    assert text in str(refusal.value)
    assert len(replay) == 0

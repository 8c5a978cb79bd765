"""Checkpoints come back bitwise, survive every interruption, and run nothing when read."""

import errno
import json
import os
import pickle
import shutil
import signal
import sys

import numpy as np
import pytest
import torch

from sdewm.train import checkpoint
from sdewm.train.checkpoint import CheckpointError, Checkpoints, tensors_of
from tests.child_process import run, started


def state(seed=0):
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).sum().backward()
    optimiser.step()
    return {
        "agent": {"network": network.state_dict(), "optimiser": optimiser.state_dict()},
        "generator": np.random.default_rng(seed).bit_generator.state,
        "arrays": {"flags": np.array([True, False]), "empty": np.zeros((0, 3), np.float32)},
        "legacy": {"words": np.arange(3, dtype=np.uint32), "count": np.int64(7)},
        "bf16": torch.arange(3, dtype=torch.bfloat16),
        "numbers": [1, 2.5, float("nan"), 2**100, None, True, "ε", (1, [])],
    }


def same(one, two):
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, (np.ndarray, np.generic)):
        return one.dtype == two.dtype and np.array_equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
    return one is two or one == two or (one != one and two != two)


class Tape:
    """A replay of one file, which it checks itself."""

    def __init__(self, content=b""):
        self.content = content
        self.previous = []

    def save(self, directory, previous):
        self.previous.append(previous)
        (directory / "tape").write_bytes(self.content)
        return {"length": len(self.content)}

    def load(self, directory, facts):
        self.content = (directory / "tape").read_bytes()
        if len(self.content) != facts["length"]:
            raise ValueError(f"{directory / 'tape'} is cut off")


def names(directory):
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def test_state_comes_back_bitwise(tmp_path):
    before = state()
    Checkpoints(tmp_path).save(5, before, Tape(b"rows"))
    tape = Tape()
    after = Checkpoints(tmp_path).load(tape)
    assert same(after, before)
    assert tape.content == b"rows"
    torch.optim.Adam(torch.nn.Linear(3, 2).parameters()).load_state_dict(
        after["agent"]["optimiser"]
    )
    np.random.default_rng().bit_generator.state = after["generator"]


def test_comparison_sees_a_difference():
    for change in ({"numbers": []}, {"bf16": torch.zeros(3)}, {"legacy": {}}):
        assert not same(state() | change, state())


def test_two_stay_and_the_replay_is_told_of_the_one_before(tmp_path):
    checkpoints, tape = Checkpoints(tmp_path), Tape(b"x")
    places = [checkpoints.save(updates, {"updates": updates}, tape) for updates in (0, 7, 7, 9)]
    assert [place.name for place in places] == [
        "000000000",
        "000000007",
        "000000007-2",
        "000000009",
    ]
    assert names(tmp_path) == ["000000007-2", "000000009"]
    assert (tmp_path / "latest").read_text() == "000000009"
    assert tape.previous == [None, *(place / "replay" for place in places[:3])]
    resumed = Checkpoints(tmp_path)
    assert resumed.load(tape) == {"updates": 9}
    resumed.save(11, {"updates": 11}, tape)
    assert tape.previous[-1] == places[3] / "replay"


def damage_cut(folder):
    file = folder / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def damage_flip(folder):
    file = folder / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def damage_facts(folder):
    file = folder / "facts.json"
    file.write_text(file.read_text().replace('"updates",\n    2', '"updates",\n    3'))


def damage_sums(folder):
    (folder / "checksums.json").write_text("{}")


def damage_marker(folder):
    (folder / "COMPLETE").unlink()


def damage_missing(folder):
    (folder / "state.safetensors").unlink()


def damage_replay(folder):
    (folder / "replay" / "tape").write_bytes(b"")


DAMAGES = {
    damage_cut: "state.safetensors",
    damage_flip: "state.safetensors",
    damage_facts: "facts.json",
    damage_sums: "checksums.json",
    damage_marker: "COMPLETE",
    damage_missing: "state.safetensors",
    damage_replay: "tape",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_checkpoint_is_named_and_the_one_before_used(damage, tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    for updates in (1, 2):
        place = checkpoints.save(updates, {"w": torch.ones(3), "updates": updates}, Tape(b"ab"))
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    damage(place)
    assert before != {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    tape = Tape()
    resumed = Checkpoints(tmp_path)
    assert resumed.load(tape)["updates"] == 1
    assert tape.content == b"ab"
    said = capsys.readouterr().err
    assert str(place) in said and DAMAGES[damage] in said and "000000001" in said
    resumed.save(2, {"updates": 2}, tape)  # takes the damaged one's place
    assert names(tmp_path) == ["000000001", "000000002-2"]
    assert Checkpoints(tmp_path).load(tape) == {"updates": 2}


def test_undamaged_checkpoint_is_loaded_in_silence(tmp_path, capsys):
    Checkpoints(tmp_path).save(1, {})
    Checkpoints(tmp_path).load()
    assert capsys.readouterr().err == ""


def test_nothing_good_is_refused(tmp_path, capsys):
    with pytest.raises(CheckpointError, match="there is no checkpoint yet"):
        Checkpoints(tmp_path / "none").load()
    checkpoints = Checkpoints(tmp_path)
    for updates in (1, 2):
        damage_flip(checkpoints.save(updates, {"w": torch.ones(1)}))
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints is valid"):
        Checkpoints(tmp_path).load()
    assert capsys.readouterr().err.count("damaged") == 2


def test_lost_pointer_does_not_matter(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for updates in (1, 2):
        checkpoints.save(updates, {"updates": updates})
    for content in (b"", b"\xff", b"000000009"):
        (tmp_path / "latest").write_bytes(content)
        assert Checkpoints(tmp_path).load() == {"updates": 2}
    (tmp_path / "latest").unlink()
    assert Checkpoints(tmp_path).load() == {"updates": 2}


def full_disk(monkeypatch, name):
    """Writing any file called `name` finds the disk full."""
    real = checkpoint._write

    def write(path, content):
        if path.name.startswith(name):
            path.write_bytes(content[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, content)

    monkeypatch.setattr(checkpoint, "_write", write)


@pytest.mark.parametrize("name", ["state", "facts", "checksums", "COMPLETE"])
def test_full_disk_is_an_error_that_loses_nothing(name, tmp_path, monkeypatch):
    checkpoints, before = Checkpoints(tmp_path), {"w": torch.ones(3)}
    good = checkpoints.save(1, before, Tape(b"ab"))
    full_disk(monkeypatch, name)
    with pytest.raises(CheckpointError, match="No space left") as caught:
        checkpoints.save(2, {"w": torch.zeros(3)}, Tape(b"cd"))
    assert str(good) in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000001", "latest"]
    assert same(Checkpoints(tmp_path).load(), before)


def test_really_full_disk_is_an_error_that_loses_nothing(tmp_path):
    # A limit of file sizes stands for the disk.
    code = """
import resource, signal, sys, torch
from pathlib import Path
from sdewm.train.checkpoint import Checkpoints, CheckpointError
checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.save(1, {"w": torch.ones(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    checkpoints.save(2, {"w": torch.ones(1_000_000)})
except CheckpointError as problem:
    print(problem)
"""
    result = run(sys.executable, "-c", code, tmp_path)
    assert "could not be written" in result.stdout, result.stderr
    assert names(tmp_path) == ["000000001"]
    assert torch.equal(Checkpoints(tmp_path).load()["w"], torch.ones(10))


def test_kill_at_any_moment_leaves_a_good_checkpoint(tmp_path):
    code = """
import itertools, sys, torch
from pathlib import Path
from sdewm.train.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
for updates in itertools.count(1):
    checkpoints.save(updates, {"w": torch.full((1000,), float(updates)), "updates": updates})
    print(updates, flush=True)
"""
    for saves in (1, 12):  # seen before the kill, which comes at any point of a later one
        shutil.rmtree(tmp_path)
        with started(sys.executable, "-c", code, tmp_path) as process:
            said = [process.stdout.readline() for _ in range(saves)]
            process.send_signal(signal.SIGKILL)
            said += process.stdout.readlines()
        finished = int(said[-1])
        after = Checkpoints(tmp_path).load()
        assert after["updates"] >= finished
        assert torch.equal(after["w"], torch.full((1000,), float(after["updates"])))
        Checkpoints(tmp_path).save(10**6, {})
        assert not list(tmp_path.glob("*.part"))


def test_reading_runs_nothing(tmp_path, monkeypatch):
    Checkpoints(tmp_path).save(1, state())

    def refuse(*words, **named):
        raise AssertionError("a pickle was read")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    Checkpoints(tmp_path).load()
    with pytest.raises(AssertionError):
        pickle.loads(pickle.dumps(1))  # what is refused would be seen


def test_strange_values_are_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"state\['agent/policy'\] is function"):
        Checkpoints(tmp_path).save(1, {"agent": {"policy": same}})
    with pytest.raises(ValueError, match="two tensors of the state have the name 'a/b'"):
        Checkpoints(tmp_path).save(1, {"a/b": torch.ones(1), "a": {"b": torch.ones(1)}})


def test_names_are_joined_by_slashes(tmp_path):
    place = Checkpoints(tmp_path).save(1, {"a": {"b": torch.ones(1)}, "c": [torch.ones(2)]})
    names_of = dict(tensors_of({"a": {"b": torch.ones(1)}, "c": [torch.ones(2)]}))
    stored = json.loads((place / "facts.json").read_text())["state"]
    assert list(names_of) == ["a/b", "c/0"]
    assert stored == {
        "dict": [["a", {"dict": [["b", {"tensor": "a/b"}]]}], ["c", {"list": [{"tensor": "c/0"}]}]]
    }

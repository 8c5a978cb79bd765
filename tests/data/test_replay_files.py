"""The replay memory on disk: the same samples after loading, files shared, damage named."""

import errno
import json
import os

import pytest
import safetensors.torch
import torch

from sdewm.data import replay_files
from sdewm.data.replay import Field, Replay

FIELDS = {
    "step": Field((), torch.int64),
    "observation": Field((5,), torch.uint8),
    "half": Field((2,), torch.bfloat16),
    "is_first": Field((), torch.bool),
    "deter": Field((3,), torch.float32, mutable=True),
}
ENVS, TIME = 2, 20
STEPS_PER_FILE = 4


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(replay_files, "FILE_BYTES", STEPS_PER_FILE * ENVS * (8 + 5 + 4 + 1))


def memory(seed=0, **changed):
    arguments = {"fields": FIELDS, "capacity": ENVS * TIME, "envs": ENVS} | changed
    return Replay(seed=seed, **arguments)


def add(replay, first, last):
    """Rows of pseudo-random content that follows from the step alone."""
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        replay.add(
            {
                "step": torch.full((ENVS,), step),
                "observation": torch.randint(256, (ENVS, 5), generator=generator).byte(),
                "half": torch.randn(ENVS, 2, generator=generator).bfloat16(),
                "is_first": torch.rand(ENVS, generator=generator) < 0.3,
                "deter": torch.randn(ENVS, 3, generator=generator),
            }
        )


def go_on(replay, first):
    """Everything a run would see from here: samples, latents written back, new rows."""
    seen = []
    for step in range(first, first + 30):
        batch, windows = replay.sample(6, 4)
        replay.write(windows, {"deter": batch["deter"] * 0.5 + 1.0})
        seen.append(batch)
        add(replay, step, step + 1)
    return seen


def equal(first, second):
    return all(torch.equal(a[n], b[n]) for a, b in zip(first, second, strict=True) for n in FIELDS)


def save(replay, directory, previous=None):
    return json.loads(json.dumps(replay.save(directory, previous)))


def names(directory, kind="rows"):
    return sorted(path.name for path in directory.glob(f"{kind}-*"))


@pytest.mark.parametrize("steps", [4, 7, 20, 33])
def test_a_loaded_memory_goes_on_bitwise_as_the_one_that_was_not_stopped(steps, tmp_path):
    original = memory()
    add(original, 0, steps)
    _, windows = original.sample(8, 3)
    original.write(windows, {"deter": torch.ones(8, 3, 3)})
    facts = save(original, tmp_path / "save")
    loaded = memory(seed=9)
    loaded.load(tmp_path / "save", facts)
    assert len(loaded) == len(original)
    assert equal(go_on(original, steps), go_on(loaded, steps))


def test_the_comparison_notices_another_generator_state(tmp_path):
    original, other = memory(), memory(seed=9)
    add(original, 0, 20)
    add(other, 0, 20)
    assert not equal(go_on(original, 20), go_on(other, 20))


def test_a_chain_of_saves_with_wrap_around_loads_as_the_last_one(tmp_path):
    original, previous, facts = memory(), None, None
    for number, last in enumerate((4, 5, 11, 11, 26, 29, 70, 75)):
        add(original, original._added, last)
        here = tmp_path / f"{number}.part"
        facts = save(original, here, previous)
        previous = here.rename(tmp_path / str(number))  # as a checkpoint is completed
        loaded = memory(seed=5)
        loaded.load(previous, facts)
        assert equal(go_on(loaded, last), go_on(clone(original), last))


def clone(replay):
    copy = memory()
    copy._added = replay._added
    copy._generator.set_state(replay._generator.get_state())
    for name, array in replay._rings.arrays.items():
        copy._rings.arrays[name].copy_(array)
    return copy


def test_files_complete_before_are_linked_and_evicted_ones_dropped(tmp_path):
    replay = memory()
    add(replay, 0, 18)
    save(replay, tmp_path / "a")
    add(replay, 18, 30)  # the oldest step in memory is now 10
    save(replay, tmp_path / "b", tmp_path / "a")
    assert names(tmp_path / "a") == [f"rows-{k:09d}.safetensors" for k in range(5)]
    assert names(tmp_path / "b") == [f"rows-{k:09d}.safetensors" for k in range(2, 8)]

    def shared(name):
        return (tmp_path / "a" / name).stat().st_ino == (tmp_path / "b" / name).stat().st_ino

    assert [shared(name) for name in names(tmp_path / "b")[:3]] == [True, True, False]
    alone = save(replay, tmp_path / "c")["files"]["rows"]
    assert alone[0]["first"] == 10 and alone[-1]["last"] == 30
    oldest = safetensors.torch.load_file(tmp_path / "c" / alone[0]["name"])["step"]
    assert oldest.tolist() == [[10, 11]] * ENVS


def test_links_go_on_after_loading(tmp_path):
    replay, loaded = memory(), memory()
    add(replay, 0, 18)
    loaded.load(tmp_path / "a", save(replay, tmp_path / "a"))
    add(loaded, 18, 20)
    save(loaded, tmp_path / "b", tmp_path / "a")
    assert (tmp_path / "b" / names(tmp_path / "a")[0]).stat().st_nlink == 2


def test_the_save_before_is_not_changed_by_the_next(tmp_path):
    replay, loaded = memory(), memory()
    add(replay, 0, 18)
    facts = save(replay, tmp_path / "a")
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    add(replay, 18, 40)
    save(replay, tmp_path / "b", tmp_path / "a")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    loaded.load(tmp_path / "a", facts)
    assert len(loaded) == 36


@pytest.mark.parametrize("harm", ["changed", "removed", "replaced"])
def test_a_file_that_is_not_the_one_written_is_written_again(harm, tmp_path):
    replay, loaded = memory(), memory()
    add(replay, 0, 12)
    save(replay, tmp_path / "a")
    file = tmp_path / "a" / names(tmp_path / "a")[1]
    content = file.read_bytes()
    file.unlink() if harm != "changed" else None
    if harm != "removed":
        file.write_bytes(content[:-1] + b"?")
    facts = save(replay, tmp_path / "b", tmp_path / "a")
    assert (tmp_path / "b" / file.name).read_bytes() == content
    loaded.load(tmp_path / "b", facts)
    assert len(loaded) == 24


def test_without_hard_links_every_file_is_written(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    replay, loaded = memory(), memory()
    add(replay, 0, 12)
    save(replay, tmp_path / "a")
    loaded.load(tmp_path / "b", save(replay, tmp_path / "b", tmp_path / "a"))
    assert equal(go_on(replay, 12), go_on(loaded, 12))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


HARMS = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("kind", ["rows", "refreshed"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_file_is_named_and_the_memory_can_load_another_save(harm, kind, tmp_path):
    replay, loaded = memory(), memory()
    add(replay, 0, 14)
    good = save(replay, tmp_path / "a")
    add(replay, 14, 19)
    facts = save(replay, tmp_path / "b")  # shares no files with the one to be harmed
    damaged = tmp_path / "b" / names(tmp_path / "b", kind)[-1]
    HARMS[harm](damaged)
    with pytest.raises(ValueError) as refusal:
        loaded.load(tmp_path / "b", facts)
    assert str(damaged) in str(refusal.value)
    assert len(loaded) == 0
    loaded.load(tmp_path / "a", good)
    assert len(loaded) == 28


@pytest.mark.parametrize("writes_before", [0, 2, 8])
def test_a_full_disk_is_an_error_that_leaves_the_save_before(writes_before, tmp_path, monkeypatch):
    replay, loaded = memory(), memory()
    add(replay, 0, 18)
    facts = save(replay, tmp_path / "a")
    add(replay, 18, 38)
    left = [writes_before]

    def fsync(_):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left on device.*safetensors") as refusal:
            replay.save(tmp_path / "b", tmp_path / "a")
    assert refusal.value.errno == errno.ENOSPC
    assert not [*(tmp_path / "b").iterdir()]
    loaded.load(tmp_path / "a", facts)
    assert len(loaded) == 36
    again = memory()
    again.load(tmp_path / "b", save(replay, tmp_path / "b", tmp_path / "a"))
    assert equal(go_on(replay, 38), go_on(again, 38))


def test_a_folder_that_holds_a_save_is_refused(tmp_path):
    replay = memory()
    add(replay, 0, 6)
    save(replay, tmp_path)
    with pytest.raises(FileExistsError, match="already holds a save of a replay"):
        replay.save(tmp_path)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"capacity": 38}, "saved with capacity=40; this is 38"),
        ({"envs": 4}, "saved with envs=2; this is 4"),
        ({"fields": {"step": FIELDS["step"]}}, "saved with fields="),
    ],
)
def test_a_save_of_another_memory_is_refused(changed, text, tmp_path):
    replay = memory()
    add(replay, 0, 6)
    with pytest.raises(ValueError) as refusal:
        memory(**changed).load(tmp_path, save(replay, tmp_path))
    assert text in str(refusal.value)


@pytest.mark.parametrize("lost", [0, 1, -1])
def test_a_save_whose_facts_lack_a_file_is_refused(lost, tmp_path):
    replay = memory()
    add(replay, 0, 18)
    facts = save(replay, tmp_path)
    del facts["files"]["rows"][lost]
    with pytest.raises(ValueError, match=r"no file rows-\* holds time step"):
        memory().load(tmp_path, facts)


def test_files_are_plain_safetensors(tmp_path):
    replay = memory()
    add(replay, 0, 3)
    save(replay, tmp_path)
    (name,) = names(tmp_path)
    found = safetensors.torch.load_file(tmp_path / name)
    assert found.keys() == FIELDS.keys() - {"deter"}
    assert found["step"].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert found["half"].dtype == torch.bfloat16

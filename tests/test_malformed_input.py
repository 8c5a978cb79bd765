"""Malformed input of any kind ends in one sentence; nothing that was there is changed.

The inputs are generated: arguments, config.json, manifests, datasets, logs, tables and checkpoints.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdewm.base.fields import field_names
from sdewm.base.records import read_log
from sdewm.cli import COMMANDS, main
from sdewm.data.dataset import read_dataset, write_dataset
from sdewm.train.checkpoint import CheckpointError, Checkpoints
from sdewm.train.config import Config
from sdewm.train.run_directory import create_run, read_run
from tests.train.fake_agent import small_config

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "cpu", "../x", "\ud800", 10**30, -1, 0])
    | st.text(max_size=5)
)
JSON = st.recursive(
    LEAVES,
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3)
    ),
    max_leaves=5,
)
DAMAGES = st.sampled_from(["cut", "flip", "empty", "remove", "folder"])


def tree_digest(folder):
    """Names and contents of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def command(words):
    """Exit code of `sdewm …` and what it wrote to stderr."""
    written = io.StringIO()
    with contextlib.redirect_stderr(written), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    return code, written.getvalue()


def is_a_sentence(text):
    """One line that ends like a sentence, and no traceback."""
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text


def places(value, path=()):
    """The path of every value in nested JSON."""
    yield path
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def edited(data, original):
    """A copy of nested JSON in which one value was replaced, removed or renamed."""
    value = json.loads(json.dumps(original))
    path = data.draw(st.sampled_from([*places(value)]), label="place")
    if not path:
        return data.draw(JSON, label="value")
    *parents, last = path
    part = value
    for key in parents:
        part = part[key]
    change = data.draw(st.sampled_from(["replace", "remove", "rename"]), label="change")
    if change == "replace":
        part[last] = data.draw(JSON, label="value")
    else:
        kept = part.pop(last)
        if change == "rename" and isinstance(part, dict):
            part[data.draw(st.text(max_size=5), label="name")] = kept
    return value


def damage(data, path):
    """Change the bytes of a file, remove it, or put a folder in its place."""
    content, how = path.read_bytes(), data.draw(DAMAGES, label="damage")
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "remove":
        place = data.draw(st.integers(0, max(len(content) - 1, 0)), label="byte")
        other = bytes([content[place] ^ data.draw(st.integers(1, 255))]) if content else b"x"
        path.write_bytes(
            {"cut": content[:place], "empty": b""}.get(
                how, content[:place] + other + content[place + 1 :]
            )
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    create_run(folder, small_config())
    return folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets") / "data"
    episode = {
        "observation": torch.ones(3, 2),
        "reward": torch.arange(3.0),
        "is_first": torch.tensor([True, False, False]),
        "is_last": torch.tensor([False, False, True]),
    }
    facts = {"env": "gym:X", "obs": "proprio", "action_repeat": 2, "policy": "random", "seed": 0}
    write_dataset(folder, [episode, episode], facts | {"command": "c", "commit": "0"})
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for updates in (1, 2):
        checkpoints.save(updates, {"weights": {"bias": torch.ones(2) * updates}, "n": updates})
    return folder


def fresh_copy(folder):
    """The folder under another name beside it, replaced at each call."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.rmtree(copy, ignore_errors=True)
    return shutil.copytree(folder, copy)


WORDS = st.sampled_from(
    [f"--{name.replace('_', '-')}" for name in field_names(Config)]
    + ["--run", "--data", "--episodes", "--only", "--preset", "--no-compile", "-h-", "--", "-1"]
) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=30)
@given(data=st.data())
def test_malformed_arguments(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    name = data.draw(st.sampled_from([*COMMANDS, "tarin", ""]), label="command")
    words = data.draw(st.lists(WORDS, max_size=5), label="words")
    nonsense = data.draw(st.sampled_from([["--no-such-option"], ["--seed", "x"], ["--seed=-1"]]))
    place = data.draw(st.integers(0, len(words)))
    with contextlib.chdir(folder):
        code, said = command([name, *words[:place], *nonsense, *words[place:]])
    assert code == 2 and said.strip() and "Traceback" not in said
    assert not [*folder.iterdir()]


@settings(max_examples=150)
@given(data=st.data())
def test_an_edited_configuration(data, run):
    copy = fresh_copy(run)
    name = data.draw(st.sampled_from(["config.json", "manifest.json"]), label="file")
    text = json.dumps(edited(data, json.loads((copy / name).read_text())))
    (copy / name).write_text(text)
    before = tree_digest(copy)
    code, said = command(["evaluate", str(copy)])
    assert code in (1, 2) and is_a_sentence(said), said
    assert tree_digest(copy) == before
    try:
        facts = read_run(copy)
    except ValueError:
        assert code == 2
    else:  # the edit is allowed, and what was read is what stands there; there is no checkpoint
        stored = json.loads((copy / "config.json").read_text())
        assert json.loads(json.dumps(dataclasses.asdict(facts.config))) == stored


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_run(data, run):
    copy = fresh_copy(run)
    damage(data, copy / data.draw(st.sampled_from(["config.json", "manifest.json"]), label="file"))
    before = tree_digest(copy)
    code, said = command(["evaluate", str(copy)])
    assert code in (1, 2) and is_a_sentence(said) and tree_digest(copy) == before


def read_rows(folder):
    return [{name: rows.tolist() for name, rows in one.items()} for one in read_dataset(folder)]


@settings(max_examples=150)
@given(data=st.data())
def test_an_edited_manifest_of_a_dataset(data, recorded):
    copy = fresh_copy(recorded)
    path = copy / "manifest.json"
    path.write_text(json.dumps(edited(data, json.loads(path.read_text()))))
    before = tree_digest(copy)
    try:
        found = read_rows(copy)
    except ValueError as problem:
        assert is_a_sentence(str(problem)) and str(copy) in str(problem)
    else:
        rows = [row for episode in found for row in episode["reward"]]
        assert rows == [0.0, 1.0, 2.0] * 2
    assert tree_digest(copy) == before


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_dataset(data, recorded):
    copy = fresh_copy(recorded)
    files = sorted(path.name for path in copy.iterdir())
    damage(data, copy / data.draw(st.sampled_from(files), label="file"))
    try:
        found = read_rows(copy)
    except ValueError as problem:
        assert is_a_sentence(str(problem)) and str(copy) in str(problem)
    else:  # a changed letter in a text of the manifest, such as the command
        assert found == read_rows(recorded)


@settings(max_examples=80)
@given(data=st.data())
def test_a_damaged_checkpoint(data, saved):
    copy = fresh_copy(saved)
    files = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
    for name in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=2, unique=True)):
        damage(data, copy / name)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            state = Checkpoints(copy).load()
        except CheckpointError as problem:
            assert is_a_sentence(str(problem)) and "none of its 2 checkpoints" in str(problem)
        else:
            assert torch.equal(state["weights"]["bias"], torch.ones(2) * state["n"])


@settings(max_examples=60)
@given(lines=st.lists(st.binary(max_size=12) | JSON.map(json.dumps).map(str.encode), max_size=5))
def test_a_damaged_log_keeps_its_other_rows(lines, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    good = [json.dumps({"row": n}).encode() for n in range(3)]
    begin = [json.dumps({"manifest": {}}).encode(), good[0]]
    path.write_bytes(b"\n".join([*begin, *lines, *good[1:], b""]))
    rows, _ = read_log(path)
    assert [row for row in rows if set(row) == {"row"} and row["row"] in (0, 1, 2)] == [
        {"row": n} for n in range(3)
    ]

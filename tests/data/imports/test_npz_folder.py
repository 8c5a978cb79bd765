"""Folders of npz files as dreamerv3-torch writes them."""

from dataclasses import replace

import numpy as np
import pytest

from sdewm.data.dataset import read_dataset
from sdewm.data.episode_arrays import ObservationForm
from sdewm.data.imports.import_recording import import_recording, open_recording
from sdewm.train.config import Config
from sdewm.train.sources import as_recorded

LENGTHS = (5, 3, 4)


def arrays(number, length, **changed):
    """One episode, with the first action and reward zero, as its writer fills them."""
    draw = np.random.default_rng(number)
    action = draw.uniform(-1, 1, (length, 2)).astype(np.float32)
    action[0] = 0
    found = {
        "image": draw.integers(0, 256, (length, 12, 12, 3), dtype=np.uint8),
        "position": draw.standard_normal((length, 2)).astype(np.float32),
        "height": draw.standard_normal(length).astype(np.float32),
        "action": action,
        "reward": draw.standard_normal(length).astype(np.float32),
        "discount": np.ones(length, np.float32),
        "is_first": np.arange(length) == 0,
        "is_terminal": np.arange(length) == (length - 1 if number == 1 else -1),
        "logprob": np.zeros(length, np.float32),
        "log_success": np.zeros(length, np.float32),
    }
    return {name: rows for name, rows in (found | changed).items() if rows is not None}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "train_eps"
    place.mkdir()
    for number, length in enumerate(LENGTHS):
        np.savez_compressed(place / f"2025-{number}-{length}.npz", **arrays(number, length))
    return place


def imported(source, directory, *keys):
    return import_recording(
        open_recording(str(source)), directory, form=ObservationForm(keys or None)
    )


def test_rows_are_those_of_the_files_and_unknown_facts_stay_unknown(folder, tmp_path):
    dataset, findings = imported(folder, tmp_path / "data", "image")
    assert (dataset.episodes, dataset.rows) == (3, 12)
    for number, episode in enumerate(read_dataset(tmp_path / "data")):
        stored = arrays(number, LENGTHS[number])
        assert np.array_equal(episode["observation"], stored["image"])
        assert np.array_equal(episode["previous_action"], stored["action"])
        assert np.array_equal(episode["reward"], stored["reward"])
        for flag in ("is_first", "is_terminal"):
            assert np.array_equal(episode[flag], stored[flag]), flag
    facts = dataset.facts
    assert [facts[name] for name in ("env", "action_repeat", "policy", "seed")] == ["unknown"] * 4
    assert facts["obs"] == "pixels" and facts["source"]["keys"] == ["image"]
    assert findings.unknown_ends == findings.lost_ends == 0


@pytest.mark.parametrize("name", [None, "gym:Pendulum-v1"])
def test_arguments_and_time_limit_of_an_unknown_environment_may_be_given(name, folder, tmp_path):
    recording = open_recording(str(folder))
    import_recording(recording, tmp_path / "data", form=ObservationForm(("position",)), env=name)
    told = {"env": "gym:Pendulum-v1", "env_kwargs": {"g": 3.0}, "time_limit": 6}
    config = as_recorded(replace(Config(), **told), tmp_path / "data", {*told})
    assert (config.env, config.env_kwargs, config.time_limit) == (*told.values(),)
    plain = as_recorded(Config(), tmp_path / "data", ())
    assert (plain.env, plain.env_kwargs, plain.time_limit) == (name or "unknown", {}, None)


def test_several_vectors_are_concatenated(folder, tmp_path):
    dataset, _ = imported(folder, tmp_path / "data", "height", "position")
    stored = arrays(0, LENGTHS[0])
    expected = np.concatenate([stored["height"][:, None], stored["position"]], 1)
    assert np.array_equal(next(iter(dataset))["observation"], expected)
    assert dataset.facts["obs"] == "proprio"


@pytest.mark.parametrize("last", [0.0, 1.0])
def test_the_discount_tells_the_end_where_no_flag_does(tmp_path, last):
    discount = np.array([1, 1, last], np.float32)
    np.savez(tmp_path / "a.npz", **arrays(0, 3, is_terminal=None, discount=discount))
    dataset, findings = imported(tmp_path / "a.npz", tmp_path / "data", "position")
    (episode,) = dataset
    assert (
        episode["is_terminal"].tolist() == [False, False, last == 0] and not findings.unknown_ends
    )
    np.savez(tmp_path / "b.npz", **arrays(0, 3, is_terminal=None, discount=None))
    dataset, findings = imported(tmp_path / "b.npz", tmp_path / "other", "position")
    assert findings.unknown_ends == 1 and not next(iter(dataset))["is_terminal"].any()


WRONG = {
    "no reward": ({"reward": None}, "has no reward, only image, position"),
    "two episodes": ({"is_first": np.array([True, False, True])}, r"is_first in rows \[0, 2\]"),
    "middle": ({"is_first": np.zeros(3, bool)}, r"is_first in rows \[\]: expected one episode"),
    "end inside": (
        {"is_first": None, "is_last": np.array([False, True, True])},
        r"is_last in rows \[1, 2\]: expected one episode, which ends in its last row, 2",
    ),
    "terminal inside": (
        {"is_first": None, "is_terminal": np.array([False, True, False])},
        r"is_terminal in rows \[1\]: expected one episode",
    ),
    "discount inside": (
        {"is_first": None, "is_terminal": None, "discount": np.array([1.0, 0.0, 0.0])},
        r"discount 0 in rows \[1, 2\]: expected one episode, which ends in its last row, 2",
    ),
    "objects": ({"position": np.array([{}, {}, {}])}, "cannot be read as an npz file"),
    "rows": ({"action": np.zeros((2, 2))}, "actions of a.npz of a.npz: 2 rows for 3 observations"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_of_another_layout_are_refused_by_name(case, tmp_path):
    changed, text = WRONG[case]
    np.savez(tmp_path / "a.npz", **arrays(0, 3, **changed))
    with pytest.raises(ValueError, match=text):
        imported(tmp_path / "a.npz", tmp_path / "data", "position")
    assert not (tmp_path / "data").exists()


def test_a_cut_file_and_folders_without_files_are_refused(folder, tmp_path):
    path = sorted(folder.iterdir())[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read as an npz file"):
        imported(folder, tmp_path / "data", "position")
    with pytest.raises(ValueError, match="holds no npz files; there are some in train_eps"):
        open_recording(str(tmp_path))

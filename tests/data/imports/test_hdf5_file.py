"""HDF5 files as D4RL writes them."""

import numpy as np
import pytest

from sdewm.data.episode_arrays import ObservationForm
from sdewm.data.imports.import_recording import import_recording, open_recording

h5py = pytest.importorskip("h5py", exc_type=ImportError)

ENDS = (3, 7)  # one past the last rows of the first two of three episodes
DRAW = np.random.default_rng(0)
TABLE = {
    "observations": DRAW.standard_normal((9, 3)).astype(np.float32),
    "actions": DRAW.uniform(-1, 1, (9, 2)).astype(np.float32),
    "rewards": DRAW.standard_normal(9).astype(np.float32),
    "terminals": np.arange(9) == 2,
    "timeouts": np.arange(9) == 6,
    "infos/goal": np.zeros((9, 2)),
}
AFTER = {"next_observations": DRAW.standard_normal((9, 3)).astype(np.float32)}


def written(path, table):
    with h5py.File(path, "w") as file:
        for name, rows in table.items():
            if rows is not None:
                file[name] = rows
    return path


def imported(path, directory, **form):
    return import_recording(open_recording(str(path)), directory, form=ObservationForm(**form))


def test_episodes_end_where_the_table_says_and_actions_are_moved_by_a_row(tmp_path):
    dataset, findings = imported(written(tmp_path / "a.hdf5", TABLE), tmp_path / "data")
    for (first, end), episode in zip(((0, 3), (3, 7), (7, 9)), dataset, strict=True):
        assert np.array_equal(episode["observation"], TABLE["observations"][first:end])
        for name, stored in (("previous_action", "actions"), ("reward", "rewards")):
            assert np.array_equal(episode[name][1:], TABLE[stored][first : end - 1]), name
            assert not episode[name][0].any()
        assert not episode["is_terminal"].any()
    # The observation after the action that ended the first episode is not in the file.
    assert findings.lost_ends == 1


def test_the_observation_after_the_last_action_is_used_where_it_is_there(tmp_path):
    path = written(tmp_path / "a.h5", TABLE | AFTER)
    dataset, findings = imported(path, tmp_path / "data")
    first, second, third = dataset
    assert np.array_equal(first["observation"][-1], AFTER["next_observations"][2])
    assert np.array_equal(first["reward"][1:], TABLE["rewards"][:3])
    assert first["is_terminal"].tolist() == [False] * 3 + [True]
    assert not second["is_terminal"].any() and len(third["reward"]) == 3
    assert findings.lost_ends == 0


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.uint8])
def test_flags_may_be_numbers_0_and_1(kind, tmp_path):
    flags = {name: TABLE[name].astype(kind)[:, None] for name in ("terminals", "timeouts")}
    found, _ = imported(written(tmp_path / "a.h5", TABLE | AFTER | flags), tmp_path / "data")
    assert found.lengths == [4, 5, 3]
    assert [bool(one["is_terminal"][-1]) for one in found] == [True, False, False]


@pytest.mark.parametrize("value", [0.5, np.nan, 2.0])
def test_flags_that_are_neither_0_nor_1_are_refused(value, tmp_path):
    path = written(tmp_path / "a.h5", TABLE | {"terminals": np.where(TABLE["terminals"], value, 0)})
    with pytest.raises(ValueError, match=rf"a.h5 has terminals .* \[0.0, {value}\]: expected 9"):
        imported(path, tmp_path / "data")


def test_groups_of_observations_are_named(tmp_path):
    table = TABLE | {"observations": None, "observations/speed": TABLE["observations"]}
    table |= {"observations/frame": DRAW.integers(0, 256, (9, 3, 8, 8), dtype=np.uint8)}
    path = written(tmp_path / "a.hdf5", table)
    dataset, _ = imported(path, tmp_path / "data", keys=("frame",))
    assert dataset.fields["observation"].shape == (8, 8, 3)
    with pytest.raises(ValueError, match="the keys 'frame', 'speed': give keys"):
        imported(path, tmp_path / "other")


WRONG = {
    "timeouts": ({"timeouts": None}, "has no timeouts, only actions, infos, observations"),
    "rows": ({"rewards": np.zeros(8)}, "the numbers of rows .*'rewards': 8"),
    "discrete": ({"actions": np.zeros(9, int)}, "Discrete actions are one-hot"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_layouts_are_refused(case, tmp_path):
    changed, text = WRONG[case]
    with pytest.raises(ValueError, match=text):
        imported(written(tmp_path / "a.hdf5", TABLE | changed), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "a.hdf5").write_text("text")
    with pytest.raises(ValueError, match="cannot be read as an HDF5 file"):
        open_recording(str(tmp_path / "a.hdf5"))


def test_last_observations_are_matched_by_name_in_whatever_order_they_were_written(tmp_path):
    draw = np.random.default_rng(1)
    parts = {name: draw.standard_normal((9, 2)) for name in ("near", "far")}
    later = {name: draw.standard_normal((9, 2)) for name in ("far", "near")}
    path = tmp_path / "a.hdf5"
    with h5py.File(written(path, TABLE | {"observations": None}), "a") as file:
        for name, arrays in (("observations", parts), ("next_observations", later)):
            group = file.create_group(name, track_order=True)
            for key, rows in arrays.items():
                group[key] = rows
    dataset, _ = imported(path, tmp_path / "data", keys=("near",))
    assert np.allclose(next(iter(dataset))["observation"][-1], later["near"][2])
    with h5py.File(path, "a") as file:
        file.move("next_observations/near", "next_observations/other")
    with pytest.raises(ValueError, match="expected the same names"):
        imported(path, tmp_path / "other", keys=("near",))


def test_a_table_of_last_observations_of_other_length_is_refused(tmp_path):
    short = {"next_observations": AFTER["next_observations"][:5]}
    with pytest.raises(ValueError, match=r"numbers of rows .*'next_observations': 5"):
        imported(written(tmp_path / "a.hdf5", TABLE | short), tmp_path / "data")

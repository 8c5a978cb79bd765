"""Recorded datasets as equal windows."""

import numpy as np
import pytest
import torch

from sdewm.data.dataset import write_dataset
from sdewm.data.recorded_episodes import Episodes, read_episodes

FACTS = dict(env="own:test", obs="proprio", action_repeat=1, policy="random", seed=0)


def episode(length, number):
    rows = {
        "observation": np.arange(length * 2, dtype=np.float32).reshape(length, 2) + 100 * number,
        "previous_action": np.full((length, 1), number, dtype=np.float32),
        "reward": np.arange(length, dtype=np.float32),
    }
    flags = {name: np.zeros(length, dtype=bool) for name in ("is_first", "is_last", "is_terminal")}
    flags["is_first"][0] = flags["is_last"][-1] = True
    return rows | flags


@pytest.fixture
def recorded(tmp_path):
    directory = tmp_path / "data"
    facts = FACTS | {"command": "none", "commit": "0000000"}
    write_dataset(directory, [episode(n, k) for k, n in enumerate((6, 3, 8))], facts)
    return directory


def test_the_first_rows_of_episodes_that_are_long_enough_are_stacked(recorded):
    found = read_episodes(recorded, steps=5)
    assert found.observations.shape == (2, 5, 2) and found.rewards.shape == (2, 5)
    assert found.previous_actions[:, 1, 0].tolist() == [0, 2]
    assert not found.previous_actions[:, 0].any()  # a model filters from zero there
    expected = torch.arange(10.0).reshape(5, 2)
    assert torch.equal(found.observations[1], expected + 200)
    assert len(read_episodes(recorded, steps=5, count=1).rewards) == 1


def test_windows_begin_at_random_rows_the_same_for_one_seed(recorded):
    firsts = set()
    for seed in range(20):
        found = read_episodes(recorded, steps=5, window_seed=seed)
        again = read_episodes(recorded, steps=5, window_seed=seed)
        assert torch.equal(found.observations, again.observations)
        for k, length in enumerate((6, 8)):
            first = int(found.rewards[k, 0])
            firsts.add((k, first))
            assert found.rewards[k].tolist() == list(range(first, first + 5))
            assert 0 <= first <= length - 5 and found.previous_actions[k, 0] == 0
            assert found.observations[k, 0, 0] == 2 * first + (0, 200)[k]
    assert firsts == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)}


def test_too_few_episodes_are_refused(recorded, tmp_path):
    with pytest.raises(ValueError, match="2 episodes of at least 5 rows; expected 3"):
        read_episodes(recorded, steps=5, count=3)
    with pytest.raises(ValueError, match="0 episodes of at least 9 rows; expected 1"):
        read_episodes(recorded, steps=9)
    with pytest.raises(ValueError, match="steps=0"):
        read_episodes(recorded, steps=0)
    with pytest.raises(ValueError, match="holds no dataset"):
        read_episodes(tmp_path, steps=1)


def test_fields_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"rewards has \(E, T\) = \(2, 4\)"):
        Episodes(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("observations", (2, 4), r"\(E, T, \*shape\)"),
        ("previous_actions", (2, 4), r"\(E, T, A\)"),
        ("previous_actions", (2, 4, 1, 1), r"\(E, T, A\)"),
        ("rewards", (2, 4, 1), r"\(E, T\)"),
    ],
)
def test_fields_of_other_axes_are_refused(name, shape, expected):
    rows = {"observations": (2, 4, 3), "previous_actions": (2, 4, 1), "rewards": (2, 4)}
    tensors = {key: torch.zeros(axes) for key, axes in (rows | {name: shape}).items()}
    given = rf"{name} has shape \({', '.join(map(str, shape))}\): expected {expected}"
    with pytest.raises(ValueError, match=given):
        Episodes(**tensors)


@pytest.mark.parametrize("name", ["observations", "previous_actions", "rewards"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), r": nan at \[1, 2.*\]: expected finite numbers"),
        (-float("inf"), r": -inf at \[1, 2.*\]: expected finite numbers"),
        (1j, " is torch.complex64, torch.strided: expected a dense tensor of real numbers"),
    ],
)
def test_numbers_that_are_not_finite_and_real_are_refused_with_their_place(name, value, message):
    rows = {"observations": (2, 4, 3), "previous_actions": (2, 4, 1), "rewards": (2, 4)}
    kind = torch.complex64 if isinstance(value, complex) else torch.float32
    tensors = {key: torch.zeros(shape) for key, shape in rows.items()}
    tensors[name] = tensors[name].to(kind)
    tensors[name][1, 2] = value
    with pytest.raises(ValueError, match=f"^{name}{message}"):
        Episodes(**tensors)

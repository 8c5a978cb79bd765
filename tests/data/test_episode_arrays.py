"""`Episodes.from_arrays`: every layout gives the same rows; what cannot be told is asked for."""

import re

import numpy as np
import pytest
import torch

import sdewm

DRAW = np.random.default_rng(0)
STATES = DRAW.standard_normal((3, 6, 4))
ACTIONS, REWARDS = DRAW.uniform(-1, 1, (3, 6, 2)), DRAW.standard_normal((3, 6))
FRAMES = DRAW.integers(0, 256, (3, 6, 8, 10, 3), dtype=np.uint8)


def episodes(observations=STATES, actions=ACTIONS, rewards=REWARDS, **options):
    options = {"convention": "previous"} | options
    return sdewm.Episodes.from_arrays(observations, actions, rewards, **options)


def equal(first, second):
    names = ("observations", "previous_actions", "rewards")
    return all(torch.equal(getattr(first, n), getattr(second, n)) for n in names)


def test_the_two_conventions_of_one_recording_give_equal_rows():
    previous = episodes()
    assert torch.equal(previous.previous_actions[:, 1:], torch.from_numpy(ACTIONS[:, 1:]))
    assert not previous.previous_actions[:, 0].any()
    started = np.concatenate([np.zeros((3, 1)), REWARDS[:, 1:]], 1)
    after = episodes(actions=ACTIONS[:, 1:], rewards=REWARDS[:, 1:], convention="next")
    assert equal(after, episodes(rewards=started))
    # With as many actions as observations, the last leads to an observation that is not recorded.
    padded = [np.concatenate([x[:, 1:], 9 * np.ones_like(x[:, :1])], 1) for x in (ACTIONS, REWARDS)]
    assert equal(episodes(STATES, *padded, convention="next"), after)
    assert not equal(episodes(STATES, *padded), after)


def test_arrays_tensors_lists_and_mappings_are_alike():
    expected = episodes()
    for form in (torch.from_numpy, list, lambda x: [torch.from_numpy(row) for row in x]):
        assert equal(episodes(form(STATES), form(ACTIONS), form(REWARDS)), expected)
    assert equal(episodes({"state": STATES}), expected)
    assert equal(episodes([{"state": one} for one in STATES]), expected)
    assert equal(episodes(rewards=REWARDS[..., None]), expected)
    for kind in (">f8", "f2", ">u8", np.longdouble):  # torch has no other byte order, nor more bits
        whole = np.floor(np.abs(STATES)).astype(kind)
        assert np.array_equal(episodes(whole).observations, whole.astype(float))
    gradient = torch.from_numpy(STATES).requires_grad_()
    assert not episodes(gradient).observations.requires_grad


def test_vectors_of_several_keys_are_concatenated_in_the_order_named():
    parts = {"angle": STATES[..., 0], "speed": STATES[..., 1:], "frame": FRAMES}
    found = episodes(parts, keys=["speed", "angle"])
    assert np.array_equal(found.observations, np.concatenate([STATES[..., 1:], STATES[..., :1]], 2))
    assert torch.equal(episodes(parts, keys="frame").observations, torch.from_numpy(FRAMES))


def test_an_image_beside_vectors_stands_before_them():
    parts = {"angle": STATES[..., 0], "frame": FRAMES}
    found = episodes(parts, keys=["angle", "frame"]).observations
    assert np.allclose(found[..., :-1], (FRAMES / 255).reshape(3, 6, -1), atol=1e-7)
    assert np.array_equal(found[..., -1], STATES[..., 0])


def test_images_of_every_layout_become_the_same_bytes():
    expected = episodes(FRAMES)
    assert expected.observations.dtype == torch.uint8
    first = np.moveaxis(FRAMES, -1, 2)
    assert equal(episodes(first), expected)
    for image, options in (
        (FRAMES / 255, {"pixel_max": 1}),
        ((FRAMES / 255).astype(np.float32), {"pixel_max": 1}),
        (FRAMES.astype(np.float64), {"pixel_max": 255}),
        (FRAMES.astype(np.int64), {"pixel_max": 255}),
        (first.astype(np.float32), {"pixel_max": 255, "channels": "first"}),
    ):
        assert equal(episodes(image, **options), expected)
    half = episodes(np.full((3, 6, 8, 8, 3), 0.499), pixel_max=1).observations
    assert half.unique().tolist() == [127]  # 127.245, rounded
    almost = episodes(np.full((3, 6, 8, 8, 3), 0.9999), pixel_max=1).observations
    assert almost.unique().tolist() == [255]  # 254.97, rounded
    grey = FRAMES[..., :1]
    for image in (grey, grey[..., 0], np.moveaxis(grey, -1, 2)):
        assert torch.equal(episodes(image).observations, torch.from_numpy(grey))


def test_stacked_frames_follow_one_another_in_the_channels():
    stack = DRAW.integers(0, 256, (3, 6, 2, 12, 16, 3), dtype=np.uint8)
    found = episodes(stack).observations
    assert found.shape == (3, 6, 12, 16, 6)
    assert np.array_equal(found, np.concatenate([stack[:, :, 0], stack[:, :, 1]], -1))
    assert torch.equal(episodes(np.moveaxis(stack, -1, 3)).observations, found)
    grey = stack[..., 0]  # (2, 12, 16): frames stacked as the channels are
    assert np.array_equal(episodes(grey).observations, np.moveaxis(grey, 2, -1))


def test_episodes_of_unequal_length_become_windows():
    lengths = (6, 4, 5)
    rows = [[part[k, :n] for k, n in enumerate(lengths)] for part in (STATES, ACTIONS, REWARDS)]
    found = episodes(*rows, steps=5)
    assert found.observations.shape == (2, 5, 4)
    assert np.array_equal(found.observations[1], STATES[2, :5])
    later = [episodes(*rows, steps=4, window_seed=seed) for seed in range(20)]
    firsts = {float(one.observations[0, 0, 0]) for one in later}
    assert firsts == {float(STATES[0, row, 0]) for row in range(3)}
    assert not any(one.previous_actions[:, 0].any() for one in later)
    with pytest.raises(ValueError, match=r"4 to 6 rows: give steps.*steps=4 takes one of each"):
        episodes(*rows)
    with pytest.raises(ValueError, match=r"steps=7: the episodes have 4 to 6 rows"):
        episodes(*rows, steps=7)


def hole(array):
    """The array with a number that is none, in row 2 of episode 1."""
    changed = array.copy()
    changed[1, 2] = np.nan
    return changed


REFUSED = {
    "convention": ({"convention": "nxt"}, "did you mean 'next'"),
    "no key": (
        {"observations": {"a": STATES, "b": STATES}},
        "the keys 'a', 'b': give keys, the names of those",
    ),
    "key": ({"observations": {"speed": STATES}, "keys": "sped"}, "did you mean 'speed'"),
    "key of an array": ({"keys": "state"}, "names select those of a mapping"),
    "no names": ({"observations": {"a": STATES}, "keys": ()}, "at least one name"),
    "images": (
        {"observations": {"left": FRAMES, "right": FRAMES}, "keys": ("left", "right")},
        "'left' and 'right' hold images; expected at most one",
    ),
    "rows of keys": (
        {"observations": {"a": STATES, "b": STATES[:, :5]}, "keys": ("a", "b")},
        "numbers of rows {'a': 6, 'b': 5}",
    ),
    "channels": ({"observations": FRAMES[..., :5, :, :]}, 'give channels="first" or channels='),
    "channels name": ({"observations": FRAMES, "channels": "lst"}, "did you mean 'last'"),
    "floats": ({"observations": FRAMES / 255}, "give pixel_max=1 or pixel_max=255"),
    "fractions": ({"observations": FRAMES / 255, "pixel_max": 255}, "expected pixel_max=1"),
    "large": ({"observations": FRAMES * 1.0, "pixel_max": 1}, "from 0 to pixel_max=1"),
    "centred": ({"observations": FRAMES / 255 - 0.5, "pixel_max": 1}, "from 0 to pixel_max=1"),
    "bytes": ({"observations": FRAMES, "pixel_max": 1}, "are uint8, from 0 to 255"),
    "maximum": ({"observations": FRAMES, "pixel_max": 2}, "pixel_max=2: expected 1 or 255"),
    "one episode": ({"rewards": REWARDS[0]}, "rewards: shape (6,); expected an array (E, T, …)"),
    "discrete": (
        {"actions": np.zeros((3, 6), int)},
        "actions of episode 0: shape (6,); expected (T, A). Discrete actions are one-hot",
    ),
    "fewer episodes": ({"actions": ACTIONS[:2]}, "3 episodes, actions 2, rewards 3"),
    "fewer actions": ({"actions": ACTIONS[:, :5]}, "5 rows for 6 observations; expected 6 with"),
    "fewer rows": (
        {"actions": ACTIONS[:, :4], "convention": "next"},
        '4 rows for 6 observations; expected 5 or 6 with convention="next"',
    ),
    "not finite": (
        {"observations": hole(STATES)},
        "observations of episode 1: row 2 is not finite",
    ),
    "no numbers": ({"rewards": [np.array(["a"] * 6)] * 3}, "dtype <U1; expected real numbers"),
    "complex": (
        {"actions": torch.ones(3, 6, 1, dtype=torch.complex64)},
        "actions of episode 0 is torch.complex64, torch.strided: expected a dense tensor of real",
    ),
    "beyond int64": (
        {"rewards": np.full((3, 6), 2**63 + 5, np.uint64)},
        "rewards of episode 0: 9223372036854775813 among them; expected numbers up to",
    ),
    "truth values": ({"observations": FRAMES > 99, "pixel_max": 255}, "expected pixel_max=1"),
    "rewards": ({"rewards": np.zeros((3, 6, 2))}, "rewards of episode 0: shape (6, 2)"),
    "shapes": ({"observations": [STATES[0], STATES[1], STATES[2, :, :3]]}, "(4,) in the first"),
    "axes": ({"observations": np.zeros((3, 6, 1, 2, 2, 2, 2))}, "expected vectors (T, D)"),
    "none": ({"observations": [], "actions": [], "rewards": []}, "at least one episode"),
    "text": ({"observations": "runs"}, "observations: str; expected an array"),
    "seed": ({"window_seed": -1}, "window_seed=-1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_what_to_change(case):
    options, text = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(text)):
        episodes(**options)

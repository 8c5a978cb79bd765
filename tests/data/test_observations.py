"""Observations of others' environments: vectors, images of any size and layout, and both."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import Box
from PIL import Image

from sdewm.data.observations import ChosenObservations, frame_of, frames_of_both, is_image

RANDOM = np.random.default_rng(0)
PICTURE = Box(0, 255, (96, 80, 3), np.uint8)
VECTOR = Box(-1.0, 1.0, (2, 2), np.float64)


class Fixed(gymnasium.Env):
    action_space = Box(-1, 1, (1,))

    def __init__(self, space, value):
        self.observation_space, self.value = space, value

    def reset(self, *, seed=None, options=None):
        return self.value, {}

    def step(self, action):
        return self.value, 0.0, False, False, {}


def seen(space, value, obs):
    env = ChosenObservations(Fixed(space, value), obs)
    found = env.reset()[0]
    assert env.step(np.zeros(1))[0].tolist() == found.tolist()
    assert found in env.observation_space
    return found


def gradient(height, width):
    """A picture that rises along both axes, so that turned or mirrored ones differ."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    image = np.stack(np.broadcast_arrays(2 * rows, columns, rows + columns), -1)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("turn", "space"),
    [
        (lambda x: x, PICTURE),
        (lambda x: x.transpose(2, 0, 1), Box(0, 255, (3, 96, 80), np.uint8)),
        (lambda x: (x / 255).astype(np.float32), Box(0, 1, (96, 80, 3), np.float32)),
    ],
)
def test_every_layout_of_an_image_is_the_same_frame(turn, space):
    image = gradient(96, 80)
    expected = np.array(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    assert (seen(space, turn(image), "pixels") == expected).all()


@pytest.mark.parametrize("shape", [(50, 70), (50, 70, 1), (1, 50, 70)])
def test_grey_is_repeated_in_three_channels(shape):
    image = gradient(50, 70)[..., 2]
    found = seen(Box(0, 255, shape, np.uint8), image.reshape(shape), "pixels")
    expected = np.array(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    assert all((found[..., channel] == expected).all() for channel in range(3))


def test_an_image_of_the_models_size_is_unchanged():
    image = RANDOM.integers(256, size=(64, 64, 3)).astype(np.uint8)
    assert (frame_of(image) == image).all()


def test_a_reduced_image_is_an_average_and_not_a_choice_of_pixels():
    image = np.zeros((512, 512, 3), np.uint8)
    image[::2] = 200  # stripes that a choice of pixels would keep or lose
    assert np.abs(frame_of(image)[4:-4].astype(int) - 100).max() <= 2


def test_vectors_of_a_dict_come_in_its_order_and_numbers_as_one_hots():
    space = spaces.Dict(
        {"b": VECTOR, "a": spaces.Discrete(3, start=1), "c": spaces.MultiDiscrete([2, 2])}
    )
    value = {"b": np.array([[1.0, 2], [3, 4]]), "a": np.int64(2), "c": np.array([1, 0])}
    found = seen(space, value, "proprio")
    expected = {"a": [0, 1, 0], "b": [1, 2, 3, 4], "c": [0, 1, 1, 0]}
    assert found.tolist() == [x for name in space.spaces for x in expected[name]]
    assert found.dtype == np.float32


NESTED = spaces.Dict(
    camera=PICTURE, body=spaces.Tuple((spaces.MultiBinary(2), spaces.Dict(joints=VECTOR)))
)
NESTED_VALUE = {
    "camera": gradient(96, 80),
    "body": (np.array([1, 0], np.int8), {"joints": np.full((2, 2), 0.5)}),
}


def test_image_and_vectors_of_a_nested_space_are_taken_apart():
    vector = [1, 0, 0.5, 0.5, 0.5, 0.5]
    assert seen(NESTED, NESTED_VALUE, "proprio").tolist() == vector
    frame = seen(NESTED, NESTED_VALUE, "pixels")
    assert (frame == frame_of(NESTED_VALUE["camera"])).all()
    both = seen(NESTED, NESTED_VALUE, "both")
    assert both.shape == (12288 + 6,) and both[12288:].tolist() == vector
    assert (np.rint(255 * frames_of_both(both)) == frame).all()


@pytest.mark.parametrize(
    ("space", "obs", "reason"),
    [
        (VECTOR, "pixels", "needs one image among its observations, and it has 0"),
        (VECTOR, "both", "it has 0"),
        (PICTURE, "proprio", "use obs='pixels'"),
        (PICTURE, "both", "use obs='pixels'"),
        (spaces.Dict(a=PICTURE, b=PICTURE), "pixels", r"it has 2 \(a: Box.*, b: Box"),
        (Box(0, 255, (4, 84, 84), np.uint8), "proprio", "C = 1 or 3"),
        (spaces.Dict(a=spaces.Text(3), b=VECTOR), "both", "a: Text.*expected Box, Discrete"),
        (spaces.Sequence(spaces.Discrete(2)), "proprio", "Sequence.*expected Box, Discrete"),
    ],
)
def test_what_cannot_be_observed_is_refused_with_the_reason(space, obs, reason):
    if obs == "both" and "Text" in str(space):
        space = spaces.Dict(a=spaces.Text(3), b=PICTURE)
    with pytest.raises(ValueError, match=reason):
        ChosenObservations(Fixed(space, None), obs)


@pytest.mark.parametrize(
    "space",
    [
        Box(0, 2, (9, 9, 3), np.float32),  # not in [0, 1]
        Box(0, 1, (9, 9), np.float32),  # a matrix
        Box(0, 255, (9, 9, 4), np.uint8),
        Box(0, 255, (9,), np.uint8),
        spaces.Discrete(3),
    ],
)
def test_these_are_not_images(space):
    assert not is_image(space)

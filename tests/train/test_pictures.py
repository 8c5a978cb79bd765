"""Pictures show truth, model and error where they say."""

import numpy as np
import pytest
from PIL import Image

from sdewm.train.pictures import (
    ABOVE,
    COMPONENTS,
    CONTEXT_COLOUR,
    LEFT,
    episode_frames,
    open_loop_picture,
    save_gif,
    save_picture,
)
from tests.train.fake_agent import small_config

DRAW = np.random.default_rng(0)


def test_strip_has_truth_model_and_error_in_three_rows(tmp_path):
    truth, model = DRAW.random((12, 8, 8, 3)), DRAW.random((12, 8, 8, 3))
    whole = open_loop_picture(truth, model, context=4)
    picture = whole[ABOVE:, LEFT:]
    assert picture.shape == (3 * 8 + 2, 12 * 8, 3)
    for row, part in enumerate((truth, model, (model - truth + 1) / 2)):
        for step in (0, 5, 11):
            tile = picture[8 * row : 8 * row + 8, 8 * step : 8 * step + 8]
            np.testing.assert_allclose(tile / 255, part[step], atol=0.51 / 255)
    blue = (picture[-1] == CONTEXT_COLOUR).all(axis=1)
    assert blue.tolist() == [True] * 32 + [False] * 64
    save_picture(tmp_path / "new" / "strip.png", whole)
    with Image.open(tmp_path / "new" / "strip.png") as image:
        np.testing.assert_array_equal(np.array(image), whole)


def test_predictions_out_of_range_are_clipped_not_wrapped():
    truth = np.full((2, 4, 4, 3), 0.5)
    picture = open_loop_picture(truth, truth + np.array([3.0, -3.0])[:, None, None, None], 0)
    picture = picture[ABOVE:, LEFT:]
    assert (picture[4:8, :4] == 255).all() and (picture[4:8, 4:] == 0).all()


def test_rows_of_a_strip_are_named_and_its_columns_numbered():
    white = np.ones((12, 64, 64, 3))
    picture = open_loop_picture(white, white, context=4)
    left, above = picture[ABOVE:, :LEFT], picture[:ABOVE, LEFT:]
    names = [left[64 * row : 64 * (row + 1)] for row in range(3)]
    numbers = [above[:, 64 * step : 64 * (step + 1)] for step in range(12)]
    assert all((part < 100).any() for part in (*names, *numbers))
    assert not np.array_equal(names[0], names[1]) and not np.array_equal(names[1], names[2])
    blue = [bool(np.ptp(part.astype(int), axis=2).max() > 50) for part in numbers]
    assert blue == [True] * 4 + [False] * 8


def colours(picture):
    return {tuple(pixel) for pixel in picture.reshape(-1, 3)}


@pytest.mark.parametrize("size", [1, 4, COMPONENTS + 5])
def test_vectors_become_lines_of_truth_model_and_error(size):
    truth = DRAW.normal(size=(30, size))
    picture = open_loop_picture(truth, truth + 1, context=5)
    assert picture.dtype == np.uint8 and picture.ndim == 3
    red, blue = (214, 39, 40), (31, 119, 180)  # tab:red, tab:blue
    assert {red, blue, (0, 0, 0)} <= colours(picture)
    assert not np.array_equal(picture, open_loop_picture(truth, truth, context=5))
    assert not np.array_equal(picture, open_loop_picture(truth, truth + 1, context=20))


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected two equal shapes"):
        open_loop_picture(np.zeros((3, 2)), np.zeros((4, 2)), 1)
    with pytest.raises(ValueError, match="expected two equal shapes"):
        open_loop_picture(np.zeros(3), np.zeros(3), 1)


def test_gif_shows_the_frames_in_order(tmp_path):
    frames = np.zeros((6, 4, 4, 3), np.uint8)
    frames[:, :, :, 0] = (40 * np.arange(6))[:, None, None]
    save_gif(tmp_path / "pictures" / "episode.gif", frames)
    with Image.open(tmp_path / "pictures" / "episode.gif") as image:
        assert (image.n_frames, image.info["loop"], image.info["duration"]) == (6, 0, 40)
        for number in range(6):
            image.seek(number)
            assert np.array(image.convert("RGB"))[0, 0, 0] == pytest.approx(40 * number, abs=2)


def test_vectors_of_gym_environments_give_no_frames():
    config = small_config(env="gym:Pendulum-v1")
    with pytest.raises(ValueError, match="gym:Pendulum-v1 has no frames"):
        episode_frames(config, {}, seed=0)
    episode = {"previous_action": np.zeros((4, 1), np.float32)}
    assert episode_frames(small_config(), episode, seed=0).shape == (4, 64, 64, 3)

"""Drawing: covered areas, smooth movement, edges of the image."""

import numpy as np
import pytest

from sdewm.data.frames import draw_box, draw_segment

WHITE = (255.0, 255.0, 255.0)


def blank(height=40, width=50):
    return np.zeros((height, width, 3), np.float32)


def area(image):
    return image[:, :, 0].sum() / 255


def test_a_box_covers_exactly_its_area():
    rng = np.random.default_rng(0)
    for _ in range(50):
        left, top = rng.uniform(1, 20, 2)
        width, height = rng.uniform(0.01, 18, 2)
        image = blank()
        draw_box(image, left, top, left + width, top + height, WHITE)
        assert area(image) == pytest.approx(width * height, rel=1e-4, abs=1e-4)


def test_a_segment_covers_about_its_area_at_any_angle():
    for angle in np.linspace(0, np.pi, 13):
        image, radius, length = blank(), 3.0, 15.0
        end = (20 + length * np.cos(angle), 20 + length * np.sin(angle))
        draw_segment(image, (20, 20), end, radius, WHITE)
        assert area(image) == pytest.approx(2 * radius * length + np.pi * radius**2, rel=0.02)


def test_a_segment_is_the_slow_obvious_one():
    start, end, radius = np.array([12.3, 30.1]), np.array([33.7, 9.9]), 2.2
    image, slow = blank(), np.zeros((40, 50))
    draw_segment(image, tuple(start), tuple(end), radius, WHITE)
    for row in range(40):
        for column in range(50):
            point = np.array([column + 0.5, row + 0.5])
            share = np.dot(point - start, end - start) / np.dot(end - start, end - start)
            nearest = start + min(max(share, 0), 1) * (end - start)
            slow[row, column] = min(max(radius + 0.5 - np.linalg.norm(point - nearest), 0), 1)
    np.testing.assert_allclose(image[:, :, 0] / 255, slow, atol=1e-4)
    moved = blank()
    draw_segment(moved, tuple(start + 0.1), tuple(end + 0.1), radius, WHITE)
    assert (
        np.abs(moved[:, :, 0] / 255 - slow).max() > 0.05
    )  # the comparison sees a tenth of a pixel


@pytest.mark.parametrize("x", [-30.0, -2.0, 49.0, 52.0, 90.0])
def test_what_lies_outside_of_the_image_is_left_out(x):
    large = np.zeros((40, 250, 3), np.float32)
    draw_segment(large, (x + 100, 20), (x + 104, 30), 2.5, WHITE)
    draw_box(large, x + 100, 5, x + 106, 9, WHITE)
    image = blank()
    draw_segment(image, (x, 20), (x + 4, 30), 2.5, WHITE)
    draw_box(image, x, 5, x + 6, 9, WHITE)
    np.testing.assert_allclose(image, large[:, 100:150], atol=2e-2)


def test_a_colour_is_mixed_by_the_covered_share():
    image = np.full((1, 2, 3), 100.0, np.float32)
    draw_box(image, 0.75, 0, 2, 1, (200.0, 100.0, 0.0))
    np.testing.assert_allclose(image[0], [[125, 100, 75], [200, 100, 0]])

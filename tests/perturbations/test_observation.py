"""Perturbed observations: what changes, what stays, what is drawn how often."""

import pytest
import torch

from sdewm.perturbations.observation import KINDS, ObservationPerturbation
from tests.model.small_models import generator, randn

COPIES, STEPS = 3, 4
STRENGTHS = {"noise": 0.2, "mask": 0.3, "shift": 0.5, "brightness": 0.2, "rotation": 30.0}
STRENGTHS |= {"occlusion": 0.25, "occlusion-noise": 0.25, "mask-noise": 0.3, "jitter": 3.0}


def images():
    one = torch.randint(60, 180, (1, STEPS, 64, 64, 3), generator=generator()).byte()
    return one.expand(COPIES, -1, -1, -1, -1)


def perturbed(name, observations, seed=1):
    return ObservationPerturbation(name, STRENGTHS[name])(observations, generator(seed))


@pytest.mark.parametrize("name", [*KINDS])
def test_shape_and_dtype_stay_and_copies_follow_the_seed(name):
    kind = KINDS[name]
    for observations in (randn(1, STEPS, 5).expand(COPIES, -1, -1), images()):
        which = "images" if observations.dtype == torch.uint8 else "vectors"
        if which not in kind.observations:
            with pytest.raises(ValueError, match=f"perturbation='{name}' is for"):
                perturbed(name, observations)
            continue
        one, again, other = (perturbed(name, observations, seed) for seed in (1, 1, 2))
        assert one.shape == observations.shape and one.dtype == observations.dtype
        assert torch.equal(one, again) and not torch.equal(one, observations)
        fixed = name in ("shift", "brightness")
        assert torch.equal(one, other) == fixed and torch.equal(one[0], one[1]) == fixed


def test_noise_is_white_with_the_strength_as_standard_deviation():
    x = torch.zeros(20, 50, 5, dtype=torch.float64)
    changed = ObservationPerturbation("noise", 0.3)(x, generator())
    assert abs(changed.mean()) < 0.02 and changed.std().item() == pytest.approx(0.3, rel=0.03)
    lag = (changed[:, 1:] * changed[:, :-1]).mean() / changed.var()
    assert abs(lag) < 0.05
    pixels = perturbed("noise", torch.full((1, 2, 64, 64, 3), 128, dtype=torch.uint8)).float()
    assert pixels.std().item() / 255 == pytest.approx(0.2, rel=0.05)
    dark = perturbed("noise", torch.zeros(1, 2, 64, 64, 3, dtype=torch.uint8)).float()
    assert dark.min() == 0 and dark.mean() / 255 > 0.05  # clipped: zero-mean noise has a mean


def test_masks_take_whole_pixels_or_single_components():
    changed = perturbed("mask", images())
    gone = changed == 0
    assert gone.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(gone.all(-1), gone.any(-1)) and not torch.equal(gone[0, 0], gone[0, 1])
    vectors = perturbed("mask", torch.ones(1, 100, 50))
    assert vectors.mean().item() == pytest.approx(0.7, abs=0.03)


def test_a_square_hides_its_share_of_the_image_at_one_place_for_the_copy():
    hidden = (perturbed("occlusion", images()) == 0).all(-1)
    assert (hidden.flatten(2).sum(-1) == 32 * 32).all()
    assert torch.equal(hidden[0, 0], hidden[0, -1]) and not torch.equal(hidden[0], hidden[1])
    rows, columns = hidden[0, 0].nonzero().unbind(1)
    assert (int(rows.max() - rows.min()), int(columns.max() - columns.min())) == (31, 31)


def test_images_of_any_size_are_perturbed():
    image = torch.full((1000, 2, 12, 20, 1), 200, dtype=torch.uint8)
    hidden = ObservationPerturbation("occlusion", 0.25)(image, generator())[..., 0] == 0
    assert (hidden.flatten(2).sum(-1) == 6 * 10).all()  # half of either side
    assert hidden.any(0).all()  # at every place
    ramp = torch.arange(20, dtype=torch.uint8)[:, None].expand(12, 20, 1).expand(image.shape)
    moved = ObservationPerturbation("jitter", 3.0)(ramp, generator()).int() - ramp.int()
    assert moved[..., 5:15, 0].unique().tolist() == list(range(-3, 4))
    for name in ("noise", "mask", "brightness", "rotation", "occlusion-noise"):
        assert ObservationPerturbation(name, 0.5)(image, generator()).shape == image.shape


@pytest.mark.parametrize("most", [0, 1, 3])
def test_jitter_is_uniform_in_whole_pixels_along_either_axis_at_every_step(most):
    side, count = 16, 4000
    place = torch.zeros(1, 2, side, side, 2, dtype=torch.uint8)
    place[..., 0] = torch.arange(side)[:, None]
    place[..., 1] = torch.arange(side)
    images = place.expand(count, -1, -1, -1, -1)
    moved = ObservationPerturbation("jitter", float(most))(images, generator()).int() - images.int()
    offset = moved[:, :, side // 2, side // 2]  # (N, T, 2), away from the edges
    assert torch.equal(moved[:, :, 4:12, 4:12], offset[:, :, None, None].expand(-1, -1, 8, 8, -1))
    values = 2 * most + 1
    for step in (0, 1):
        for axis in (0, 1):
            share = torch.bincount(offset[:, step, axis] + most, minlength=values) / count
            # Six standard errors; a rounded uniform number gives the ends half of this.
            error = 6 * (1 / values * (1 - 1 / values) / count) ** 0.5
            assert share.tolist() == pytest.approx([1 / values] * values, abs=error)
    if most:
        assert not torch.equal(offset[:, 0], offset[:, 1])
        assert not torch.equal(offset[..., 0], offset[..., 1])


def test_rotation_turns_about_the_middle_by_one_angle_for_the_copy():
    image = torch.zeros(400, 2, 64, 64, 3, dtype=torch.uint8)
    image[:, :, 30:34, 54:58] = 255  # 24 pixels to the right of the middle
    turned = ObservationPerturbation("rotation", 90.0)(image, generator())
    weight = turned[..., 0].double()
    pixel = torch.arange(64.0, dtype=torch.float64) - 31.5
    total = weight.sum((-2, -1))
    row = (weight.sum(-1) * pixel).sum(-1) / total
    column = (weight.sum(-2) * pixel).sum(-1) / total
    assert torch.allclose(row[:, 0], row[:, 1])
    assert torch.allclose((row**2 + column**2).sqrt(), torch.tensor(24.0).double(), atol=0.2)
    angle = torch.rad2deg(torch.atan2(row[:, 0], column[:, 0]))
    assert angle.abs().max() <= 90.5 and abs(angle.mean()) < 8
    assert angle.std().item() == pytest.approx(180 / 12**0.5, rel=0.1)  # uniform


@pytest.mark.parametrize("shape", [(64, 32), (32, 64)])
def test_rotation_keeps_distances_in_images_that_are_not_square(shape):
    """A spot 10 pixels below the middle stays 10 pixels from it, whatever the angle."""
    height, width = shape
    image = torch.zeros(200, 1, height, width, 1, dtype=torch.uint8)
    image[:, :, height // 2 + 8 : height // 2 + 12, width // 2 - 2 : width // 2 + 2] = 255
    turned = ObservationPerturbation("rotation", 180.0)(image, generator())[:, 0, ..., 0].double()
    total = turned.sum((-2, -1))
    pixels = (torch.arange(float(n)).double() - (n - 1) / 2 for n in shape)
    row, column = (
        (turned.sum(axis) * pixel).sum(-1) / total
        for axis, pixel in zip((-1, -2), pixels, strict=True)
    )
    distance = (row**2 + column**2).sqrt()
    assert torch.allclose(distance, torch.full_like(distance, 10.0), atol=0.2)


@pytest.mark.parametrize(
    ("name", "strength", "message"),
    [
        ("nosie", 0.1, "did you mean 'noise'"),
        ("noise", -0.1, "strength=-0.1: noise takes a number from 0 to inf"),
        ("mask", 1.5, "from 0 to 1"),
        ("brightness", 2.0, "from -1 to 1"),
        ("rotation", float("nan"), "strength=nan"),
        ("jitter", 0.4, r"strength=0.4: jitter takes a whole number from 0 to 32 \(largest shift"),
        ("jitter", 33.0, "whole number from 0 to 32"),
    ],
)
def test_unknown_names_and_strengths_are_refused(name, strength, message):
    with pytest.raises(ValueError, match=message):
        ObservationPerturbation(name, strength)


def test_what_is_no_whole_number_is_refused_of_jitter_alone():
    assert ObservationPerturbation("jitter", 2).label == "jitter:2"
    assert ObservationPerturbation("rotation", 0.4).label == "rotation:0.4"

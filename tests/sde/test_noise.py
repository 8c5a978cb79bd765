"""The noise: its law, and that a path depends on nothing but the seed and its index."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sdewm.sde.noise import EnumeratedNoise, GaussianNoise, TwoPointNoise
from sdewm.sde.noise.block import GAMMA, split_mix

RANDOM = [GaussianNoise, TwoPointNoise]
DTYPES = [torch.float64, torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", RANDOM)
def test_a_path_does_not_depend_on_the_batch_it_is_asked_in(law, dtype):
    noise = law(drivers=3, steps=5, t1=1.0, seed=4)
    whole = noise.increments(0, 5000, dtype)
    for first, last in ((0, 1), (1023, 1025), (2048, 3072), (4000, 5000)):
        part = noise.increments(first, last, dtype)
        torch.testing.assert_close(
            part, whole[:, first:last], rtol=0, atol=1e-15 if dtype == torch.float64 else 1e-6
        )


@pytest.mark.parametrize("law", RANDOM)
def test_a_path_does_not_depend_on_the_number_of_threads(law):
    noise = law(drivers=2, steps=70, t1=1.0, seed=4)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = noise.increments(0, 4096)
        torch.set_num_threads(3)
        three = noise.increments(0, 4096)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(one, three, rtol=0, atol=1e-15)


def test_more_steps_of_the_same_size_continue_the_same_path():
    short, long = (GaussianNoise(drivers=2, steps=n, t1=0.1 * n) for n in (3, 300))
    torch.testing.assert_close(
        short.increments(0, 9), long.increments(0, 9)[:3], rtol=1e-13, atol=0
    )


@pytest.mark.parametrize("law", RANDOM)
@pytest.mark.parametrize("antithetic", [False, True])
def test_coarse_increments_are_sums_of_fine_ones(law, antithetic):
    fine = law(drivers=2, steps=24, t1=3.0, t0=1.0, seed=5, antithetic=antithetic)
    coarse = fine.coarsen(2).coarsen(3)
    assert (coarse.steps, coarse.step_size) == (4, 0.5)
    summed = fine.increments(1000, 1100).view(4, 6, 100, 2).sum(1)
    torch.testing.assert_close(coarse.increments(1000, 1100), summed, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="factor=5.*steps=24"):
        fine.coarsen(5)


@pytest.mark.parametrize("law", RANDOM)
def test_antithetic_partners_are_opposite(law):
    drawn = law(drivers=1, steps=3, t1=1.0, antithetic=True).increments(10, 2010)
    assert torch.equal(drawn[:, 0::2], -drawn[:, 1::2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compiled", [False, True])
def test_gaussian_increments_are_normal(dtype, compiled):
    noise = GaussianNoise(drivers=4, steps=16, t1=4.0, seed=11, compiled=compiled)
    drawn = noise.increments(0, 8192, dtype).double()  # (16, 8192, 4)
    sample = (drawn / math.sqrt(0.25)).flatten().numpy()
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    moments = [np.mean(sample**k) for k in (1, 2, 3, 4)]
    errors = [math.sqrt(variance / sample.size) for variance in (1, 2, 15, 96)]
    for got, expected, error in zip(moments, (0, 1, 0, 3), errors, strict=True):
        assert abs(got - expected) < 4.5 * error


def test_a_wrong_scale_or_law_would_be_noticed():
    """Negative control of the test above: 2 % more variance, or two-point increments."""
    sample = (
        GaussianNoise(drivers=4, steps=16, t1=16.0, seed=11).increments(0, 8192).flatten().numpy()
    )
    assert abs(np.mean((1.01 * sample) ** 2) - 1) > 4.5 * math.sqrt(2 / sample.size)
    two_point = TwoPointNoise(drivers=4, steps=16, t1=16.0).increments(0, 8192).flatten().numpy()
    assert stats.kstest(two_point, "norm").pvalue < 1e-6


def test_words_are_those_of_splitmix64():
    """The generator's published outputs for the seed 1234567."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = 1234567 + GAMMA * torch.arange(1, 6)
    assert [int(word) % 2**64 for word in split_mix(states)] == published


@pytest.mark.parametrize("law", RANDOM)
def test_paths_far_out_are_entered_at_once_and_keep_the_law(law):
    drawn = law(drivers=2, steps=4, t1=4.0).increments(10**12, 10**12 + 8192)
    assert abs(float(drawn.mean())) < 4.5 / drawn.numel() ** 0.5
    assert float((drawn**2).mean()) == pytest.approx(1.0, abs=4.5 * (2 / drawn.numel()) ** 0.5)


@pytest.mark.parametrize("law", RANDOM)
def test_steps_drivers_paths_and_seeds_are_uncorrelated(law):
    size, bound = 8192, 4.5 / math.sqrt(8192)
    drawn = law(drivers=2, steps=2, t1=2.0, seed=0).increments(0, size)
    other = law(drivers=2, steps=2, t1=2.0, seed=1).increments(0, size)
    series = [drawn[0, :, 0], drawn[0, :, 1], drawn[1, :, 0], drawn[1, :, 1], other[0, :, 0]]
    series += [drawn[0, :, 0].roll(1), drawn[0, :, 0].roll(1024), drawn[0, :, 0].roll(512)]
    correlation = np.corrcoef(torch.stack(series).numpy()) - np.eye(len(series))
    assert np.abs(correlation).max() < bound


def test_two_point_increments_are_fair_and_have_one_size():
    drawn = TwoPointNoise(drivers=3, steps=8, t1=2.0, seed=2).increments(0, 4096)
    assert torch.equal(drawn.abs().unique(), torch.tensor([0.5], dtype=torch.float64))
    assert abs(float((drawn > 0).double().mean()) - 0.5) < 4.5 * 0.5 / math.sqrt(drawn.numel())


def test_enumeration_meets_every_pattern_once():
    drawn = EnumeratedNoise(drivers=2, steps=3, t1=3.0).increments(0, 64)  # (3, 64, 2)
    patterns = {tuple(row) for row in drawn.permute(1, 0, 2).flatten(1).tolist()}
    assert len(patterns) == 64 and float(drawn.sum()) == 0.0


def test_enumeration_beyond_its_limit_is_refused():
    with pytest.raises(ValueError, match=r"steps=13 and 2 drivers needs 2\^26"):
        EnumeratedNoise(drivers=2, steps=13, t1=1.0)


def test_space_time_area_has_its_covariance_and_coarsens():
    fine = GaussianNoise(drivers=1, steps=8, t1=4.0, seed=3)
    walk, area = (torch.stack(parts) for parts in zip(*fine.stream_with_area(0, 4096), strict=True))
    torch.testing.assert_close(walk, fine.increments(0, 4096), rtol=0, atol=1e-15)
    h, n = 0.5, walk.numel()
    assert float((walk * area).mean()) == pytest.approx(h**2 / 2, abs=4.5 * h**2 / math.sqrt(n))
    assert float((area**2).mean()) == pytest.approx(h**3 / 3, rel=4.5 * math.sqrt(2 / n))
    coarse = fine.coarsen(2)
    walk2, area2 = next(iter(coarse.stream_with_area(0, 4096)))
    torch.testing.assert_close(walk2, walk[0] + walk[1])
    torch.testing.assert_close(area2, area[0] + area[1] + h * walk[0])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"drivers": 0}, "drivers=0"),
        ({"steps": 0}, "steps=0"),
        ({"t1": -1.0}, "t1=-1.0"),
        ({"seed": -1}, "seed=-1"),
        ({"refine": 0}, "refine=0"),
    ],
)
def test_bad_sizes_are_refused_by_name(arguments, word):
    with pytest.raises(ValueError, match=word):
        GaussianNoise(**({"drivers": 1, "steps": 2, "t1": 1.0} | arguments))


def test_half_precision_is_refused():
    with pytest.raises(ValueError, match="float16"):
        GaussianNoise(drivers=1, steps=2, t1=1.0).increments(0, 4, torch.float16)


@pytest.mark.parametrize("law", [*RANDOM, EnumeratedNoise])
def test_the_grid_goes_from_start_to_end_in_equal_steps(law):
    noise = law(drivers=1, steps=4, t0=1.0, t1=3.0)
    assert noise.grid(torch.float64).tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]

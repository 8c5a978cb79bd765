"""Argument checks name the argument, what was given and what is allowed."""

import math

import numpy as np
import pytest
import torch

from sdewm.base import checks


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: checks.check_count("steps", 0), ["steps=0", "at least 1"]),
        (lambda: checks.check_count("paths", -3), ["paths=-3"]),
        (lambda: checks.check_count("paths", 1.5), ["paths=1.5", "whole number"]),
        (lambda: checks.check_count("paths", True), ["paths=True"]),
        (lambda: checks.check_count("paths", "10"), ["paths='10'"]),
        (lambda: checks.check_count("n", 9, maximum=8), ["n=9", "at most 8"]),
        (lambda: checks.check_interval(1.0, 1.0), ["t1=1.0", "t0=1.0"]),
        (lambda: checks.check_interval(0.0, math.nan), ["t1=nan", "finite"]),
        (
            lambda: checks.check_interval(0.0, torch.tensor(1.5)),
            ["t1 is a Tensor of shape ()", "finite number, a scalar of Python or NumPy"],
        ),
        (
            lambda: checks.check_count("steps", np.array([10])),
            ["steps is a ndarray of shape (1,)", "at least 1, a scalar of Python or NumPy"],
        ),
        (lambda: checks.check_float_dtype("dtype", torch.float16), ["torch.float16", "float64"]),
        (lambda: checks.check_device("tpu9"), ["tpu9", "cpu"]),
        (
            lambda: checks.check_choice("increments", "gausian", ("gaussian",)),
            ["did you mean 'gaussian'"],
        ),
    ],
)
def test_the_message_says_what_was_given_and_what_is_allowed(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32, np.float64])
def test_numbers_of_numpy_are_numbers(kind):
    found = checks.check_count("steps", kind(10)), checks.check_finite_number("t1", kind(10))
    assert found == (10, 10.0) and [type(one) for one in found] == [int, float]
    with pytest.raises(ValueError, match="steps="):
        checks.check_count("steps", np.bool_(True))


def test_a_whole_float_counts():
    assert checks.check_count("paths", 1e5) == 100_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_said():
    with pytest.raises(ValueError, match="finds no CUDA device"):
        checks.check_device("cuda")


def test_of_many_names_only_the_nearest_are_listed():
    names = [f"claim-{number}" for number in range(checks.MOST_LISTED + 1)]
    with pytest.raises(ValueError, match="did you mean 'claim-7'") as caught:
        checks.check_choice("--only", "clam-7", names)
    assert str(caught.value).endswith("and 36 others.")
    assert str(caught.value).count("claim-") == 6
    with pytest.raises(ValueError, match=r"'claim-39'\.$"):
        checks.check_choice("--only", "clam-7", names[:-1])

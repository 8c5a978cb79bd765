"""The limits that the speed of simulated paths is compared with simulate the same paths."""

import importlib.util
import math
import sys

import pytest
import torch

from tests.child_process import ROOT


@pytest.fixture(scope="module")
def script():
    path = ROOT / "analysis" / "bench_speed.py"
    spec = importlib.util.spec_from_file_location("bench_speed", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exact(script, steps):
    """Mean and variance after Euler–Maruyama steps from 1."""
    decay = 1 - 0.8 * script.STEP
    noise = 0.25 * script.STEP * (1 - decay ** (2 * steps)) / (1 - decay**2)
    return decay**steps, noise


def agrees(ends, mean, variance):
    """Mean and variance within five standard errors."""
    count = ends.numel()
    gaps = (ends.double().mean() - mean) / math.sqrt(variance / count)
    spread = (ends.double().var() / variance - 1) / math.sqrt(2 / count)
    return abs(float(gaps)) < 5 and abs(float(spread)) < 5


def test_the_c_loop_simulates_the_process(script):
    if not script.HAS_C:
        pytest.skip("there is no gcc")
    loop, steps = script.CLoop(), 64
    assert sys.float_info.min / 2.0 > 0.0  # loading it leaves subnormal numbers as they are
    start = torch.ones(65536, 4)
    ends = loop(start, steps)
    mean, variance = exact(script, steps)
    assert torch.equal(start, torch.ones(65536, 4)) and ends.std() > 0
    assert agrees(ends, mean, variance)
    assert agrees(script.euler_loop(script.OrnsteinUhlenbeck(), start, steps), mean, variance)
    assert not agrees(ends, mean * 1.002, variance) and not agrees(ends, mean, variance * 1.02)
    normals = (ends - mean) / math.sqrt(variance)
    assert abs(float((normals**4).mean()) - 3) < 5 * math.sqrt(96 / ends.numel())
    neighbours = float((normals[1:] * normals[:-1]).mean())
    assert abs(neighbours) < 5 / math.sqrt(ends.numel())


def test_limits_are_rows_of_one_thread_where_they_can_be_measured(script):
    names = [name for race in script.LIMITS for name in race.names]
    assert len(names) == 2 * script.HAS_C + 3 * script.HAS_DIFFRAX
    assert {"ou_compiled_vs_c_loop/float32/1024"} <= set(names) or not script.HAS_C
    assert not set(names) & {name for made in script.jobs("cuda") for name in made}

"""Weights over the updates; values out of range are refused at construction."""

import math

import pytest

from sdewm.jacobian.schedules import Constant, InverseRootDecay, LinearWarmUp


def test_values_over_the_updates():
    assert [Constant(0.3)(u) for u in (0, 10**9)] == [0.3, 0.3]
    assert [LinearWarmUp(2.0, 10)(u) for u in (0, 5, 10, 11)] == [0.0, 1.0, 2.0, 2.0]
    decay = InverseRootDecay(0.5, floor=0.1)
    assert decay(0) == 0.5 and decay(125_000) == 0.1
    assert InverseRootDecay(0.5)(125_000) == pytest.approx(0.5 / math.sqrt(126))
    values = [decay(u) for u in range(0, 100_000, 1000)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(-1.0), "weight=-1.0"),
        (lambda: Constant(math.inf), "weight=inf"),
        (lambda: LinearWarmUp(1.0, 0), "updates=0"),
        (lambda: InverseRootDecay(1.0, updates=0), "updates=0"),
        (lambda: InverseRootDecay(1.0, floor=-0.1), "floor=-0.1"),
        (lambda: InverseRootDecay(0.1, floor=0.2), "at most the weight 0.1"),
    ],
)
def test_out_of_range_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()

"""Differences between batches: rounding is told from a row that depends on the others."""

import pytest
import torch

from sdewm.base import findings
from sdewm.base.findings import batch_dependence, mixed_rows

BINS = torch.linspace(-20, 20, 255, dtype=torch.float64)
BINS = BINS.sign() * BINS.abs().expm1()  # up to 4.9e8, as those of a reward head
WEIGHT = 0.001 * torch.randn(3, 255, generator=torch.Generator().manual_seed(0)).double()
STATES = torch.randn(32, 3, generator=torch.Generator().manual_seed(1)).double()


def almost_untrained(x, mixing=0.0):
    """The mean of bins that nearly cancel; its sum is in another order in a batch of two."""
    terms = torch.softmax(1e-6 * x @ WEIGHT, 1) * BINS + mixing * x.mean(0)[:1] / 255
    return (terms.flip(1) if len(x) == 2 else terms).sum(1)


def test_sums_in_another_order_are_no_dependence_on_the_batch(monkeypatch):
    values = (STATES,)
    assert batch_dependence("reward", almost_untrained, values, largest=False) is None
    monkeypatch.setattr(findings, "OWN", 0)
    found = batch_dependence("reward", almost_untrained, values, largest=False)
    assert found is not None and "in a batch of 2" in found.message


@pytest.mark.parametrize("mixing", [1e-2, 1.0])
def test_a_dependence_above_the_roundings_is_found(mixing):
    def mixes(x):
        return almost_untrained(x, mixing)

    found = batch_dependence("reward", mixes, (STATES,), largest=False)
    assert found is not None and "in a batch of 2" in found.message
    gap = mixed_rows(mixes, (STATES,), (mixes(STATES),))
    assert gap is not None


def test_images_are_not_moved():
    """The change by roundings is that of floating-point arguments; bytes have none."""
    images = torch.arange(32, dtype=torch.uint8).reshape(32, 1)

    def dim(x):
        return x.double()[:, 0] / (1.0 + 1e-6 * (len(x) == 2))

    assert batch_dependence("decoder", dim, (images,), largest=False) is not None


HIDING = {
    "a steep function far from 0": lambda x: (
        -torch.tanh(5 * (x - 1e5)) + 0.1 * torch.tanh(x - 1e5).mean(0)
    ),
    "a jump at the states": lambda x: (x - 1e5).floor() + 0.1 * torch.tanh(x - 1e5).mean(0),
    "another result that changes fast": lambda x: (
        torch.sin(1e9 * x),
        torch.tanh(x - 1e5) + 0.1 * torch.tanh(x - 1e5).mean(0),
    ),
    "a masked entry": lambda x: torch.where(
        torch.arange(3) == 1, -torch.inf, torch.tanh(x - 1e5) + 0.1 * torch.tanh(x - 1e5).mean(0)
    ),
    "a missing entry": lambda x: torch.where(
        torch.arange(3) == 1, torch.nan, torch.tanh(x - 1e5) + 0.1 * torch.tanh(x - 1e5).mean(0)
    ),
    "an entry that is missing in small batches": lambda x: x if len(x) > 2 else x * torch.nan,
    "an entry that is infinite in small batches": lambda x: x / (len(x) > 2),
}


@pytest.mark.parametrize("name", HIDING)
def test_nothing_hides_a_mean_over_the_batch(name):
    states = (STATES + 1e5,)
    for dtype in (torch.float64, torch.float32):
        given = tuple(one.to(dtype) for one in states)
        assert batch_dependence("f", HIDING[name], given, largest=False) is not None
        if "small" not in name:
            value = HIDING[name](*given)
            parts = value if isinstance(value, tuple) else (value,)
            assert mixed_rows(HIDING[name], given, parts) is not None

"""Reduction of symbols."""

import torch

from sdewm.certificates.enclosure.reduction import reduced
from tests.certificates.enclosure.members import Draw, random_set


def test_a_reduced_set_contains_the_set():
    """Every symbol is kept as it is, or its column is in the box; nothing else changes."""
    values = random_set(Draw(0), (1, 5)).with_symbols(40)
    rest = Draw(1).normal(1, 5, 40)
    values = type(values).of((*values.parts[:3], rest), values.box)
    found = reduced(values, 12)
    assert found.symbols == 12
    kept = (rest[0].T[:, None] == found.rest[0].T[None]).all(-1)  # (40, 12)
    assert kept.any(0).all()
    boxed = rest[0].T[~kept.any(1)].abs().sum(0)
    assert (found.box[0] >= values.box[0] + boxed).all()
    assert torch.allclose(found.box[0], values.box[0] + boxed)
    assert all(torch.equal(a, b) for a, b in zip(found.parts[:3], values.parts[:3], strict=True))


def test_columns_of_a_single_number_are_boxed_first():
    """They lose nothing by it."""
    values = random_set(Draw(2), (1, 3))
    rest = torch.tensor([[[9.0, 0.0, 1.0], [0.0, 0.1, 1.0], [0.0, 0.0, 1.0]]]).double()
    values = type(values).of((*values.parts[:3], rest), values.box)
    assert torch.equal(reduced(values, 1).rest[..., 0], torch.ones(1, 3).double())


def test_a_set_with_few_symbols_stays():
    values = random_set(Draw(3), (1, 3))
    assert reduced(values, 4) is values

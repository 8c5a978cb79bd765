"""Attacks on observations: the known worst case, the box, and strength 0."""

import pytest
import torch

from sdewm.perturbations.adversarial import AdversarialPerturbation
from tests.model.small_models import generator

SLOPE = torch.tensor([1.0, -2.0, 0.5])


def signs_of(clean):
    return torch.randn(clean.shape, generator=generator()).sign()


def linear(x):
    return x @ SLOPE


def bowl(x):
    """Its largest value on a box around 0 is at the corners; the slope at 0 vanishes."""
    return x.square().sum(1)


@pytest.mark.parametrize("name", ["fgsm-posterior", "pgd-value"])
def test_of_a_linear_damage_the_corner_of_the_box_is_found(name):
    clean = torch.zeros(2, 3)
    found = AdversarialPerturbation(name, 0.1).attack(clean, linear, signs_of(clean))
    torch.testing.assert_close(found, (0.1 * SLOPE.sign()).expand(2, -1))


@pytest.mark.parametrize("name", ["fgsm-posterior", "pgd-posterior"])
def test_a_place_without_slope_is_left(name):
    found = AdversarialPerturbation(name, 0.1).attack(
        torch.zeros(1, 3), bowl, signs_of(torch.zeros(1, 3))
    )
    assert float(bowl(found)) == pytest.approx(3 * 0.01)


def test_pgd_does_at_least_what_fgsm_does_and_neither_leaves_the_box():
    clean = torch.randn(8, 3, generator=generator())

    def damage(x):
        return torch.sin(5 * x).sum(1)

    did = {}
    for name in ("fgsm-value", "pgd-value"):
        found = AdversarialPerturbation(name, 0.5).attack(clean, damage, signs_of(clean))
        assert float((found - clean).abs().max()) <= 0.5 + 1e-6
        did[name] = damage(found)
        assert bool((did[name] >= damage(clean)).all())
    assert float(did["pgd-value"].sum()) > float(did["fgsm-value"].sum())


def test_images_stay_in_their_range():
    clean = torch.full((1, 2, 2, 3), 0.95)
    found = AdversarialPerturbation("fgsm-value", 0.1).attack(
        clean, lambda x: x.sum((1, 2, 3)), signs_of(clean)
    )
    torch.testing.assert_close(found, torch.ones_like(clean))


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match="strength=-0.1: fgsm-value takes a number of at least 0"):
        AdversarialPerturbation("fgsm-value", -0.1)

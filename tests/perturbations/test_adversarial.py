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


def ladder(clean):
    """Least at whole levels, and of these the less the farther: what is not shown is the best."""

    def damage(x):
        levels = 255 * (x - clean)
        return (torch.sin(2 * torch.pi * (levels - 0.25)) - 0.1 * levels**2).sum((1, 2, 3))

    return damage


@pytest.mark.parametrize("name", ["fgsm-value", "pgd-value"])
@pytest.mark.parametrize("strength", [0.05, 0.01, 0.0041, 3 / 255])
def test_images_are_of_8_bits_within_the_ball(name, strength):
    clean = torch.randint(0, 256, (2, 4, 4, 3), generator=generator()).float() / 255
    attack = AdversarialPerturbation(name, strength)
    found = attack.attack(clean, lambda x: x.sum((1, 2, 3)), signs_of(clean))
    levels = 255 * found.double()
    assert float((levels - levels.round()).abs().max()) < 1e-4
    moved = (levels - 255 * clean.double()).round()[clean < 0.9]
    assert moved.unique().tolist() == [int(255 * strength + 1e-9)]  # and not 13, 3, 1 and 3
    vectors = clean.flatten(1)  # negative control: the whole strength where all can be shown
    free = attack.attack(vectors, lambda x: x.sum(1), signs_of(vectors))
    torch.testing.assert_close(free - vectors, torch.full_like(vectors, strength))


def test_the_best_of_images_is_the_best_of_those_that_are_shown():
    clean = torch.full((1, 2, 2, 3), 0.4)
    attack, damage = AdversarialPerturbation("pgd-value", 3 / 255), ladder(clean)
    torch.testing.assert_close(attack.attack(clean, damage, signs_of(clean)), clean)
    vectors = clean.flatten(1)  # negative control: between levels is better, but cannot be shown

    def flat(x):
        return damage(x.view_as(clean))

    free = attack.attack(vectors, flat, signs_of(vectors))
    assert float(flat(free)) > float(damage(clean)) + 10


def test_a_change_that_images_cannot_show_is_refused_for_images():
    small, shown = (AdversarialPerturbation("fgsm-value", s) for s in (0.0039, 0.004))
    with pytest.raises(ValueError, match="strength=0.0039: .* 0 or at least 1/255 ≈ 0.00392"):
        small.check_fits("images")
    small.check_fits("vectors")  # negative controls
    shown.check_fits("images")
    AdversarialPerturbation("fgsm-value", 0.0).check_fits("images")


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match="strength=-0.1: fgsm-value takes a number of at least 0"):
        AdversarialPerturbation("fgsm-value", -0.1)

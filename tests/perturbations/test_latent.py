"""Errors of the latent state: their mean, variance and tails."""

import math

import pytest
import torch

from sdewm.perturbations.latent import LatentPerturbation
from sdewm.perturbations.parsing import parse_perturbations
from tests.model.small_models import generator

SIZE = 40_000
STOCH, DEVIATION = torch.full((SIZE,), 2.0), torch.full((SIZE,), 0.5)


def errors(name, strength=0.2):
    return LatentPerturbation(name, strength).error(STOCH, DEVIATION, generator())


@pytest.mark.parametrize("name", ["latent-noise", "latent-heavy", "latent-drift"])
def test_all_have_the_same_energy_and_no_mean_over_draws(name):
    drawn = errors(name).double()
    assert float(drawn.mean()) == pytest.approx(0, abs=5 * 0.1 / math.sqrt(SIZE))
    assert float(drawn.std()) == pytest.approx(0.2 * 0.5, rel=0.1)


def test_their_laws_differ():
    noise, heavy, drift = (
        errors(f"latent-{name}").double() for name in ("noise", "heavy", "drift")
    )
    assert sorted(drift.abs().unique().tolist()) == pytest.approx([0.1])
    for drawn, fraction in ((noise, 6e-5), (heavy, 0.003)):  # beyond four standard deviations
        share = float((drawn.abs() > 0.4).double().mean())
        assert fraction / 3 < share < 3 * fraction
    scale = errors("latent-scale").double()
    assert float(scale.std()) == pytest.approx(0.2 * 2.0, rel=0.05)  # of stoch, not of its spread


def test_only_the_drift_is_held_for_an_episode():
    assert [LatentPerturbation(f"latent-{n}", 1.0).every_step for n in ("noise", "drift")] == [
        True,
        False,
    ]


@pytest.mark.parametrize("word", ["latent-noise:-1", "latent-nois:1", "latent-noise"])
def test_wrong_words_are_refused(word):
    with pytest.raises(ValueError):
        parse_perturbations(word)

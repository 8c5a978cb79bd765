"""One model's latent against another's: coordinates do not count, what is missing does."""

import numpy as np
import pytest
import torch

from sdewm.latent_sde.models import StepModel
from sdewm.model_theorems.reference_error import measure_reference_error
from tests.model_theorems.test_representation_error import MIXING, recorded

TURN = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)


def model(turned=False, blind=False, curved=0.0):
    """z' = M o' + 1/2, seen in turned coordinates, or without the second component."""

    def encode(state, observation):
        mean = observation @ MIXING.T + 0.5 + curved * observation[:, :2] ** 2
        if blind:
            mean = mean * torch.tensor([1.0, 0.0])
        mean = mean @ TURN if turned else mean
        return mean, torch.full_like(mean, 0.01)

    def step(state, action, noise):
        return torch.cat([0.0 * state[:, :2], 0.01 * noise], 1)

    return StepModel(step, state_size=4, noise_size=2, encoder=encode, latent=slice(2, 4))


def test_the_same_latent_in_other_coordinates_is_no_error():
    found = measure_reference_error(model(), model(turned=True), recorded(20), ridge=1e-9)
    assert np.abs(found.shift).max() < 0.1  # the reference is a sample, of deviation 0.01
    assert found.draws == 1 and not found.same_driver.any()


def test_what_the_reference_does_not_know_is_fluctuation_of_its_size():
    episodes = recorded(20)
    found = measure_reference_error(model(), model(blind=True), episodes, ridge=1e-9)
    second = (episodes.observations.double() @ MIXING.T)[..., 1].var().item()
    missing = found.variance.mean((0, 1))
    assert missing[0] < 0.01 and missing[1] == pytest.approx(second, rel=0.1)
    with pytest.raises(ValueError, match="folds=1"):
        measure_reference_error(model(), model(), episodes, folds=1)

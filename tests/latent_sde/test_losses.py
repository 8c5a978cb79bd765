"""Losses as functions of the system's state: the model's own, for the targets of each episode."""

import pytest
import torch

from sdewm.base.derivative_checks import check_derivatives
from sdewm.base.taylor import record
from sdewm.latent_sde.losses import reconstruction_loss, reward_loss, value
from sdewm.latent_sde.models import StepModel
from sdewm.latent_sde.system import as_system
from sdewm.model.heads import TwoHotHead
from sdewm.model.networks import initialise_all
from tests.latent_sde.test_system import EPISODES, flat, inputs
from tests.model.small_models import A, D, generator, make_model, randn, random_state, shake


def made():
    model = make_model("gaussian")
    system = as_system(model, actions=inputs()[0])
    critic = TwoHotHead(21, 8, 1, 21, "none", "elu")
    initialise_all(critic, generator())
    return model, system, shake(critic, size=0.3), system.start(flat(random_state(model.rssm, 3)))


def test_losses_are_those_of_the_model_at_the_targets_of_each_episode():
    model, system, critic, start = made()
    observations, rewards = randn(EPISODES, D, seed=4), randn(EPISODES, seed=5)
    rows = torch.cat([start, start.flip(0)])
    which = torch.tensor([0, 1, 2, 2, 1, 0])
    features = rows[:, :-1]
    seen = model.decoder.loss(features, observations[which])
    assert torch.allclose(reconstruction_loss(system, observations)(rows), seen)
    gap = model.reward.mean(model.reward(features)) - rewards[which]
    assert torch.allclose(reward_loss(system, rewards)(rows), gap**2)
    wide = critic.double()
    assert torch.allclose(value(system, critic)(rows), wide.mean(wide(features)))


def test_their_derivatives_agree_with_central_differences():
    _, system, critic, start = made()
    observations, rewards = randn(EPISODES, D, seed=4), randn(EPISODES, seed=5)
    for loss in (
        reconstruction_loss(system, observations),
        reward_loss(system, rewards),
        value(system, critic),
    ):
        recorded = record(lambda y, loss=loss: (loss(y),), (start,))
        check_derivatives("the loss", recorded, (start,))


def test_targets_and_models_that_do_not_fit_are_refused():
    _, system, _, _ = made()
    with pytest.raises(ValueError, match="observations of 2 episodes: expected 3"):
        reconstruction_loss(system, randn(2, D))
    with pytest.raises(ValueError, match="rewards of 1 episodes: expected 3"):
        reward_loss(system, randn(1))
    foreign = StepModel(lambda x, a, v: x + a + v, state_size=A, noise_size=A)
    other = as_system(foreign, actions=torch.ones(2, A))
    with pytest.raises(ValueError, match="StepModel has no reward: pass reward="):
        reward_loss(other, randn(1))

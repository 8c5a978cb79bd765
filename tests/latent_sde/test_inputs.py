"""Recorded pictures are encoded once, and again only if they or the model are others."""

import pytest
import torch

import sdewm
from sdewm.latent_sde.inputs import embed_by_time, episode_inputs, recorded_embeds
from sdewm.latent_sde.model_contract import require_model
from sdewm.latent_sde.models import RSSMModel
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.report.representation_error import IMAGES, measured_rows
from tests.model.small_models import A, make_model, randn

SHAPE, COUNT, STEPS, DRAWS = (64, 64, 3), 2, 3, 2


def pictures():
    generator = torch.Generator().manual_seed(0)
    seen = torch.randint(0, 256, (COUNT, STEPS, *SHAPE), dtype=torch.uint8, generator=generator)
    actions = torch.tanh(randn(COUNT, STEPS, A, seed=1))
    return sdewm.Episodes(seen, actions, randn(COUNT, STEPS, seed=2))


@pytest.fixture(name="counted")
def counted_model(monkeypatch):
    """A model that has been checked, and the numbers of pictures that its encoder is given."""
    model, given = RSSMModel(make_model("gaussian", shape=SHAPE)), []
    sdewm.measure_transition_error(model, pictures())
    sdewm.measure_representation_error(model, pictures(), lambda x, g: 255 - x, draws=2)
    encoder = model.world_model.encoder
    encoder.register_forward_pre_hook(lambda module, inputs: given.append(len(inputs[0])))
    return model, given


def test_ten_sizes_of_a_perturbation_encode_the_clean_pictures_once(counted):
    model, given = counted
    episodes = pictures()
    episodes.observations[0, 0] += 1  # others than those of the check
    sdewm.measure_representation_error(
        model, episodes, ObservationPerturbation("noise", 0.1), draws=DRAWS
    )
    given.clear()
    for k in range(10):
        noise = ObservationPerturbation("noise", 0.01 * (k + 1))
        sdewm.measure_representation_error(model, episodes, noise, draws=DRAWS)
    assert sum(given) == 10 * DRAWS * COUNT * STEPS  # the perturbed copies


def test_the_analysis_of_any_model_encodes_the_clean_pictures_once(counted):
    model, given = counted

    class Foreign:
        def __getattr__(self, name):
            return getattr(model, name)

    episodes = pictures()
    copies = sum(map(len, IMAGES.values())) * DRAWS * COUNT * STEPS
    require_model(model, episode_inputs(episodes))
    given.clear()
    measured_rows(model, episodes, DRAWS, 0)
    assert sum(given) == copies  # the clean ones were encoded by the fixture
    given.clear()
    require_model(Foreign(), episode_inputs(episodes))
    check = sum(given)  # of a model that others may have changed
    given.clear()
    measured_rows(Foreign(), episodes, DRAWS, 0)
    assert sum(given) == copies + COUNT * STEPS + check


def test_an_expansion_encodes_the_clean_pictures_once(counted):
    model, given = counted
    start, copies = 0, 3
    settings = {"start": start, "horizon": STEPS - 1, "copies": copies, "paths": 2, "draws": DRAWS}
    loss = lambda system, o, r: lambda y: y[:, 0] ** 2  # noqa: E731
    episodes = pictures()
    episodes.observations[0, 0] += 1
    noise = ObservationPerturbation("noise", 0.1)
    sdewm.expand_on_model(model, episodes, noise, loss, **settings)
    own = sum(given)
    given.clear()
    sdewm.expand_on_model(model, episodes, noise, loss, **settings)
    perturbed = COUNT * (copies * (STEPS - 1) + DRAWS * STEPS)
    assert sum(given) == perturbed
    assert own >= perturbed + COUNT * STEPS


def test_other_pictures_and_other_models_are_encoded_anew():
    episodes = pictures()
    model = RSSMModel(make_model("gaussian", shape=SHAPE))
    first = recorded_embeds(model, episodes.observations)
    assert recorded_embeds(model, episodes.observations.clone()) is first
    torch.testing.assert_close(first, embed_by_time(model, episodes.observations), rtol=0, atol=0)
    episodes.observations[0, 0, 0, 0, 0] ^= 1  # one bit, in place
    second = recorded_embeds(model, episodes.observations)
    torch.testing.assert_close(second, embed_by_time(model, episodes.observations), rtol=0, atol=0)
    assert not torch.equal(first, second)
    other = RSSMModel(make_model("gaussian", shape=SHAPE, seed=1))
    assert not torch.equal(recorded_embeds(other, episodes.observations), second)

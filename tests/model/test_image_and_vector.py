"""Observations of an image and a vector: the model of the pair against the models of its parts."""

import pytest
import torch

from sdewm.model.image_and_vector import PIXELS, image_and_vector, split
from tests.model.small_models import F64, generator, make_model, make_rows, noise_for, randn

D = 5
BATCH, LENGTH = 2, 3


def both(**changes):
    return make_model(shape=(PIXELS + D,), both=True, image_encoder="patches", **changes)


def rows_of_both():
    image = torch.randint(256, (BATCH, LENGTH, 64, 64, 3), generator=generator(1)).to(torch.uint8)
    vector = randn(BATCH, LENGTH, D, seed=2)
    joined = torch.cat([image.double().flatten(-3) / 255, vector], -1)
    return make_rows(BATCH, LENGTH)._replace(observation=joined), image, vector


def test_the_embed_is_that_of_both_parts():
    model, (rows, image, vector) = both(), rows_of_both()
    encoder = model.encoder
    expected = torch.cat([encoder.image(image), encoder.vector(vector)], -1)
    assert torch.allclose(encoder(rows.observation), expected, rtol=1e-5, atol=1e-7)
    assert expected.shape == (BATCH, LENGTH, encoder.size)


def test_the_loss_is_the_sum_of_both_and_the_prediction_has_the_units_of_the_observation():
    model, (rows, image, vector) = both(), rows_of_both()
    features = randn(BATCH, LENGTH, model.rssm.features_size, seed=3)
    decoder = model.decoder
    expected = decoder.image.loss(features, image) + decoder.vector.loss(features, vector)
    assert torch.allclose(decoder.loss(features, rows.observation), expected, rtol=1e-6)
    predicted = decoder.predict(features)
    pictures, vectors = split(predicted)
    assert torch.allclose(pictures / 255, decoder.image.predict(features), rtol=1e-9)
    assert torch.equal(vectors, decoder.vector.predict(features))
    assert predicted.shape == rows.observation.shape and predicted.dtype == F64


def test_every_loss_of_the_world_model_reaches_both_encoders():
    model, (rows, _, _) = both(), rows_of_both()
    seen = model.observe(rows, noise_for(model.rssm, BATCH, LENGTH))
    model.losses(rows, seen)["reconstruction"].backward()
    for part in (model.encoder.image, model.encoder.vector):
        assert all(weight.grad.abs().sum() > 0 for weight in part.parameters())


@pytest.mark.parametrize("shape", [(PIXELS,), (64, 64, 3), (4,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="above 12288"):
        image_and_vector(shape)

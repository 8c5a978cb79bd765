"""Encoders and decoders: shapes, scaling of observations, losses against plain sums."""

import pytest
import torch
from torch import nn

from sdewm.model.distributions import symexp, symlog
from sdewm.model.encoders import VectorDecoder, VectorEncoder
from sdewm.model.image_layers import (
    PatchDecoder,
    PatchEncoder,
    PooledEncoder,
    StridedDecoder,
    StridedEncoder,
    UpsampledDecoder,
    image_patches,
    image_planes,
)
from sdewm.model.networks import initialise_all
from tests.model.small_models import D, generator, randn, shake

DETER, STOCH, DEPTH = 16, 12, 2
DECODERS = {
    "upsampled": lambda: UpsampledDecoder(DETER, STOCH, DEPTH, 8, 4, "rms", "silu"),
    "strided": lambda: StridedDecoder(DETER + STOCH, DEPTH, "none", "elu"),
    "patches": lambda: PatchDecoder(DETER + STOCH, DEPTH, "layer", "silu"),
}
ENCODERS = {
    "pooled": (lambda: PooledEncoder(DEPTH, "rms", "silu"), 64 * DEPTH),
    "strided": (lambda: StridedEncoder(DEPTH, "none", "elu"), 32 * DEPTH),
    "patches": (lambda: PatchEncoder(DEPTH, "layer", "silu"), 32 * DEPTH),
}


def ready(module):
    initialise_all(module, generator())
    return shake(module, size=0.02)


def images(*shape, seed=0):
    return torch.randint(0, 256, (*shape, 64, 64, 3), dtype=torch.uint8, generator=generator(seed))


def convolutions(module):
    """(inputs, outputs, kernel, stride) of every convolution in turn."""
    return [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]


@pytest.mark.parametrize("name", [*ENCODERS])
def test_image_encoders_treat_images_one_by_one(name):
    make, size = ENCODERS[name]
    encoder, batch = ready(make()), images(2, 3)
    embeds = encoder(batch)
    assert embeds.shape == (2, 3, size) == (2, 3, encoder.size)
    assert torch.allclose(embeds[1, 2], encoder(batch[1, 2][None])[0], atol=1e-5)
    assert not torch.allclose(embeds[1, 2], embeds[0, 2], atol=1e-3)


def test_convolutions_are_those_of_the_tables():
    pooled, strided = ENCODERS["pooled"][0](), ENCODERS["strided"][0]()
    assert convolutions(pooled) == [(3, 4, 5, 1), (4, 6, 5, 1), (6, 8, 5, 1), (8, 8, 5, 1)]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in pooled.modules()) == 4
    assert convolutions(strided) == [(3, 2, 4, 2), (2, 4, 4, 2), (4, 8, 4, 2), (8, 16, 4, 2)]
    up, down = DECODERS["upsampled"](), DECODERS["strided"]()
    assert convolutions(up) == [(8, 8, 5, 1), (8, 6, 5, 1), (6, 4, 5, 1), (4, 3, 5, 1)]
    assert convolutions(down) == [(64, 8, 5, 2), (8, 4, 5, 2), (4, 2, 6, 2), (2, 3, 6, 2)]
    kinds = [type(layer).__name__ for layer in pooled.stages[:4]]
    assert kinds == ["Conv2d", "MaxPool2d", "ChannelNorm", "SiLU"]


def test_images_are_scaled_to_plus_minus_one_half_with_channels_first():
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    image[0, 5, 7, 2] = 255
    planes = image_planes(image)
    assert planes.shape == (1, 3, 64, 64)
    assert planes[0, 2, 5, 7] == 0.5 and planes.sum() == -0.5 * (3 * 64 * 64 - 1) + 0.5


@pytest.mark.parametrize(
    ("name", "factor"), [("upsampled", 1.0), ("strided", 0.5), ("patches", 0.5)]
)
def test_image_loss_is_the_sum_over_pixels_of_the_prediction_error(name, factor):
    decoder, target = ready(DECODERS[name]()), images(2, 3)
    features = torch.randn(2, 3, DETER + STOCH, generator=generator())
    predicted = decoder.predict(features)
    assert predicted.shape == (2, 3, 64, 64, 3)
    slow = factor * ((predicted - target.float() / 255) ** 2).sum((-3, -2, -1))
    assert torch.allclose(decoder.loss(features, target), slow, rtol=1e-5)
    assert not torch.allclose(decoder.loss(features, target.flip(1)), slow, rtol=1e-5)


@pytest.mark.parametrize("name", [*DECODERS])
def test_image_decoders_depend_on_both_parts_of_the_state(name):
    decoder = ready(DECODERS[name]())
    features = torch.randn(1, DETER + STOCH, generator=generator()).requires_grad_()
    slope = torch.autograd.grad(decoder.predict(features).square().sum(), features)[0]
    assert (slope != 0).all()


def test_upsampled_prediction_lies_between_0_and_1_and_starts_from_a_sum():
    decoder = ready(DECODERS["upsampled"]())
    state = torch.randn(2, DETER + STOCH, generator=generator())
    x = decoder.of_deter(state[:, :DETER]) + decoder.of_stoch(state[:, DETER:])
    slow = torch.sigmoid(decoder.stages(decoder.start(x.reshape(2, 4 * DEPTH, 4, 4))))
    assert torch.allclose(decoder.planes(state), slow) and slow.min() > 0 and slow.max() < 1


def test_patches_are_squares_of_the_image_and_come_back_in_place():
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    image[0, 8 + 5, 16 + 7, 2] = 255  # in the third patch of the second row of patches
    patches = image_patches(image)
    assert patches.shape == (1, 64, 192)
    assert patches[0, 8 + 2, (5 * 8 + 7) * 3 + 2] == 0.5 and (patches == 0.5).sum() == 1
    assert (patches == -0.5).sum() == 64 * 192 - 1

    decoder = DECODERS["patches"]()
    with torch.no_grad():
        decoder.forward = lambda features: image_patches(images(2))
        assert torch.allclose(decoder.predict(torch.zeros(2, 1)), images(2).float() / 255)


@pytest.mark.parametrize("name", ["strided", "patches"])
def test_untrained_decoders_predict_grey(name):
    decoder = DECODERS[name]()
    for weight in decoder.parameters():
        nn.init.zeros_(weight)
    assert (decoder.predict(torch.ones(1, DETER + STOCH)) == 0.5).all()


@pytest.mark.parametrize("inner", [True, False])
def test_vector_encoder_reads_symlog_of_the_observation(inner):
    encoder = ready(VectorEncoder(D, 8, 2, inner, "rms", "silu").double())
    x = 10 * randn(5, D)
    expected = encoder.layers(symlog(x) if inner else x)
    assert torch.equal(encoder(x), expected) and encoder.size == 8
    assert not torch.allclose(encoder(x), encoder.layers(x if inner else symlog(x)))


@pytest.mark.parametrize("inner", [True, False])
def test_vector_loss_is_a_squared_error_summed_over_components(inner):
    decoder = ready(VectorDecoder(6, D, 8, 2, inner, "rms", "silu"))
    features = torch.randn(5, 6, generator=generator())
    x = 3 * torch.randn(5, D, generator=generator(1))
    out = decoder.layers(features)
    slow = ((symlog(x) - out) ** 2).sum(-1) if inner else 0.5 * ((x - out) ** 2).sum(-1)
    assert torch.allclose(decoder.loss(features, x), slow, rtol=1e-5)
    assert torch.equal(decoder.predict(features), symexp(out) if inner else out)
    best = decoder.loss(features, decoder.predict(features))
    assert best.max() < 1e-9


def test_seventeen_numbers_are_no_observation_for_an_image_encoder():
    with pytest.raises((RuntimeError, IndexError)):
        ready(ENCODERS["pooled"][0]())(torch.zeros(17))


@pytest.mark.parametrize("name", ENCODERS)
def test_image_encoders_work_in_the_precision_of_their_weights(name):
    make, _ = ENCODERS[name]
    encoder = ready(make())
    pixels = images(2)
    single, double = encoder(pixels), encoder.double()(pixels)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert torch.allclose(single.double(), double, atol=1e-4)

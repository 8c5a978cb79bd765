"""Tiny models, batches and frozen noise that the tests of the model share."""

from dataclasses import replace

import torch

from sdewm.model.networks import initialise_all
from sdewm.model.rssm import RSSM, RSSMConfig, State
from sdewm.model.world_model import ReplayRows, WorldModel, WorldModelConfig

F64 = torch.float64
A, E, D = 3, 5, 4  # sizes of action, embed, observation vector
BATCH, LENGTH = 2, 6

CATEGORICAL = RSSMConfig(deter=16, hidden=8, blocks=4, groups=3, classes=4)
GAUSSIAN = replace(CATEGORICAL, cell="gru", latent="gaussian", gaussian_size=5, prior_layers=1)
LATENTS = {"categorical": CATEGORICAL, "gaussian": GAUSSIAN}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=generator(seed))


def make_rssm(latent="categorical", seed=0, **changes):
    """An RSSM in float64 whose weights are all away from zero, biases included."""
    norm, activation = ("rms", "silu") if latent == "categorical" else ("none", "elu")
    rssm = RSSM(replace(LATENTS[latent], **changes), A, E, norm, activation)
    initialise_all(rssm, generator(seed))
    return shake(rssm.double(), seed)


def shake(module, seed=0, size=0.1):
    """Add noise to every weight: no zero biases, no equal logits."""
    source = generator(seed + 1)
    with torch.no_grad():
        for weight in module.parameters():
            weight += size * torch.randn(weight.shape, generator=source)
    return module


def make_model(latent="categorical", shape=(D,), seed=0, both=False, **changes):
    """A whole world model in float64; `changes` go to its configuration."""
    settings = {"rssm": LATENTS[latent], "units": 8, "vector_layers": 1, "bins": 21}
    config = WorldModelConfig(**(settings | {"image_depth": 2} | changes))
    model = WorldModel(config, shape, A, generator(seed), both).double()
    return shake(model, seed)


def make_rows(batch=BATCH, length=LENGTH, seed=0, firsts=()):
    """Random rows; `firsts` are pairs (sequence, row) where an episode starts."""
    is_first = torch.zeros(batch, length, dtype=torch.bool)
    is_last = torch.zeros_like(is_first)
    for b, t in firsts:
        is_first[b, t] = True
        if t:
            is_last[b, t - 1] = True
    return ReplayRows(
        randn(batch, length, D, seed=seed + 10),
        torch.tanh(randn(batch, length, A, seed=seed + 20)) * ~is_first[..., None],
        randn(batch, length, seed=seed + 30) * ~is_first,
        is_first,
        is_last,
        is_last & (torch.arange(batch)[:, None] % 2 == 0),  # every other sequence's ends are final
    )


def noise_for(rssm, *shape, seed=3):
    return rssm.latent.draw_noise(shape, generator(seed)).double()


def random_state(rssm, count, seed=5):
    """States that the posterior could have: deter in (−1, 1), stoch a sample."""
    stats = rssm.prior(torch.tanh(randn(count, rssm.deter_size, seed=seed + 1)))
    stoch = rssm.latent.sample(stats, noise_for(rssm, count, seed=seed)).detach()
    return State(torch.tanh(randn(count, rssm.deter_size, seed=seed)), stoch)


def gradient_sum(module):
    """Σ|gradient| over all weights; 0 exactly if nothing reached the module."""
    return sum(
        float(weight.grad.abs().sum()) for weight in module.parameters() if weight.grad is not None
    )

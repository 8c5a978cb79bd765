"""Open-loop predictions made by hand, whose errors in every metric are known."""

import numpy as np

from sdewm.open_loop.predictions import OpenLoop, Predictions
from sdewm.open_loop.training_rows import TrainingRows

E, H, F, N, T, CONTEXT = 10, 12, 3, 6, 30, 4
READ = np.array([[1.0, 0.0], [0.0, 2.0], [0.5, -1.0]])  # vectors are linear in the latents
SHIFT = np.array([0.4, -0.3, 0.2])


def made(offsets=(1.0, -1.0), shape="vector", growth=None, seed=0):
    """Latents of sample s are the true ones + offset_s · growth_k · SHIFT; vectors are read off.

    One-step predictions are off by a tenth of that at k = 1. Images are constant in space: the
    first latent, squashed.
    """
    random = np.random.default_rng(seed)
    growth = np.ones(H) if growth is None else growth
    samples = len(offsets)
    latents = random.normal(size=(E, CONTEXT + H, F))
    rewards = latents[..., 0] ** 2
    kl = random.exponential(size=(3, samples, E, H))
    true = np.broadcast_to(latents[:, CONTEXT:], (samples, E, H, F))
    moved = np.asarray(offsets)[:, None, None, None] * SHIFT

    def predictions(z, divergence):
        return Predictions(observe(z, shape), z[..., 0] ** 2, z, divergence)

    found = OpenLoop(
        CONTEXT,
        observe(true[0], shape),
        rewards[:, CONTEXT:],
        true,
        observe(latents[:, CONTEXT - 1], shape),
        rewards[:, CONTEXT - 1],
        np.broadcast_to(latents[:, CONTEXT - 1], (samples, E, F)),
        predictions(true + moved * growth[:, None], kl[0]),
        predictions(true + 0.1 * moved, kl[1]),
        kl[2],
    )
    seen = random.normal(size=(N, T, F))
    recorded = observe(seen, shape)
    if shape == "image":
        recorded = (255 * recorded).round().astype(np.uint8)
    physics = seen @ READ if shape == "vector" else None
    return found, TrainingRows(recorded, seen, seen[..., 0] ** 2, physics)


def observe(latents, shape):
    if shape == "vector":
        return latents @ READ
    grey = 1 / (1 + np.exp(-latents[..., :1]))
    ramp = np.linspace(0.5, 1, 12)[:, None, None] * np.ones((12, 12, 3))
    return grey[..., None, None] * ramp

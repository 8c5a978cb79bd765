"""Tail index of latent errors and of the noise of gradients (arXiv 2006.06293).

Multiplicative noise in a recursion gives stationary laws with P(|X| > x) ~ x^{−α}. With α ≤ 2 the
variance is infinite, and a small-noise expansion of second order has no terms. Hill's estimator of
α, dimensionless, from the norms of

    latent errors     e = m(o + ξ) − m(o), the shift of the posterior mean under observation noise ξ
                      of standard deviation 0.1, over the rows of one window of each test episode;
    gradient noise    g_B − ḡ, the gradient of the training loss of a batch of B sequences less the
                      mean over all batches, at fixed weights. Batches are disjoint. A batch of 2 B
                      is two batches of B, so that all sizes see the same sequences.

Hill's estimate rests on the k = ⌊√N⌋ largest norms and has a standard error of α/√k: about a
quarter of α for the 240 batches of 8, two fifths for the 60 batches of 32. Its bias depends on k:
for sums of Pareto numbers of index 3 the means are 3.2, 3.8 and 4.8 at the three sizes. Runs may be
compared at one size; sizes may not be compared with each other.
"""

from __future__ import annotations

from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from sdewm.data.dataset import read_dataset
from sdewm.data.recorded_episodes import Episodes
from sdewm.model.world_model import ReplayRows
from sdewm.related.filtered import filtered
from sdewm.related.quantity import Quantity
from sdewm.related.training_loss import TrainingLoss, replay_rows
from sdewm.robustness.statistics import hill_index
from sdewm.study.end_points import Measurement

NAME, PAPER = "heavy_tails", "2006.06293"
NOISE, LENGTH, SIZES, BATCHES = 0.1, 32, (8, 16, 32), 256  # batches of the smallest size
SMALLEST, AT_ONCE = SIZES[0], 32  # batches differentiated together


def tail_index(vectors: Tensor, largest: int | None = None) -> float:
    """Hill's α of the norms of vectors (N, D), from the k largest; None: k = ⌊√N⌋.

    >>> generator = torch.Generator().manual_seed(0)
    >>> directions = torch.nn.functional.normalize(
    ...     torch.randn(10000, 3, generator=generator, dtype=torch.float64)
    ... )
    >>> sizes = torch.rand(10000, 1, generator=generator, dtype=torch.float64) ** (-1 / 3)
    >>> round(tail_index(sizes * directions, 1000), 1)  # P(size > x) = x⁻³
    3.1
    """
    return hill_index(vectors.norm(dim=1).numpy(), largest)[0]


def gradient_noise(gradients: Tensor, merged: int) -> Tensor:
    """g_B − ḡ of batches made of `merged` smaller ones: (N, P) -> (N // merged, P).

    >>> gradient_noise(torch.tensor([[1.0], [3.0], [5.0], [7.0]]), 2)
    tensor([[-2.],
            [ 2.]])
    """
    batches = gradients.unflatten(0, (-1, merged)).mean(1)
    return batches - batches.mean(0)


def batch_gradients(given: Measurement) -> Tensor:
    """Gradients of the training loss of disjoint batches of the smallest size: (N, P).

    N is a multiple of 4, so that batches of 32 can be made of them.
    """
    rows, whole = sequences(given), SMALLEST * SIZES[-1] // SIZES[0]
    generator = torch.Generator().manual_seed(given.seed)
    order = torch.randperm(len(rows.reward), generator=generator)[: BATCHES * SMALLEST]
    order = order[: len(order) // whole * whole]
    noise = given.model.draw_noise((len(order), LENGTH), generator)
    loss = TrainingLoss(given.model.world_model, stop_gradients=True)

    def of_weights(weights: dict[str, Tensor], rows: ReplayRows, noise: Tensor) -> Tensor:
        return functional_call(loss, weights, (rows, noise))

    grouped = [part.unflatten(0, (-1, SMALLEST)) for part in (*(x[order] for x in rows), noise)]
    found = []
    for some in zip(*(part.split(AT_ONCE) for part in grouped), strict=True):
        batch = ReplayRows(*some[:-1])
        gradients = vmap(grad(of_weights), (None, 0, 0))(loss.weights(), batch, some[-1])
        found.append(torch.cat([part.flatten(1) for part in gradients.values()], 1))
    return torch.cat(found)


def sequences(given: Measurement) -> ReplayRows:
    """All disjoint sequences of `LENGTH` rows of the test episodes: (N, T, …)."""
    if given.data is None:
        raise ValueError("test_data: none was given.")
    parts: dict[str, list[Tensor]] = {"observation": [], "previous_action": [], "reward": []}
    for episode in read_dataset(given.data):
        for name, found in parts.items():
            found.append(torch.stack(episode[name].split(LENGTH)[: len(episode[name]) // LENGTH]))
    return replay_rows(Episodes(*(torch.cat(found) for found in parts.values())))


@lru_cache(maxsize=1)
def _gradients(given: Measurement) -> Tensor:
    """Those of the run measured last: all batch sizes use them."""
    return batch_gradients(given)


def measure_latent_errors(given: Measurement) -> float:
    """α of latent errors."""
    errors = filtered(given, NOISE).means - filtered(given, 0.0).means
    return tail_index(errors.flatten(0, 1))


def measure_gradient_noise(given: Measurement, batch_size: int) -> float:
    """α of the noise of gradients."""
    return tail_index(gradient_noise(_gradients(given), batch_size // SMALLEST))


FINITE = "a law with an index above 2 has the finite variance that the small-noise expansion needs"
QUANTITIES = (
    Quantity(
        f"{NAME}: latent errors",
        PAPER,
        "Tail index of latent errors",
        "Hill index",
        f"tail index of latent errors; {FINITE}",
        measure_latent_errors,
    ),
    *(
        Quantity(
            f"{NAME}: gradients, batch {size}",
            PAPER,
            "",
            "Hill index",
            f"tail index of the gradient noise of batches of {size}; {FINITE}",
            partial(measure_gradient_noise, batch_size=size),
        )
        for size in SIZES
    ),
)

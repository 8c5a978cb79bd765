"""Flatness of the loss around the trained weights (arXiv 2311.07013).

The value is ln tr H, H the Hessian of the world model's loss L(θ) on a fixed batch of 16 sequences
of 32 rows, by Hutchinson's estimator

    tr H = E vᵀH v,   v with independent entries ±1,

as a mean over 32 probes; its variance is 2 Σ_{i ≠ j} H_ij². L is the training loss without the
penalty and without stop-gradients, which have no Hessian. tr H has the units of the loss, nats, per
squared weight: it depends on the scale of the weights, as flatness does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call

from sdewm.model.world_model import ReplayRows
from sdewm.related.quantity import Quantity
from sdewm.related.training_loss import TrainingLoss, replay_rows
from sdewm.study.end_points import Measurement

NAME, PAPER = "flatness", "2311.07013"
SEQUENCES, LENGTH, PROBES = 16, 32, 32


def hutchinson(
    loss: Callable[[Tensor], Tensor], weights: Tensor, probes: int, generator: torch.Generator
) -> Tensor:
    """Samples vᵀH v of the trace of the Hessian of a loss of weights (P,): (K,).

    >>> loss = lambda w: w[0] ** 2 + 3 * w[1] ** 2
    >>> hutchinson(loss, torch.zeros(2), 2, torch.Generator().manual_seed(0))
    tensor([8., 8.])
    """
    weights = weights.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(weights), weights, create_graph=True)
    found = []
    for _ in range(probes):
        v = torch.randn(len(weights), generator=generator).sign().to(weights.dtype)
        (product,) = torch.autograd.grad(gradient @ v, weights, retain_graph=True)  # H v
        found.append(v @ product)
    return torch.stack(found)


def loss_of_weights(given: Measurement) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """L as a function of all weights in one vector (P,), and the trained weights."""
    batch = replay_rows(given.episodes.first_rows(LENGTH))
    rows = ReplayRows(*(part[:SEQUENCES] for part in batch))
    generator = torch.Generator().manual_seed(given.seed)
    noise = given.model.draw_noise(tuple(rows.reward.shape), generator)
    loss = TrainingLoss(given.model.world_model, stop_gradients=False)
    trained = loss.weights()

    def of_vector(vector: Tensor) -> Tensor:
        parts = vector.split([weight.numel() for weight in trained.values()])
        weights = {
            name: part.view_as(weight)
            for (name, weight), part in zip(trained.items(), parts, strict=True)
        }
        return functional_call(loss, weights, (rows, noise))

    return of_vector, torch.cat([weight.flatten() for weight in trained.values()])


def measure(given: Measurement) -> float:
    """Logarithm of the trace."""
    loss, weights = loss_of_weights(given)
    generator = torch.Generator().manual_seed(given.seed)
    trace = float(hutchinson(loss, weights, PROBES, generator).mean())
    if not trace > 0:
        raise ValueError(f"trace of the Hessian: {trace:g}; its logarithm needs a number above 0.")
    return math.log(trace)


QUANTITIES = (
    Quantity(
        NAME,
        PAPER,
        "Trace of the loss's Hessian",
        "ln trace",
        "ln trace of the Hessian of the loss; lower is flatter",
        measure,
    ),
)

"""Is noise in training an implicit regulariser? Training with noise against its explicit term.

The paper's claim for errors of zero drift, as a statement that training can be tested for: the
expected loss under an error ε·e of mean zero is

    E L(θ; εe) = L(θ; 0) + ε² c(θ) + O(ε⁴),   c(θ) = ½ E ∂²L(θ; se)/∂s² at s = 0,

so that training with the error, and training on L + ε² c, are the same up to O(ε⁴). An error with a
drift changes the loss at order ε, which no multiple of ε² accounts for.

An *objective* is a sum Σ w L(θ; s e) over strengths s, with the same random numbers in every term:
`{0: 1}` is the loss itself, `{ε: 1}` training with one error, `{ε: ½, −ε: ½}` with an error and its
mirror image, whose odd orders vanish, and `explicit_term(ε)` is L + ε² c with a central difference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sdewm.base.checks import check_count, check_finite_number

Objective = Mapping[float, float]  # strengths of the error with their weights
DIFFERENCE = 1e-2  # strength of the error at which the explicit term is formed
# (model, batch, strengths) -> the losses at these strengths, of equal random numbers
Losses = Callable[[nn.Module, Any, Sequence[float]], Sequence[Tensor]]


def mirrored(strength: float) -> Objective:
    """½ L(εe) + ½ L(−εe)."""
    return {strength: 0.5, -strength: 0.5}


def explicit_term(strength: float) -> Objective:
    """L(0) + ε² (L(δe) + L(−δe) − 2 L(0)) / (2 δ²).

    >>> objective = explicit_term(0.1)
    >>> round(sum(weight * (3 + 2 * s**2) for s, weight in objective.items()), 9)  # 3 + 2 ε²
    3.02
    """
    share = (check_finite_number("strength", strength) / DIFFERENCE) ** 2
    return {0.0: 1.0 - share, DIFFERENCE: share / 2, -DIFFERENCE: share / 2}


def train(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    losses: Losses,
    batches: Sequence[Any],
    objective: Objective,
) -> None:
    """One update of the model on each batch, in place.

    Args:
        model: its weights are those of the optimiser.
        optimiser: of any kind.
        losses: losses of a batch at several strengths of its error.
        batches: in order.
        objective: strengths and weights.
    """
    for batch in batches:
        optimiser.zero_grad(set_to_none=True)
        found = losses(model, batch, [*objective])
        torch.stack(
            [w * loss for w, loss in zip(objective.values(), found, strict=True)]
        ).sum().backward()
        optimiser.step()


@dataclass(frozen=True)
class Effect:
    """What an error in training did to the weights, beside what its explicit term did.

    Δ and Δ′ are the differences of the weights to those of training without error.

    Attributes:
        ratio: ⟨Δ, Δ′⟩/|Δ′|², 1 if both are the same.
        gap: |Δ − Δ′|.
        size: |Δ′|.
    """

    ratio: float
    gap: float
    size: float


def compare_training(
    model: nn.Module,
    make_optimiser: Callable[[nn.Module], torch.optim.Optimizer],
    losses: Losses,
    warm_up: Sequence[Any],
    batches: Sequence[Any],
    pairs: Mapping[Any, tuple[Objective, Objective]],
    done: Callable[[], None] = lambda: None,
) -> dict[Any, Effect]:
    """Effects of pairs of objectives, all trained from one model and one state of the optimiser.

    Args:
        model: float64; it stays as it is.
        make_optimiser: an optimiser of a model's weights.
        losses: see `train`.
        warm_up: batches on which model and optimiser are trained without error first.
        batches: those of every arm.
        pairs: name -> the objective with the error, and the one with its explicit term.
        done: called after each batch of batches that was trained on.

    Raises:
        ValueError: the model is not in float64, or there are no batches.

    >>> model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    >>> def losses(model, z, strengths):  # E (w(z + s e))² = w² (z² + s²) exactly
    ...     return [model(torch.stack((z + s, z - s))).square().mean() for s in strengths]
    >>> sgd = lambda model: torch.optim.SGD(model.parameters(), lr=0.1)
    >>> batches = [torch.ones(4, 1, dtype=torch.float64)] * 5
    >>> pairs = {0.5: (mirrored(0.5), explicit_term(0.5))}
    >>> round(compare_training(model, sgd, losses, [], batches, pairs)[0.5].ratio, 6)
    1.0
    """
    check_count("number of batches", len(batches))
    if any(weight.dtype != torch.float64 for weight in model.parameters()):
        raise ValueError("model has weights that are not torch.float64; use model.double().")
    start = copy.deepcopy(model)
    warm = make_optimiser(start)
    train(start, warm, losses, warm_up, {0.0: 1.0})

    def trained(objective: Objective) -> Tensor:
        own = copy.deepcopy(start)
        optimiser = make_optimiser(own)
        optimiser.load_state_dict(copy.deepcopy(warm.state_dict()))
        train(own, optimiser, losses, batches, objective)
        done()
        return torch.cat([weight.detach().flatten() for weight in own.parameters()])

    plain, found = trained({0.0: 1.0}), {}
    known: dict[tuple[tuple[float, float], ...], Tensor] = {}
    for name, both in pairs.items():
        changes = []
        for objective in both:
            key = tuple(objective.items())
            if key not in known:
                known[key] = trained(objective) - plain
            changes.append(known[key])
        change, expected = changes
        size = float(expected.norm())
        gap = float((change - expected).norm())
        found[name] = Effect(float(change @ expected) / size**2, gap, size)
    return found

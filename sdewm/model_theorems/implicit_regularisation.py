"""Is noise in training an implicit regulariser? Training with noise against its explicit term.

The paper's claim for errors of zero drift, as a statement that training can be tested for: the
expected loss under an error ε·e of symmetric law is

    E L(θ; εe) = L(θ; 0) + ε² c(θ) + O(ε⁴),   c(θ) = ½ E ∂²L(θ; se)/∂s² at s = 0,

so that training with the error and its mirror image, and training on L + ε² c, are the same up to
O(ε⁴) (S30). With a mean of zero alone the remainder of E L is O(ε³). An error with a drift changes
the loss at order ε, which no multiple of ε² accounts for.

An *objective* is a sum Σ w L(θ; s e) over strengths s, with the same random numbers in every term:
`{0: 1}` is the loss itself, `{ε: 1}` training with one error, `{ε: ½, −ε: ½}` with an error and its
mirror image, whose odd orders vanish, and `explicit_term(ε)` is L + ε² c with a central difference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sdewm.base.checks import check_choice, check_count, check_finite_number
from sdewm.data.recorded_episodes import Episodes, check_rows
from sdewm.model.rssm import State
from sdewm.model.world_model import Observed, ReplayRows, WorldModel, total_loss

Objective = Mapping[float, float]  # strengths of the error with their weights
BATCH, LENGTH = 8, 16  # windows of an update, and their rows
DIFFERENCE = 1e-2  # strength of the error at which the explicit term is formed
# (model, batch, strengths) -> the losses at these strengths, of equal random numbers
Losses = Callable[[nn.Module, Any, Sequence[float]], Sequence[Tensor]]


def mirrored(strength: float) -> Objective:
    """½ L(εe) + ½ L(−εe); the loss itself for ε = 0.

    >>> mirrored(0.1), mirrored(0)
    ({0.1: 0.5, -0.1: 0.5}, {0.0: 1.0})
    """
    size = check_finite_number("strength", strength)
    return {size: 0.5, -size: 0.5} if size else {0.0: 1.0}  # −0 is the key of 0


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


class Batch(NamedTuple):
    """Windows of episodes with the random numbers of one update."""

    rows: ReplayRows
    posterior: Tensor
    error: Tensor  # (B, T, Z)


class FilteredModel:
    """A world model whose filter receives an error, on windows of recorded episodes.

    Args:
        model: a copy in float64 is made, whose loss has no free nats: their kink has no second
            derivative.
        episodes: of at least LENGTH rows.

    Attributes:
        model: the copy.
        spread: (Z,), standard deviations of the latent's components over the episodes.
    """

    def __init__(self, model: WorldModel, episodes: Episodes) -> None:
        check_rows(episodes, LENGTH)
        self.model, self.episodes = copy.deepcopy(model).double().requires_grad_(), episodes
        self.model.config = replace(model.config, free_nats=0.0)
        rows = self.rows(torch.arange(len(episodes.rewards)), torch.tensor(0), steps=None)
        generator = torch.Generator().manual_seed(0)
        noise = self.model.rssm.latent.draw_noise(rows.reward.shape, generator).double()
        with torch.no_grad():
            state = self.model.observe(rows, noise).state
        self.spread = state.stoch.flatten(0, 1).std(0)

    def rows(self, episodes: Tensor, starts: Tensor, steps: int | None) -> ReplayRows:
        """Windows (B, T, …) of the episodes."""
        length = self.episodes.rewards.shape[1] if steps is None else steps
        time = starts[..., None] + torch.arange(length)
        seen, actions, rewards = (
            part.double()[episodes[:, None], time]
            for part in (
                self.episodes.observations,
                self.episodes.previous_actions,
                self.episodes.rewards,
            )
        )
        flags = torch.zeros(rewards.shape, dtype=torch.bool)
        return ReplayRows(seen, actions, rewards, flags, flags, flags)

    def batches(self, seed: int, count: int, kind: str) -> list[Batch]:
        """Batches with their random numbers; those of one seed differ in their errors alone.

        Args:
            seed: of the windows, the model's random numbers and the errors.
            count: number of batches.
            kind: "white": e is independent at every step, normal; "drift": e is one ±1 for each
                component, the same everywhere. Both in units of `spread`.
        """
        check_choice("kind", kind, ("white", "drift"))
        source, own = (torch.Generator().manual_seed(2 * seed + k) for k in range(2))
        shape = (BATCH, LENGTH, len(self.spread))
        signs = torch.randn(shape[2], generator=own, dtype=torch.float64).sign()
        found = []
        for _ in range(count):
            chosen = torch.randint(len(self.episodes.rewards), (BATCH,), generator=source)
            latest = self.episodes.rewards.shape[1] - LENGTH
            starts = torch.randint(latest + 1, (BATCH,), generator=source)
            rows = self.rows(chosen, starts, LENGTH)
            noise = self.model.rssm.latent.draw_noise((BATCH, LENGTH), source).double()
            error = torch.randn(shape, generator=own, dtype=torch.float64)
            if kind == "drift":
                error = signs.expand(shape)
            found.append(Batch(rows, noise, error * self.spread))
        return found

    def losses(self, model: Any, batch: Batch, strengths: Sequence[float]) -> list[Tensor]:
        """The total loss at each strength, all strengths side by side in one filter."""
        copies = len(strengths)
        error = torch.cat([strength * batch.error for strength in strengths])
        embed = model.encoder(batch.rows.observation).repeat(copies, 1, 1)
        actions, first = (
            part.repeat(copies, *[1] * (part.dim() - 1))
            for part in (batch.rows.previous_action, batch.rows.is_first)
        )
        noise = batch.posterior.repeat(copies, *[1] * (batch.posterior.dim() - 1))
        state, posterior = model.rssm.filter(embed, actions, first, noise, None, error)
        prior = model.rssm.prior(state.deter)
        found = []
        for k in range(copies):
            own = slice(k * BATCH, (k + 1) * BATCH)
            seen = Observed(State(state.deter[own], state.stoch[own]), prior[own], posterior[own])
            found.append(total_loss(model.losses(batch.rows, seen), model.weights()))
        return found

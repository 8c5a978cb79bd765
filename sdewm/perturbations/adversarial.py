"""Adversarial observations: the worst change of at most a given size in every component.

    fgsm-posterior, pgd-posterior   away from the posterior mean of the clean observation
    fgsm-value, pgd-value           towards a smaller value of the critic

The change δ has |δ_i| ≤ strength: in the environment's units, of pixels in [0, 1]. FGSM (Goodfellow
et al. 2015) takes one step of this size along the sign of the gradient, PGD (Madry et al. 2018) ten
steps of a quarter of it, each cut back to the box, and keeps the best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdewm.perturbations.named import NamedPerturbation

METHODS, GOALS = {"fgsm": (1, 1.0), "pgd": (10, 0.25)}, ("posterior", "value")
NAMES = tuple(f"{method}-{goal}" for method in METHODS for goal in GOALS)
START = 1e-3  # of the strength: where δ = 0 has no gradient


@dataclass(frozen=True)
class AdversarialPerturbation(NamedPerturbation):
    """An attack with its strength, at least 0.

    Raises:
        ValueError: an unknown name, or a strength out of range.

    >>> AdversarialPerturbation("fgsm-value", 0.05).label
    'fgsm-value:0.05'
    """

    allowed = NAMES

    @property
    def goal(self) -> str:
        """What the attack changes: "posterior" or "value"."""
        return self.name.partition("-")[2]

    def attack(self, clean: Tensor, damage: Callable[[Tensor], Tensor], signs: Tensor) -> Tensor:
        """The observations (N, …) that do the most damage among those tried.

        Args:
            clean: floating-point observations; images in [0, 1], where they stay.
            damage: (N, …) -> (N,), differentiable.
            signs: ±1 (N, …), towards which the place of the first gradient is off.
        """
        steps, share = METHODS[self.name.partition("-")[0]]
        size, image = self.strength, clean.dim() == 4
        best, most, now = clean, damage(clean).detach(), clean
        for step in range(steps):
            place = (now if step else clean + START * size * signs).detach().requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(damage(place).sum(), place)
            change = (now - clean + share * size * slope.sign()).clamp(-size, size)
            now = (clean + change).clamp(0, 1) if image else clean + change
            done = damage(now).detach()
            better = (done > most).view(-1, *[1] * (clean.dim() - 1))
            best, most = torch.where(better, now, best), torch.maximum(most, done)
        return best

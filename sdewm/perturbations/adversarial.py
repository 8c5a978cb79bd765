"""Adversarial observations: the worst change of at most a given size in every component.

    fgsm-posterior, pgd-posterior   away from the posterior mean of the clean observation
    fgsm-value, pgd-value           towards a smaller value of the critic

The change δ has |δ_i| ≤ strength: in the environment's units, of pixels in [0, 1]. Images have 8
bits: theirs is a whole number of levels of 1/255, at most ⌊255·strength⌋ of them. FGSM (Goodfellow
et al. 2015) takes one step of this size along the sign of the gradient, PGD (Madry et al. 2018) ten
steps of a quarter of it, each cut back to the box, and keeps the best; of images the best of those
that can be shown, rounded to 8 bits, while the steps go on from unrounded ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdewm.perturbations.named import NamedPerturbation
from sdewm.perturbations.observation import refuse_both

METHODS, GOALS = {"fgsm": (1, 1.0), "pgd": (10, 0.25)}, ("posterior", "value")
NAMES = tuple(f"{method}-{goal}" for method in METHODS for goal in GOALS)
START = 1e-3  # of the strength: where δ = 0 has no gradient
LEVELS = 255  # of pixels of 8 bits, above 0


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

    def radius(self, images: bool) -> float:
        """The largest change of a component; of images a whole number of levels.

        >>> [round(255 * AdversarialPerturbation("fgsm-value", s).radius(True), 9)
        ...  for s in (0.05, 0.01, 0.003, 3 / 255)]
        [12.0, 2.0, 0.0, 3.0]
        """
        if not images:
            return self.strength
        return math.floor(LEVELS * self.strength + 1e-9) / LEVELS  # 1e-9: of the product's rounding

    def check_fits(self, observations: str) -> None:
        """Refuse observations that this attack cannot change as it says.

        Args:
            observations: "vectors", "images" or "both", see `sdewm.perturbations.observation`.

        Raises:
            ValueError: both at once, or images and a strength between 0 and one level.
        """
        refuse_both(self.name, observations)
        if observations == "images" and self.strength and not self.radius(images=True):
            raise ValueError(
                f"strength={self.strength:g}: {self.name} of images of 8 bits takes 0 or at least "
                f"1/{LEVELS} ≈ {1 / LEVELS:.5f}, because a smaller change cannot be shown."
            )

    def attack(self, clean: Tensor, damage: Callable[[Tensor], Tensor], signs: Tensor) -> Tensor:
        """The observations (N, …) that do the most damage among those tried.

        Args:
            clean: floating-point observations; images (N, H, W, C) in [0, 1], where they stay, in
                levels of 1/255, in which the result is too.
            damage: (N, …) -> (N,), differentiable.
            signs: ±1 (N, …), towards which the place of the first gradient is off.
        """
        steps, share = METHODS[self.name.partition("-")[0]]
        image = clean.dim() == 4
        size = self.radius(image)
        best, most, now = clean, damage(clean).detach(), clean
        for step in range(steps):
            place = (now if step else clean + START * size * signs).detach().requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(damage(place).sum(), place)
            change = (now - clean + share * size * slope.sign()).clamp(-size, size)
            now = (clean + change).clamp(0, 1) if image else clean + change
            shown = (LEVELS * now).round() / LEVELS if image else now
            done = damage(shown).detach()
            better = (done > most).view(-1, *[1] * (clean.dim() - 1))
            best, most = torch.where(better, shown, best), torch.maximum(most, done)
        return best

"""Some members of a set, followed through the step in float64: a check of the enclosure.

For fixed e_i, |e_i|₂ ≤ 1, the states x_i = X_k(e_i) are computed by the step itself, on tensors. A
set 𝒳_k of coefficients c, M, Q, G and ρ contains them only if, number by number,

    |x_i − (c + M e_i + e_iᵀ Q e_i)| ≤ |G|₁ + ρ,

because the error e means the same in all sets of one computation. ρ has room for the rounding
errors of the step (`taylor_set`), so no tolerance is needed beyond those of the polynomial on the
left, which is a sum of at most p² + p + 2 terms. The set of the reference (p = 0) is as wide as
rounding errors are, so a function that is enclosed in place of another one is noticed there even if
they differ in the tenth digit.

This proves nothing; it refuses what the proof does not cover: a step that draws random numbers or
remembers its calls, one that torch computes in another precision than its enclosure assumes, and an
enclosure that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdewm.certificates.enclosure.taylor_set import TaylorSet
from sdewm.certificates.interval import gamma

LENGTHS = (1.0, 1.0, 0.5)  # of e_i; each random direction is followed with both signs


class NotEnclosed(ValueError):
    """A rollout of the set is outside its enclosure."""


@dataclass(frozen=True, eq=False)
class Followed:
    """A set with rows (R, …), and some of its members.

    Attributes:
        values: the set.
        errors: e_i, (m, p).
        members: x_i, (m, R, …).
    """

    values: TaylorSet
    errors: Tensor
    members: Tensor

    @staticmethod
    def start(values: TaylorSet) -> Followed:
        """A set without symbols, and its members of e = 0 and of random directions."""
        count = values.linear.shape[-1]
        errors = torch.zeros(1, count, dtype=torch.float64)
        if count:
            drawn = torch.randn(len(LENGTHS), count, generator=torch.Generator().manual_seed(0))
            unit = torch.nn.functional.normalize(drawn.double(), dim=1) * (1.0 - 2.0**-30)
            moved = unit * unit.new_tensor(LENGTHS)[:, None]
            errors = torch.cat([errors, moved, -moved])
        return Followed(values, errors, polynomial(values, errors))

    def after(self, values: TaylorSet, function: Callable[[Tensor], Tensor]) -> Followed:
        """The set of the function's values, and the members as the function computes them."""
        found = [function(one) for one in self.members]
        if found[0].shape != values.shape:
            raise NotEnclosed(
                f"a step, or the readout, makes {tuple(found[0].shape)} of tensors and "
                f"{tuple(values.shape)} of sets: expected one that does not ask what it is given."
            )
        return Followed(values, self.errors, torch.stack(found))

    def without(self, rows: Iterable[int]) -> Followed:
        """The same with some rows replaced by the point 0."""
        lost = list(rows)
        if not lost:
            return self
        parts = [part.clone() for part in self.values.parts]
        for part in parts:
            part[lost] = 0.0
        members = self.members.clone()
        members[:, lost] = 0.0
        return replace(self, values=TaylorSet(*parts, rows=self.values.rows), members=members)

    def require_inside(self) -> None:
        """Raise NotEnclosed if a member is not in the set."""
        values, (_, count) = self.values, self.errors.shape
        gap = (self.members - polynomial(values, self.errors)).abs()
        allowed = values.spread + 2.0 * gamma(count**2 + count + 3) * values.size
        outside = ~(gap <= allowed)
        if bool(outside.any()):
            worst = float((gap - allowed)[outside].max())
            raise NotEnclosed(
                f"the step, or the readout, takes a state of the set out of its enclosure, by "
                f"{worst:.2g}: expected a function that depends on its arguments alone (no random "
                "numbers, nothing kept from call to call) and computes in torch.float64. If yours "
                "does, an enclosure of sdewm is wrong; please report it."
            )


def polynomial(values: TaylorSet, errors: Tensor) -> Tensor:
    """C + M e_i + e_iᵀ Q e_i for errors (m, p): (m, *S)."""
    found = values.centre + (values.linear @ errors.T).movedim(-1, 0)
    if not values.quadratic.shape[-1]:
        return found
    forms = ((values.quadratic @ errors.T) * errors.T).sum(-2)
    return found + forms.movedim(-1, 0)

"""Some members of a set, followed through the step in float64: a check of the enclosure.

For fixed e_i, |e_i|₂ ≤ 1, the states x_i = X_k(e_i) are computed by the step itself, on tensors: in
one batch, with gradients, and for i = 0 in a batch of its own, without. A set 𝒳_k of coefficients
c, M, Q, G and ρ contains them only if, number by number,

    |x_i − (c + M e_i + e_iᵀ Q e_i)| ≤ |G|₁ + ρ,

because the error e means the same in all sets of one computation. ρ has room for the rounding
errors of the step (`taylor_set`), so no tolerance is needed beyond those of the polynomial on the
left, which is a sum of at most p² + p + 2 terms. The set of the reference (p = 0) is as wide as
rounding errors are, so a function that is enclosed in place of another one is noticed there even if
they differ in the tenth digit.

This proves nothing; it refuses what the proof does not cover: a step that draws random numbers,
remembers its calls or mixes the rows of its batch, one that torch computes in another precision
than its enclosure assumes, and an enclosure that is wrong. What only happens at other states of the
set, or after many more calls, is not noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdewm.certificates.enclosure.taylor_set import TaylorSet
from sdewm.certificates.interval import gamma

Function = Callable[[Tensor], Tensor]
LENGTHS = (1.0, 1.0, 0.5)  # of e_i; each random direction is followed with both signs


class NotEnclosed(ValueError):
    """A rollout of the set is outside its enclosure."""


@dataclass(frozen=True, eq=False)
class Followed:
    """A set with rows (R, …), and some of its members.

    Attributes:
        values: the set.
        errors: e_i, (m, p); e_0 = 0.
        members: x_i, (R, m, …).
    """

    values: TaylorSet
    errors: Tensor
    members: Tensor

    @staticmethod
    def start(values: TaylorSet) -> Followed:
        """A set without symbols, and its members of e = 0 and of random directions."""
        count = values.linear.shape[-1]
        drawn = torch.randn(len(LENGTHS), count, generator=torch.Generator().manual_seed(0))
        unit = torch.nn.functional.normalize(drawn.double(), dim=1) * (1.0 - 2.0**-30)
        moved = unit * unit.new_tensor(LENGTHS)[:, None]
        errors = torch.cat([torch.zeros(1, count, dtype=torch.float64), moved, -moved])
        if not count:
            errors = errors[:2]  # a batch of one would not show mixed rows
        return Followed(values, errors, polynomial(values, errors))

    def after(self, function: Function, values: TaylorSet, name: str) -> Followed:
        """The set of the function's values, and the members as the function computes them."""
        rows, count = self.members.shape[:2]
        batch = self.members.flatten(0, 1)
        try:
            with torch.enable_grad():
                found = function(batch.clone().requires_grad_()).detach()
        except RuntimeError:  # what the step never does with gradients, it does not do differently
            with torch.no_grad():
                found = function(batch.clone())
        _require_shape(name, found, (rows * count, *values.shape[1:]), batch.shape)
        return replace(self, values=values, members=found.unflatten(0, (rows, count)))

    def alone(self, function: Function) -> Tensor:
        """The values of the first members only, as the function computes them, (R, …)."""
        with torch.no_grad():
            return function(self.members[:, 0].clone())

    def without(self, rows: Iterable[int]) -> Followed:
        """The same with some rows replaced by the point 0."""
        lost = list(rows)
        if not lost:
            return self
        parts = [part.clone() for part in self.values.parts]
        for part in parts:
            part[lost] = 0.0
        members = self.members.clone()
        members[lost] = 0.0
        return replace(self, values=TaylorSet(*parts, rows=self.values.rows), members=members)

    def require_inside(self, rows: Sequence[int], alone: Tensor, name: str) -> None:
        """Raise NotEnclosed if a member of these rows is not in its set.

        Args:
            rows: of the set.
            alone: the first members as computed in a batch of their own (R, …).
            name: of the function in the message.
        """
        _require_shape(name, alone, self.values.shape, self.values.shape)
        kept, values = list(rows), self.values
        if len(kept) < len(values.centre):
            values = TaylorSet(*(part[kept] for part in values.parts))
        found = torch.cat([self.members, alone.unsqueeze(1)], 1)[kept]
        errors = torch.cat([self.errors, self.errors[:1]])
        count = errors.shape[1]
        gap = (found - polynomial(values, errors)).abs()
        allowed = values.spread + 2.0 * gamma(count**2 + count + 3) * values.size
        excess = gap - allowed.unsqueeze(1)
        if not bool((excess <= 0).all()):
            raise NotEnclosed(
                f"{name} takes a state of the set out of its enclosure, by "
                f"{float(excess.nan_to_num(nan=torch.inf).max()):.2g}: expected a function that "
                "depends on its arguments alone (no random numbers, nothing kept from call to "
                "call, no mixed rows) and computes in torch.float64. If yours does, an enclosure "
                "of sdewm is wrong; please report it."
            )


def _require_shape(name: str, found: Tensor, wanted: Sequence[int], states: Sequence[int]) -> None:
    if tuple(found.shape) != tuple(wanted):
        raise NotEnclosed(
            f"{name} makes {tuple(found.shape)} of {states[0]} states; expected {tuple(wanted)}, "
            "as it does of sets of states."
        )


def polynomial(values: TaylorSet, errors: Tensor) -> Tensor:
    """The values of c + M e_i + e_iᵀ Q e_i for errors (m, p), of a set (R, …): (R, m, …)."""
    found = values.centre.unsqueeze(1) + (values.linear @ errors.T).movedim(-1, 1)
    if not values.quadratic.shape[-1]:
        return found
    forms = ((values.quadratic @ errors.T) * errors.T).sum(-2)
    return found + forms.movedim(-1, 1)

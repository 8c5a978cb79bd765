"""Random sets, their members, and the search for a member whose image is outside a set."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from sdewm.certificates.enclosure.execution import SetExecution, enclosed
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet
from tests.certificates.random_networks import Draw

ERRORS, SYMBOLS = 3, 4
OWN = 2.0**-49  # relative rounding of the sums of 20 terms that evaluate a polynomial here
Function = Callable[..., Tensor]


def random_set(
    draw: Draw,
    shape: Sequence[int],
    size: Tensor | float = 1.0,
    kept: bool = True,
    parts: Sequence[float] = (1.0, 0.5, 0.3, 0.2, 0.1),
) -> TaylorSet:
    """A set of a shape: centres of order parts[0], and c, M, Q, G, ρ of order `size` · parts."""
    size = torch.as_tensor(size, dtype=torch.float64)
    form = draw.normal(*shape, ERRORS, ERRORS) / ERRORS
    form = form + form.transpose(-1, -2)
    return TaylorSet(
        parts[0] * draw.normal(*shape),
        size[..., None] * parts[1] * draw.normal(*shape, ERRORS),
        (size[..., None, None] * parts[2] * form)[..., : ERRORS * kept, : ERRORS * kept],
        size[..., None] * parts[3] * draw.normal(*shape, SYMBOLS),
        size * parts[4] * draw.normal(*shape).abs(),
    )


class Member:
    """One member of a set for each instance (the first axis): e, b and the b' of each set."""

    def __init__(self, draw: Draw, instances: int) -> None:
        self.draw = draw
        self.e = draw.normal(instances, ERRORS)
        self.e = self.e / self.e.norm(dim=1, keepdim=True)
        self.b = torch.sign(draw.normal(instances, SYMBOLS))
        self.own: list[Tensor] = []

    def box(self, values: TaylorSet, place: int) -> Tensor:
        """The symbols b' of the set with number `place`."""
        if place == len(self.own):
            self.own.append(torch.sign(self.draw.normal(*values.shape)))
        return self.own[place]

    @property
    def free(self) -> list[Tensor]:
        return [self.e, self.b, *self.own]

    def moved(self, slopes: Sequence[Tensor]) -> "Member":
        """The member with e turned to the slope, and every symbol at the end it points to."""
        other = Member.__new__(Member)
        other.draw = self.draw
        length = slopes[0].norm(dim=1, keepdim=True)
        other.e = torch.where(length > 0, slopes[0] / length.clamp(min=1e-300), self.e).detach()
        ends = [
            torch.where(slope == 0, old, torch.sign(slope)).detach()
            for slope, old in zip(slopes[1:], self.free[1:], strict=True)
        ]
        other.b, other.own = ends[0], ends[1:]
        return other

    def polynomial(self, values: TaylorSet) -> Tensor:
        """c + M e + eᵀ Q e + G b, without the box."""
        letters = "nijk"[: values.centre.dim()]
        found = values.centre + torch.einsum(f"{letters}p,np->{letters}", values.linear, self.e)
        if values.quadratic.shape[-1]:
            form = torch.einsum(f"{letters}pq,np->{letters}q", values.quadratic, self.e)
            found = found + torch.einsum(f"{letters}q,nq->{letters}", form, self.e)
        rest, symbols = values.rest, self.b[:, : values.symbols]
        return found + torch.einsum(f"{letters}q,nq->{letters}", rest, symbols)


def folded(values: TaylorSet) -> TaylorSet:
    """A larger set: without symbols but those of `random_set`, with the others in the box."""
    own = values.rest[..., SYMBOLS:].abs().sum(-1)
    kept = (*values.parts[:3], values.rest[..., :SYMBOLS])
    return TaylorSet.of(kept, values.box + own, values.rows)


def outside(
    function: Function, *sets: TaylorSet, seed: int = 0, ascents: int = 4, rows: bool = True
) -> Tensor:
    """The largest |f(members) − polynomial| / ρ found, for each number of the image: at most 1.

    ρ is enlarged by the rounding of this function; the rounding of the set itself is tested in
    exact arithmetic. Symbols that the function makes are counted as part of the box. The boxes of
    the sets are symbols of their own here, so that f sees every member. From random members at the
    ends, the sum of the excesses is followed by its gradient. With `rows` the instances are rows of
    one computation.
    """
    draw = Draw(seed)
    sets = tuple(replace(values, rows=rows) for values in sets)
    symbols = Symbols(max(values.symbols for values in sets))
    with SetExecution(symbols, sets[0]):
        result = function(*map(enclosed, sets)).taylor
    image = folded(result)
    own = OWN * (image.size + sum(float(values.size.max()) for values in sets))
    member, worst = Member(draw, len(sets[0].centre)), torch.zeros_like(image.centre)
    for sign in (1.0, -1.0):
        for _ in range(ascents):
            for part in [member.box(values, k) for k, values in enumerate(sets)]:
                part.requires_grad_()
            member.e.requires_grad_()
            member.b.requires_grad_()
            inputs = [
                member.polynomial(values) + values.box * member.box(values, k)
                for k, values in enumerate(sets)
            ]
            gap = function(*inputs) - member.polynomial(image)
            worst = torch.maximum(worst, (gap.abs() / (image.box + own)).detach())
            slopes = torch.autograd.grad(sign * gap.sum(), member.free, allow_unused=True)
            member = member.moved(
                [
                    torch.zeros_like(free) if slope is None else slope
                    for slope, free in zip(slopes, member.free, strict=True)
                ]
            )
    return worst


def exact_member(values: TaylorSet, e: Sequence[Fraction], b: Sequence[Fraction]) -> list[Fraction]:
    """c + M e + eᵀ Q e + G b of a set (n,), in exact arithmetic."""
    found = []
    for i in range(len(values.centre)):
        total = Fraction(float(values.centre[i]))
        total += sum(Fraction(float(m)) * x for m, x in zip(values.linear[i], e, strict=True))
        for row, x in zip(values.quadratic[i], e, strict=True):
            total += sum(Fraction(float(q)) * x * y for q, y in zip(row, e, strict=True))
        used = b[: values.symbols]
        total += sum(Fraction(float(g)) * x for g, x in zip(values.rest[i], used, strict=True))
        found.append(total)
    return found

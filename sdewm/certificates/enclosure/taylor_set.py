"""Sets of states: quadratic polynomials in an initial error, plus a zonotope for everything else.

A `TaylorSet` of n numbers holds every x for which there are a vector b with

    x = c + M e + eᵀ Q e + G b + ρ ⊙ b',     |e|₂ ≤ 1,  |b|_∞ ≤ 1,  |b'|_∞ ≤ 1.

e (p numbers) is the initial error; it is the same in all sets of one computation. b (q symbols) is
shared as well, so that sums and differences cancel; b' belongs to one set alone. The formulas of
this folder keep e to second order. What they leave out, and the rounding errors of everything that
they compute, is added to ρ.

**Rows.** Several computations of one kind are made at a time: a set with `rows` has them on the
first axis of its tensor, and each row has an e and a b of its own. Sets without rows are the same
in all of them. No operation may then mix rows, or it is refused (`MixedRows`).

**Rounding.** Let x̂ be the sum of k products x_i w_i computed in float64 in any order, fused or not.
Then |x̂ − x| ≤ γ_k Σ|x_i w_i|, γ_k = k u/(1 − k u), u = 2⁻⁵³ (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd edition, section 3.1 and equation (3.5)). The bound holds for each
coefficient. Over the whole set, errors ΔM, ΔQ, ΔG of the coefficients of one number move it by at
most |ΔM|₂ + |ΔQ|_F + |ΔG|₁. So an operation whose coefficients are sums of products with factors w
rounds by at most γ Σ|w_i| size_i, where

    size = |c| + |M|₂ + |Q|_F + |G|₁ + ρ,

for each number. It is counted twice (`rounded`): a step that is computed in float64 at a member of
the set, with its sums in any order, rounds by no more than that, and stays in the set as well.
Radii are sums of terms of one sign: the computed value x̂ has x ≤ x̂ (1 + 2⁻³⁰) + 2⁻⁵⁰⁰ (`upward`)
for up to 2²¹ terms, where the last term covers squares that underflow. Matrix products are assumed
to be computed conventionally (not by Strassen's algorithm), and square roots to be correctly
rounded. Elementary functions are trusted as in `certificates.activations`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from sdewm.certificates.interval import Interval, gamma

_TINY = torch.tensor(2.0**-500, dtype=torch.float64)


def upward(values: Tensor) -> Tensor:
    """Upper bounds of sums, products and roots of at most 2²¹ terms of one sign, as computed."""
    return torch.add(_TINY, values, alpha=1.0 + 2.0**-30)


def spectral_bounds(matrices: Tensor) -> Tensor:
    """Upper bounds of |A|₂ for matrices A (…, m, n), by |A|₂⁴ = |A Aᵀ|₂² ≤ |A Aᵀ A Aᵀ|_F.

    A Aᵀ is computed with an error of at most γ_n |A|_F² in the Frobenius norm, its square likewise.
    """
    rows, columns = matrices.shape[-2:]
    gram = matrices @ matrices.transpose(-1, -2)
    whole, size = frobenius_norms(matrices), frobenius_norms(gram)
    fourth = upward(frobenius_norms(gram @ gram.transpose(-1, -2)) + gamma(rows) * size**2)
    square = upward(torch.minimum(size, torch.sqrt(fourth)) + gamma(columns) * whole**2)
    return torch.minimum(whole, upward(torch.sqrt(square)))


def frobenius_norms(matrices: Tensor) -> Tensor:
    """Upper bounds of |A|_F for matrices A (…, m, n)."""
    return upward(torch.linalg.vector_norm(matrices, dim=(-2, -1)))


class MixedRows(ValueError):
    """An operation would mix computations that are made at a time."""

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation} mixes rows, or moves them from the first axis.")


@dataclass(frozen=True, eq=False)
class TaylorSet:
    """The set of the module's head, of a tensor of any shape S; coefficients come last.

    Attributes:
        centre: c, S.
        linear: M, (*S, p).
        quadratic: Q, (*S, p, p); (*S, 0, 0) in a computation of first order.
        rest: G, (*S, q).
        box: ρ ≥ 0, S.
        rows: whether each place of the first axis has an e and a b of its own.
        known: an upper bound of `size`, where one is known already.

    >>> error = TaylorSet.ball(torch.zeros(2), torch.eye(2, dtype=torch.float64), order=2)
    >>> error.reach
    tensor([1.0000, 1.0000], dtype=torch.float64)
    """

    centre: Tensor
    linear: Tensor
    quadratic: Tensor
    rest: Tensor
    box: Tensor
    rows: bool = field(default=False, kw_only=True)
    known: Tensor | None = field(default=None, kw_only=True)

    @staticmethod
    def ball(centre: Tensor, directions: Tensor, order: int) -> TaylorSet:
        """All c + A e with |e|₂ ≤ 1: c of shape (n,), A of shape (n, p)."""
        size, errors = directions.shape
        kept = errors if order == 2 else 0
        return TaylorSet(
            centre.double(),
            directions.double(),
            torch.zeros(size, kept, kept, dtype=torch.float64),
            torch.zeros(size, 0, dtype=torch.float64),
            torch.zeros(size, dtype=torch.float64),
        )

    @staticmethod
    def of(coefficients: Iterable[Tensor], box: Tensor, rows: bool = False) -> TaylorSet:
        """The set with coefficients c, M, Q, G and box ρ."""
        centre, linear, quadratic, rest = coefficients
        return TaylorSet(centre, linear, quadratic, rest, box, rows=rows)

    def constant(self, values: Tensor) -> TaylorSet:
        """A tensor that is known exactly, as a set with the same errors as this one."""
        shape, zero = values.shape, torch.zeros((), dtype=torch.float64)
        sizes = (self.linear.shape[-1:], self.quadratic.shape[-2:], (0,), ())
        return TaylorSet(values.double(), *(zero.expand((*shape, *size)) for size in sizes))

    @property
    def shape(self) -> torch.Size:
        """The shape S of the tensor."""
        return self.centre.shape

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The coefficients c, M, Q, G and ρ."""
        return self.centre, self.linear, self.quadratic, self.rest, self.box

    @property
    def symbols(self) -> int:
        """Number q of symbols."""
        return self.rest.shape[-1]

    @cached_property
    def slopes(self) -> Tensor:
        """Upper bounds of |M e|, S: the 2-norms of the rows."""
        return upward(torch.linalg.vector_norm(self.linear, dim=-1))

    @cached_property
    def bends_frobenius(self) -> Tensor:
        """|Q|_F, S, rounded up; errors of the entries of Q are measured by it."""
        return frobenius_norms(self.quadratic)

    @cached_property
    def bends(self) -> Tensor:
        """Upper bounds of |eᵀ Q e|, S."""
        return spectral_bounds(self.quadratic)

    @cached_property
    def columns(self) -> Tensor:
        """Upper bounds of |G b|, S: the row sums of |G|."""
        return upward(torch.linalg.vector_norm(self.rest, ord=1, dim=-1))

    @cached_property
    def spread(self) -> Tensor:
        """Upper bounds of |G b + ρ b'|, S."""
        return upward(self.columns + self.box)

    @cached_property
    def higher(self) -> Tensor:
        """Upper bounds of everything but c + M e, S."""
        return upward(self.bends + self.spread)

    @cached_property
    def reach(self) -> Tensor:
        """Upper bounds of |x − c|, S."""
        return upward(self.slopes + self.higher)

    @cached_property
    def size(self) -> Tensor:
        """|c| + |M|₂ + |Q|_F + |G|₁ + ρ, S, rounded up: what roundings are measured by."""
        if self.known is not None:
            return self.known
        return upward(self.centre.abs() + self.slopes + self.bends_frobenius + self.spread)

    @property
    def interval(self) -> Interval:
        """The interval c ± reach, rounded outwards."""
        return Interval.around(self.centre, self.reach)

    def with_symbols(self, count: int) -> TaylorSet:
        """The same set, with further symbols that it does not use."""
        if count == self.symbols:
            return self
        rest = torch.nn.functional.pad(self.rest, (0, count - self.symbols))
        return replace(self, rest=rest)

    def widened(self, radius: Tensor) -> TaylorSet:
        """The set with ρ enlarged by a radius (S, ≥ 0)."""
        known = None if self.known is None else upward(self.known + radius)
        return replace(self, box=upward(self.box + radius), known=known)

    def expanded(self, shape: Sequence[int]) -> TaylorSet:
        """The set broadcast to a shape."""
        lead = len(shape) - self.centre.dim()

        def spread(part: Tensor) -> Tensor:
            tail = part.shape[self.centre.dim() :]
            return part.reshape(*(1,) * lead, *part.shape).expand((*shape, *tail))

        if tuple(shape) == tuple(self.shape):
            return self
        if self.rows and lead > 0:
            raise MixedRows("a broadcast")
        return TaylorSet(*map(spread, self.parts), rows=self.rows)


def aligned(first: TaylorSet, second: TaylorSet) -> tuple[TaylorSet, TaylorSet]:
    """Both sets, with as many symbols and in a common shape."""
    shape = torch.broadcast_shapes(first.shape, second.shape)
    count = max(first.symbols, second.symbols)
    return first.expanded(shape).with_symbols(count), second.expanded(shape).with_symbols(count)


class Symbols:
    """The symbols b of one computation: how many there are, and which boxes became symbols."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._absorbed: dict[TaylorSet, TaylorSet] = {}

    def latest(self, values: TaylorSet) -> TaylorSet:
        """The set with its box as symbols, if it has been absorbed before."""
        return self._absorbed.get(values, values)

    def absorb(self, values: TaylorSet) -> TaylorSet:
        """The same set with ρ b' written as new columns of G, one for each number with ρ > 0.

        Done before numbers are mixed, so that what the mixing cancels, cancels. All later uses of
        these values share the symbols. A column serves the same number of every row.
        """
        values = self.latest(values)
        rows = len(values.centre) if values.rows else 1
        flat = values.box.reshape(rows, -1)
        used = (flat > 0).any(0).nonzero()[:, 0]
        if len(used) == 0:
            return values
        columns = flat.new_zeros(*flat.shape, self.count + len(used))
        columns[..., : values.symbols] = values.rest.reshape(*flat.shape, -1)
        columns[:, used, self.count + torch.arange(len(used))] = flat[:, used]
        self.count += len(used)
        rest = columns.reshape(*values.shape, -1)
        found = replace(values, rest=rest, box=torch.zeros_like(values.box))
        self._absorbed[values] = self._absorbed[found] = found
        return found


def rounded(values: TaylorSet, terms: int, size: Tensor) -> TaylorSet:
    """The set widened by the rounding of sums of `terms` products of total size `size`, twice.

    The coefficients of the result are such sums, so that its size is at most that much larger.
    """
    return replace(values, known=upward(size)).widened(upward(2.0 * gamma(terms) * size))

r"""Proven constants of torch's gated recurrent unit, as a map of (x, h).

    r = σ(a_r),  z = σ(a_z),  q = U_n h + b_hn,  n = tanh(p),  p = a_n + r ⊙ q,
    f = n + z ⊙ (h − n) = (1 − z) ⊙ n + z ⊙ h,

with affine a_r, a_z, a_n: Da_r = [W_r U_r], Da_z = [W_z U_z], Da_n = [W_n 0], Dq = [0 U_n]. f is a
convex combination of n and h, so the set |h|_∞ ≤ 1 is invariant; constants are proven on this set.

First derivative, with diagonal matrices (…) whose ranges follow from the box,

    Df = (1 − z) G + z [0 I] + ((h − n) z') Da_z,   G = n' (Da_n + r Dq + q r' Da_r),

|(1 − z) G + z [0 I]|₂ ≤ max √((1 − z)² + z²) √(|G|₂² + 1) because (1 − z, z) acts on the stacked
matrices; in the ∞-norm the bound is taken row by row. Globally n' ≤ 1, r' and z' ≤ 1/4,
|h − n| ≤ 2 and |q| ≤ c̄ = max_i (Σ_j |U_n,ij| + |b_hn,i|) give, for the block of h,

    √(1 + (|U_n| + c̄/4 |U_r|)²) + |U_z|/2,   and   |W_z|/2 + |W_n| + c̄/4 |W_r|   for that of x.

Second derivative, product rule along v (a_·, q and h are affine in v):

    D²f = (1 − z) D²n + (h − n) z'' (Da_z v)² + 2 z' (Da_z v)(Dh v − Dn v),
    D²n = n'' (Dp v)² + n' (q r'' (Da_r v)² + 2 r' (Da_r v)(Dq v)),   Dp = Da_n + r Dq + q r' Da_r.

|A_i v| ≤ |A_i| |v| bounds the components of D²f row by row, and
|(s A v)(B v)|₂ ≤ |diag(s |A_i|) B|₂ |v|² bounds each term in the 2-norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from sdewm.certificates.activations import SIGMOID, TANH, Triple
from sdewm.certificates.derivative_enclosure import Ball, Enclosure
from sdewm.certificates.interval import UNIT, Interval, above, image
from sdewm.certificates.layers import exact, mean_value
from sdewm.certificates.norms import frobenius, row_norms, row_sums, scaled_norm, spectral_norm

SAFE = 1.0 + 2.0**-48  # above the rounding of up to 30 operations on terms of one sign


@dataclass(frozen=True)
class Gates:
    """Ranges over a box of the gates and of the factors of the matrices in Df, each (H,)."""

    fresh: Interval  # 1 − z
    kept: Interval  # z
    candidate: Interval  # n
    new: Interval  # n'
    open: Interval  # r
    inner: Interval  # q r'
    change: Interval  # (h − n) z'
    inner_size: torch.Tensor  # |q|
    gap_size: torch.Tensor  # |h − n|
    bends: tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # |r''|, |z''|, |n''|
    slopes: tuple[torch.Tensor, torch.Tensor]  # r', z'


@dataclass(frozen=True)
class GatedRecurrentUnit:
    """Weights of nn.GRUCell in float64, split by gate in torch's order r, z, n."""

    input_weights: tuple[torch.Tensor, ...]  # W_r, W_z, W_n, each (H, I)
    hidden_weights: tuple[torch.Tensor, ...]  # U_r, U_z, U_n, each (H, H)
    input_biases: tuple[torch.Tensor, ...]
    hidden_biases: tuple[torch.Tensor, ...]

    @staticmethod
    def of(cell: nn.GRUCell) -> GatedRecurrentUnit:
        """The weights of a cell."""
        like = cell.weight_ih[:, 0]
        sources = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        parts = [exact(tensor, like).chunk(3) for tensor in sources]
        return GatedRecurrentUnit(*parts)

    @property
    def inputs(self) -> int:
        """Number of inputs I."""
        return self.input_weights[0].shape[1]

    @property
    def hidden(self) -> int:
        """Number of hidden units H."""
        return self.hidden_weights[0].shape[1]

    @property
    def size(self) -> int:
        """Size I + H of the argument (x, h)."""
        return self.inputs + self.hidden

    def taylor(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> Triple:
        """f, Df y and Df w + D²f[y, y], each (B, H), at rows (input, hidden) (B, I + H)."""
        parts = [(part[..., : self.inputs], part[..., self.inputs :]) for part in (x, y, w)]
        hidden = (parts[0][1], parts[1][1], parts[2][1])

        def affine(index: int) -> tuple[Triple, Triple]:
            into = [given @ self.input_weights[index].T for given, _ in parts]
            back = [state @ self.hidden_weights[index].T for _, state in parts]
            into[0] = into[0] + self.input_biases[index]
            back[0] = back[0] + self.hidden_biases[index]
            return (into[0], into[1], into[2]), (back[0], back[1], back[2])

        reset, update = (SIGMOID.taylor(*_sum(*affine(index))) for index in (0, 1))
        into, inner = affine(2)
        new = TANH.taylor(*_sum(into, _times(reset, inner)))
        gap = (hidden[0] - new[0], hidden[1] - new[1], hidden[2] - new[2])
        return _sum(new, _times(update, gap))

    def matrices(self) -> list[torch.Tensor]:
        """Da_n, Dq, Da_r, Da_z and Dh, each (H, I + H)."""
        (w_r, w_z, w_n), (u_r, u_z, u_n) = self.input_weights, self.hidden_weights
        blocks = [
            (w_n, torch.zeros_like(u_n)),
            (torch.zeros_like(w_n), u_n),
            (w_r, u_r),
            (w_z, u_z),
            (torch.zeros_like(w_n), torch.eye(self.hidden, dtype=torch.float64)),
        ]
        return [torch.cat(pair, dim=1) for pair in blocks]

    def gates(self, box: Interval) -> Gates:
        """Ranges over a box (I + H,) whose hidden part is inside [−1, 1]."""
        given, hidden = box[: self.inputs], box[self.inputs :]

        def affine(index: int) -> tuple[Interval, Interval]:
            into = image(self.input_weights[index], given)
            back = image(self.hidden_weights[index], hidden)
            return (
                into.plus(Interval.of(self.input_biases[index])),
                back.plus(Interval.of(self.hidden_biases[index])),
            )

        (r_in, r_back), (z_in, z_back), (n_in, q) = affine(0), affine(1), affine(2)
        a_r, a_z = r_in.plus(r_back), z_in.plus(z_back)
        one = torch.ones(self.hidden, dtype=torch.float64)
        share = Interval(torch.zeros_like(one), one)
        opened, kept = (SIGMOID.value_range(a).meet(share) for a in (a_r, a_z))
        p = n_in.plus(opened.times(q))
        candidate = TANH.value_range(p).meet(Interval(-one, one))
        r_slope, z_slope = SIGMOID.slope_range(a_r), SIGMOID.slope_range(a_z)
        gap = hidden.minus(candidate)
        return Gates(
            fresh=Interval.of(one).minus(kept).meet(share),
            kept=kept,
            candidate=candidate,
            new=TANH.slope_range(p),
            open=opened,
            inner=q.times(r_slope),
            change=gap.times(z_slope),
            inner_size=q.magnitude,
            gap_size=gap.magnitude,
            bends=(SIGMOID.bend_bound(a_r), SIGMOID.bend_bound(a_z), TANH.bend_bound(p)),
            slopes=(r_slope.magnitude, z_slope.magnitude),
        )

    def values(self, gates: Gates, hidden: Interval) -> Interval:
        """An interval that contains the next hidden state (H,), which lies between n and h."""
        mixed = gates.fresh.times(gates.candidate).plus(gates.kept.times(hidden))
        hull = Interval(
            torch.minimum(gates.candidate.lower, hidden.lower),
            torch.maximum(gates.candidate.upper, hidden.upper),
        )
        return mixed.meet(hull)

    def enclose(self, box: Interval) -> dict[str, Enclosure]:
        """Enclosures over a box (I + H,): of f ("whole") and of the blocks "input" and "hidden"."""
        gates, hidden = self.gates(box), box[self.inputs :]
        output, matrices = self.values(gates, hidden), self.matrices()
        inputs = self.inputs
        parts = {"whole": slice(None), "input": slice(inputs), "hidden": slice(inputs, None)}
        found = {
            name: _enclosure(gates, [matrix[:, columns] for matrix in matrices], output)
            for name, columns in parts.items()
        }
        if box.finite:
            centre = Interval.of(box.midpoint)
            point = self.values(self.gates(centre), centre[self.inputs :])
            better = mean_value(point, found["whole"].jacobian, box.minus(centre))
            found["whole"] = found["whole"].with_output(output.meet(better))
        return found


def _enclosure(gates: Gates, matrices: list[torch.Tensor], output: Interval) -> Enclosure:
    fresh_new = gates.fresh.times(gates.new)
    factors = [
        fresh_new,
        fresh_new.times(gates.open),
        fresh_new.times(gates.inner),
        gates.change,
        gates.kept,
    ]
    lengths, sums = [row_norms(part) for part in matrices], [row_sums(part) for part in matrices]
    return Enclosure(
        output,
        *_combined(factors, matrices),
        _lipschitz_2(gates, matrices),
        _lipschitz_inf(gates, sums),
        _curvature_2(gates, matrices, lengths),
        _components(gates, lengths),
        _components(gates, sums),
    )


def _sum(a: Triple, b: Triple) -> Triple:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _times(a: Triple, b: Triple) -> Triple:
    return a[0] * b[0], a[1] * b[0] + a[0] * b[1], a[2] * b[0] + 2 * a[1] * b[1] + a[0] * b[2]


def _combined(factors: list[Interval], matrices: list[torch.Tensor]) -> tuple[Interval, Ball]:
    """Interval and ball around Σ_k D_k S_k for diagonal D_k in given ranges."""
    jacobian, centre = Interval.of(torch.zeros_like(matrices[0])), torch.zeros_like(matrices[0])
    radius, left, right = 0.0, [], []
    for factor, matrix in zip(factors, matrices, strict=True):
        column = Interval(factor.lower[:, None], factor.upper[:, None])
        jacobian = jacobian.plus(column.times(Interval.of(matrix)))
        term = factor.midpoint[:, None] * matrix
        centre = centre + term
        # The k units of D_k weigh A with √r and B with √r S; more evenly with the rows of S.
        root = torch.sqrt(factor.radius) * (1.0 + 4.0 * UNIT)
        weight = torch.sqrt(row_norms(matrix)).clamp(min=2.0**-100)
        left.append(torch.diag(root * weight))
        right.append((root / weight)[:, None] * matrix)
        radius += 8.0 * UNIT * (frobenius(term) + frobenius(left[-1]) * frobenius(right[-1]))
        radius += UNIT * frobenius(centre)
    whole_left, whole_right = torch.cat(left, dim=1), torch.cat(right)
    norms = (spectral_norm(whole_left), spectral_norm(whole_right))
    return jacobian, Ball(centre, whole_left, whole_right, norms, above(radius))


def _lipschitz_2(gates: Gates, matrices: list[torch.Tensor]) -> float:
    candidate, carried, reset, update, hidden = matrices
    new = gates.new.magnitude
    direct = math.hypot(
        scaled_norm(new, candidate), scaled_norm(new * gates.open.magnitude * SAFE, carried)
    )
    gated = scaled_norm(new * gates.inner.magnitude * SAFE, reset)
    change = scaled_norm(gates.change.magnitude, update)
    whole = above(direct + gated)
    if not bool(hidden.any()):  # the block of x: nothing is carried over
        return above(float(gates.fresh.upper.max()) * whole + change)
    ends = (gates.kept.lower, gates.kept.upper)  # (1 − z)² + z² is convex in z
    turning = max(float(((1 - z) ** 2 + z**2).max()) for z in ends) ** 0.5
    return above(turning * math.hypot(whole, 1.0) + change)


def _candidate_rows(gates: Gates, lengths: list[torch.Tensor]) -> torch.Tensor:
    """Upper bounds of the rows of Dp."""
    candidate, carried, reset = lengths[:3]
    total = candidate + gates.open.magnitude * carried + gates.inner.magnitude * reset
    return total * SAFE


def _lipschitz_inf(gates: Gates, lengths: list[torch.Tensor]) -> float:
    rows = gates.new.magnitude * _candidate_rows(gates, lengths)
    ends = [(1 - z) * rows + z * lengths[4] for z in (gates.kept.lower, gates.kept.upper)]
    total = torch.maximum(*ends) + gates.change.magnitude * lengths[3]
    return above(float(total.max()) * SAFE)


def _components(gates: Gates, lengths: list[torch.Tensor]) -> torch.Tensor:
    """Upper bounds of |D²f_i[v, v]| / |v|² from lengths of the rows in the dual norm."""
    r_bend, z_bend, n_bend = gates.bends
    r_slope, z_slope = gates.slopes
    _, carried, reset, update, hidden = lengths
    rows, new = _candidate_rows(gates, lengths), gates.new.magnitude
    second = gates.inner_size * r_bend * reset**2 + 2 * r_slope * reset * carried
    total = gates.fresh.magnitude * (n_bend * rows**2 + new * second)
    total = total + gates.gap_size * z_bend * update**2
    return (total + 2 * z_slope * update * (hidden + new * rows)) * SAFE


def _curvature_2(gates: Gates, matrices: list[torch.Tensor], lengths: list[torch.Tensor]) -> float:
    r_bend, z_bend, n_bend = gates.bends
    r_slope, z_slope = gates.slopes
    candidate, carried, reset, update, _ = matrices
    rows, new, fresh = _candidate_rows(gates, lengths), gates.new.magnitude, gates.fresh.magnitude
    size_p = above(
        math.hypot(spectral_norm(candidate), scaled_norm(gates.open.magnitude, carried))
        + scaled_norm(gates.inner.magnitude, reset)
    )
    fresh_new = fresh * new * SAFE
    bends = [
        float((fresh * n_bend * rows).max()) * size_p,
        scaled_norm(fresh_new * gates.inner_size * r_bend * lengths[2] * SAFE, reset),
        2
        * min(
            scaled_norm(fresh_new * r_slope * lengths[1] * SAFE, reset),
            scaled_norm(fresh_new * r_slope * lengths[2] * SAFE, carried),
        ),
        scaled_norm(gates.gap_size * z_bend * lengths[3] * SAFE, update),
        2 * scaled_norm(z_slope * (lengths[4] + new * rows) * SAFE, update),
    ]
    return above(math.fsum(bends) * SAFE)

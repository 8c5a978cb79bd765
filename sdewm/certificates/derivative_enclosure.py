"""Enclosures of a map and its derivatives over a box, and their composition.

For a map f: Rⁿ → Rᵐ and a box, an `Enclosure` holds an interval that contains f, an interval and a
ball in the 2-norm that contain Df, and bounds of |Df| and |D²f[v, v]|. Composition of f with g:

    Lip(f∘g) ≤ Lip(f) Lip(g),   H(f∘g) ≤ H(f) Lip(g)² + Lip(f) H(g),
    |D²(f∘g)_i[v, v]| ≤ h_i(f) Lip(g)² + Σ_j |∂_j f_i| h_j(g)            (component by component),

and for an elementwise φ after g, with rows J_i of Dg,

    |D²(φ∘g)_i[v, v]| = |φ''(g_i) (J_i v)² + φ' D²g_i[v, v]| ≤ |φ''| |J_i|² + |φ'| h_i(g),
    |diag(φ'') (Jv)²| ≤ |diag(|φ''_i| |J_i|) J| |v|²                     (2-norm).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from functools import cached_property

import torch

from sdewm.certificates.interval import UNIT, Interval, above, gamma, product
from sdewm.certificates.norms import (
    LEAST_NORM,
    frobenius,
    multiply,
    row_norms,
    row_sums,
    scaled_norm,
    spectral_norm,
)


@dataclass(frozen=True)
class Ball:
    """The set of matrices M + A R B + E with R diagonal, |R| ≤ 1, and |E|₂ ≤ radius.

    The term A R B represents the range of slopes of one layer of activations: V D W with D in c ± r
    equals V c W + (V r^½) R (r^½ W).
    """

    centre: torch.Tensor  # M, (m, n)
    left: torch.Tensor  # A, (m, k); or (m,), the diagonal matrix
    right: torch.Tensor  # B, (k, n)
    norms: tuple[float, float]  # not below |A|₂ and |B|₂
    radius: float

    @cached_property
    def centre_norm(self) -> float:
        """An upper bound of |M|₂."""
        return spectral_norm(self.centre)

    @cached_property
    def distance(self) -> float:
        """An upper bound of the 2-norm distance of any member from M."""
        return above(self.norms[0] * self.norms[1] + self.radius)

    @property
    def dense_left(self) -> torch.Tensor:
        """A as a matrix."""
        return torch.diag(self.left) if self.left.ndim == 1 else self.left


def point_ball(matrix: torch.Tensor, radius: float = 0.0) -> Ball:
    """The ball around a matrix."""
    rows, columns = matrix.shape
    nothing = torch.zeros(rows, 0, dtype=torch.float64)
    return Ball(matrix, nothing, torch.zeros(0, columns, dtype=torch.float64), (0.0, 0.0), radius)


@dataclass(frozen=True)
class Enclosure:
    """Proven bounds of f over a box; component_p[i] bounds |D²f_i[v, v]| / |v|_p²."""

    output: Interval  # (m,)
    jacobian: Interval  # (m, n)
    ball: Ball
    lipschitz_2: float
    lipschitz_inf: float
    curvature_2: float
    component_2: torch.Tensor  # (m,)
    component_inf: torch.Tensor  # (m,)
    magnitude: torch.Tensor = field(init=False)  # (m, n), largest |∂_j f_i|

    def __post_init__(self) -> None:
        """Replace each bound by the least value that the others imply."""
        magnitude = self.jacobian.magnitude
        object.__setattr__(self, "magnitude", magnitude)
        sums = float(row_sums(magnitude).max())
        object.__setattr__(self, "lipschitz_inf", min(self.lipschitz_inf, sums))
        if self.ball.left.ndim == 2:  # after activations the product is kept: `norm_2` or the next
            # layer looks at the ball
            object.__setattr__(self, "lipschitz_2", min(self.lipschitz_2, self.ball_bound()))
        curvature = min(self.curvature_2, frobenius(self.component_2))
        object.__setattr__(self, "curvature_2", curvature)

    def ball_bound(self) -> float:
        """An upper bound of the 2-norm of every matrix in both enclosures of Df."""
        bound = above(self.ball.centre_norm + self.ball.distance)
        spread = interval_distance(self.jacobian)
        if spread < self.ball.distance:
            bound = min(bound, above(spectral_norm(self.jacobian.midpoint) + spread))
        return bound

    def with_output(self, output: Interval) -> Enclosure:
        """A copy with another interval of outputs."""
        other = copy.copy(self)
        object.__setattr__(other, "output", output)
        return other

    @property
    def curvature_inf(self) -> float:
        """Bound of |D²f[v, v]|_∞ / |v|_∞²: the largest entry of component_inf."""
        return float(self.component_inf.max())


def interval_distance(matrix: Interval) -> float:
    """Upper bound √(|R|₁ |R|_∞) of the 2-norm distance of any member from the midpoint."""
    if not matrix.finite:
        return math.inf
    radius = matrix.radius
    rows, columns = float(row_sums(radius).max()), float(row_sums(radius.T).max())
    if LEAST_NORM < rows * columns < math.inf:
        return above(math.sqrt(rows * columns))
    return above(math.sqrt(rows) * math.sqrt(columns))


def after_linear(
    matrix: torch.Tensor, norms: tuple[float, float], inner: Enclosure, output: Interval
) -> Enclosure:
    """The enclosure of x -> matrix @ g(x) + b; `norms` are those of the matrix, 2 and ∞."""
    ball = inner.ball
    centre, first = multiply(matrix, ball.centre)
    left, rounding, left_norm = _times_left(matrix, norms[0], ball)
    radius = norms[0] * ball.radius + first + rounding * ball.norms[1]
    return Enclosure(
        output,
        product(Interval.of(matrix), inner.jacobian),
        Ball(centre, left, ball.right, (left_norm, ball.norms[1]), above(radius)),
        above(norms[0] * inner.lipschitz_2),
        above(norms[1] * inner.lipschitz_inf),
        scaled(norms[0], inner.curvature_2),
        weighted(matrix.abs(), inner.component_2),
        weighted(matrix.abs(), inner.component_inf),
    )


def _times_left(matrix: torch.Tensor, norm: float, ball: Ball) -> tuple[torch.Tensor, float, float]:
    """The matrix times A, a bound of the rounding, and one of the norm of the product."""
    if ball.left.ndim == 2:
        left, rounding = multiply(matrix, ball.left)
    else:
        left, rounding = matrix * ball.left, UNIT * frobenius(matrix) * ball.norms[0]
        if bool((ball.left == ball.left[0]).all()):  # as for the whole space
            return left, rounding, above(norm * float(ball.left[0]))
    return left, rounding, spectral_norm(left)


def scaled(factor: float, curvature: float) -> float:
    """The product, rounded up; ∞ stays ∞."""
    return above(factor * curvature) if math.isfinite(curvature) else math.inf


def weighted(matrix: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
    """Upper bounds of matrix @ components, both not negative; ∞ if a component is."""
    if not bool(torch.isfinite(components).all()):
        return torch.full((len(matrix),), torch.inf, dtype=torch.float64)
    return (matrix @ components) * (1.0 + 2.0 * gamma(matrix.shape[1]))


def after_elementwise(
    slope: Interval, bend: torch.Tensor, inner: Enclosure, output: Interval
) -> Enclosure:
    """The enclosure of x -> φ(g(x)); slope and bend bound φ' and |φ''| over the values of g."""
    ball, steepest = inner.ball, slope.magnitude
    most = float(steepest.max())
    middle, root = slope.midpoint, torch.sqrt(slope.radius) * (1.0 + 4.0 * UNIT)
    centre, right = middle[:, None] * ball.centre, root[:, None] * ball.centre
    rounding = UNIT * (frobenius(centre) + float(root.max()) * frobenius(right))
    rows = torch.minimum(
        row_norms(inner.magnitude), (row_norms(ball.centre) + ball.distance) * (1.0 + 4.0 * UNIT)
    )
    bent = bend * rows * (1.0 + 4.0 * UNIT)
    bending = min(
        float(bent.max()) * inner.lipschitz_2,
        scaled_norm(bent, ball.centre, ball.centre_norm) + float(bent.max()) * ball.distance,
    )

    def component(lengths: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        total = (bend * lengths**2 + steepest * inside) * (1.0 + 8.0 * UNIT)
        return total.nan_to_num(nan=torch.inf, posinf=torch.inf)

    return Enclosure(
        output,
        Interval(slope.lower[:, None], slope.upper[:, None]).times(inner.jacobian),
        Ball(
            centre,
            root,
            right,
            (float(root.max()), scaled_norm(root, ball.centre, ball.centre_norm)),
            above(most * ball.distance + rounding),
        ),
        above(most * inner.lipschitz_2),
        above(most * inner.lipschitz_inf),
        above(bending + scaled(most, inner.curvature_2)) if math.isfinite(bending) else math.inf,
        component(rows, inner.component_2),
        component(row_sums(inner.magnitude), inner.component_inf),
    )


def after(outer: Enclosure, inner: Enclosure) -> Enclosure:
    """The enclosure of f∘g from those of f over the values of g, and of g.

    (M + A R B + E)(M' + E') = M M' + A R (B M') + E M' + (M + A R B + E) E'.
    """
    ball, first = outer.ball, inner.ball
    centre, error = multiply(ball.centre, first.centre)
    right, right_error = multiply(ball.right, first.centre)
    radius = ball.radius * first.centre_norm + outer.lipschitz_2 * first.distance + error
    radius += ball.norms[0] * right_error
    norms = (ball.norms[0], spectral_norm(right))
    lipschitz, steepest = inner.lipschitz_2, inner.lipschitz_inf
    return Enclosure(
        outer.output,
        product(outer.jacobian, inner.jacobian),
        Ball(centre, ball.dense_left, right, norms, above(radius)),
        above(outer.lipschitz_2 * lipschitz),
        above(outer.lipschitz_inf * steepest),
        above(
            scaled(lipschitz * lipschitz, outer.curvature_2)
            + scaled(outer.lipschitz_2, inner.curvature_2)
        ),
        _added(
            outer.component_2 * (lipschitz * lipschitz),
            weighted(outer.magnitude, inner.component_2),
        ),
        _added(
            outer.component_inf * (steepest * steepest),
            weighted(outer.magnitude, inner.component_inf),
        ),
    )


def _added(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return ((first + second) * (1.0 + 8.0 * UNIT)).nan_to_num(nan=torch.inf, posinf=torch.inf)


def plus_identity(inner: Enclosure, output: Interval) -> Enclosure:
    """The enclosure of x -> x + g(x)."""
    identity = torch.eye(len(inner.component_2), dtype=torch.float64)
    ball = inner.ball
    rounding = UNIT * (1.0 + float(ball.centre.abs().max()))  # the diagonal alone is rounded
    return Enclosure(
        output,
        inner.jacobian.plus(Interval.of(identity)),
        Ball(
            ball.centre + identity,
            ball.dense_left,
            ball.right,
            ball.norms,
            above(ball.radius + rounding),
        ),
        above(1.0 + inner.lipschitz_2),
        above(1.0 + inner.lipschitz_inf),
        inner.curvature_2,
        inner.component_2,
        inner.component_inf,
    )


def identity_on(box: Interval) -> Enclosure:
    """The enclosure of the identity over a box."""
    size = len(box.lower)
    identity, nothing = torch.eye(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    jacobian = Interval.of(identity)
    return Enclosure(box, jacobian, point_ball(identity), 1.0, 1.0, 0.0, nothing, nothing)

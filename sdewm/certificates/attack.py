"""Lower bounds of suprema of derivatives: sampled points, then gradient ascent.

What is found is a value at a point of the region: a lower bound of the supremum, never a
certificate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sdewm.base.checks import check_count
from sdewm.base.taylor import second_order

Function = Callable[[torch.Tensor], torch.Tensor]
Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (B, n), (B, n) -> (B,)
Turn = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (direction, gradient) -> direction


@dataclass(frozen=True)
class LowerBounds:
    """The largest values found; the names are those of `Certificate`."""

    lipschitz_2: float
    lipschitz_inf: float
    curvature_2: float
    curvature_inf: float
    log_norm_2: float | None


@dataclass(frozen=True)
class Target:
    """A map (B, n) -> (B, m), twice differentiable by nested jvp, and a box (n,) to look in."""

    function: Function
    low: torch.Tensor
    high: torch.Tensor
    square: bool

    def points(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Points (count, n): uniform in the box, every fourth one at a corner of it.

        An unbounded coordinate is normal, with a size per point between 1/30 and 10.
        """
        size = len(self.low)
        share = torch.rand(count, size, dtype=torch.float64, generator=generator)
        share[::4] = share[::4].round()
        normal = torch.randn(count, size, dtype=torch.float64, generator=generator)
        scale = torch.rand(count, 1, dtype=torch.float64, generator=generator)
        normal = normal * 10.0 ** (2.5 * scale - 1.5)
        bounded = torch.isfinite(self.low) & torch.isfinite(self.high)
        inside = self.low.nan_to_num() + share * self.widths
        return self.project(torch.where(bounded, inside, normal))

    @property
    def widths(self) -> torch.Tensor:
        """Sizes of the box (n,), 1 where it is unbounded."""
        return torch.where(torch.isfinite(self.high - self.low), self.high - self.low, 1.0)

    def project(self, points: torch.Tensor) -> torch.Tensor:
        """The nearest points in the box."""
        return torch.minimum(torch.maximum(points, self.low), self.high)

    def first(self, points: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Df(x) v, (B, m)."""
        return second_order(lambda x: (self.function(x),), (points,), [(directions,)], {})[1][0][0]

    def second(self, points: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """D²f(x)[v, v], (B, m)."""
        nothing = (torch.zeros_like(points),)
        function = (points,), [(directions,)], {(0, 0): nothing}
        return second_order(lambda x: (self.function(x),), *function)[2][0, 0][0]

    def jacobian(self, point: torch.Tensor) -> torch.Tensor:
        """Df at one point (n,), as (m, n)."""
        basis = torch.eye(len(point), dtype=torch.float64)
        return self.first(point.repeat(len(point), 1), basis).T.detach()


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-300)


def _turn_2(direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The power method: |Jv| has the gradient JᵀJv/|Jv|."""
    still = torch.linalg.vector_norm(gradient, dim=1, keepdim=True) == 0
    return torch.where(still, direction, _unit(gradient))


def _turn_inf(direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The corner of the cube to which the gradient points."""
    return torch.where(gradient == 0, direction, torch.sign(gradient))


def _ascend(
    target: Target, measure: Measure, turn: Turn, x: torch.Tensor, v: torch.Tensor, steps: int
) -> tuple[float, torch.Tensor]:
    """The largest value of the measure met on the way, and its point (n,).

    Each start moves from its best point along the gradient in units of the box and turns v; a step
    that does not help is halved.
    """
    widths = target.widths

    def look(x: torch.Tensor, v: torch.Tensor) -> list[torch.Tensor]:
        x, v = x.clone().requires_grad_(), v.clone().requires_grad_()
        value = measure(x, v)
        if not value.requires_grad:
            return [value, torch.zeros_like(x), torch.zeros_like(v)]
        slopes = torch.autograd.grad(value.sum(), (x, v), allow_unused=True)
        filled = [torch.zeros_like(x) if slope is None else slope for slope in slopes]
        return [value.detach(), *(slope.nan_to_num(0.0, 0.0, 0.0) for slope in filled)]

    value, slope_x, slope_v = look(x, v)
    rate = torch.full((len(x), 1), 0.25, dtype=torch.float64)
    for _ in range(steps):
        move = _unit(slope_x * widths) * widths * len(widths) ** 0.5
        next_x, next_v = target.project(x + rate * move), turn(v, slope_v)
        found = look(next_x, next_v)
        better = found[0] > value
        rate = torch.where(better[:, None], 1.2 * rate, 0.4 * rate)
        value = torch.where(better, found[0], value)
        chosen = better[:, None]
        x, v = torch.where(chosen, next_x, x), torch.where(chosen, next_v, v)
        slope_x = torch.where(chosen, found[1], slope_x)
        slope_v = torch.where(chosen, found[2], slope_v)
    best = int(value.nan_to_num(nan=-torch.inf).argmax())
    return float(value[best]), x[best]


def search(target: Target, seed: int = 0, starts: int = 32, steps: int = 60) -> LowerBounds:
    """Maximise each quantity over points x of the box and unit vectors v together.

    |Df(x) v|, |D²f(x)[v, v]| (2- and ∞-norm) and vᵀ Df(x) v are lower bounds for any x and v. x
    follows the gradient; v takes a step of the power method (2-norm), or goes to the corner of the
    cube at which the gradient points. At the best points the Jacobian is formed, and its norms and
    largest symmetric eigenvalue are computed.

    Args:
        target: the map and the box.
        seed: seed of the starting points.
        starts: how many points.
        steps: of the ascent; 0 for a sampled maximum.

    Raises:
        ValueError: if `seed`, `starts` or `steps` is not a whole number that is large enough.
    """
    seed = check_count("seed", seed, minimum=0)
    starts, steps = check_count("starts", starts), check_count("steps", steps, minimum=0)
    generator = torch.Generator().manual_seed(seed)
    x = target.points(starts, generator)
    raw = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    unit, corner = _unit(raw), torch.sign(raw)

    def length(vectors: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(vectors, dim=1)

    def most(vectors: torch.Tensor) -> torch.Tensor:
        return vectors.abs().amax(dim=1)

    first, second = target.first, target.second
    found = {
        "lipschitz_2": (lambda x, v: length(first(x, v)), _turn_2, unit),
        "lipschitz_inf": (lambda x, v: most(first(x, v)), _turn_inf, corner),
        "curvature_2": (lambda x, v: length(second(x, v)), _turn_2, unit),
        "curvature_inf": (lambda x, v: most(second(x, v)), _turn_inf, corner),
    }
    values, points = {}, {}
    for name, (measure, turn, v) in found.items():
        values[name], points[name] = _ascend(target, measure, turn, x, v, steps)
    if target.square:
        shift = 2.0 * values["lipschitz_2"]

        def turn_shifted(direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
            return _unit(gradient + shift * direction)

        def along(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return (first(x, v) * v).sum(dim=1)

        values["log_norm_2"], points["log_norm_2"] = _ascend(
            target, along, turn_shifted, x, unit, steps
        )
    for name in ("lipschitz_2", "lipschitz_inf", "log_norm_2"):
        if name in points:
            exact = _exact(name, target.jacobian(points[name]))
            values[name] = max(values[name], exact)
    return LowerBounds(**{"log_norm_2": None, **values})


def _exact(name: str, jacobian: torch.Tensor) -> float:
    if name == "lipschitz_2":
        return float(torch.linalg.matrix_norm(jacobian, 2))
    if name == "lipschitz_inf":
        return float(jacobian.abs().sum(dim=1).max())
    return float(torch.linalg.eigvalsh((jacobian + jacobian.T) / 2)[-1])

"""Lower bounds of suprema of derivatives, by random sampling and gradient ascent.

Each result is attained at a point of the region. It is a lower bound of the supremum and never a
certificate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sdewm.base.checks import check_count

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Taylor = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Triple]
Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (B, n), (B, n) -> (B,)
Turn = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (direction, gradient) -> direction

MOST_ROWS = 4096  # of one pass that forms all Jacobians


@dataclass(frozen=True)
class LowerBounds:
    """The largest values found by the search; names as in `Certificate`."""

    lipschitz_2: float
    lipschitz_inf: float
    curvature_2: float
    curvature_inf: float
    log_norm_2: float | None


@dataclass(frozen=True)
class Target:
    """A map f with its derivatives, and the box (n,) that is searched.

    taylor(x, y, w) returns (f(x), Df(x) y, Df(x) w + D²f(x)[y, y]), propagated layer by layer.
    Nested forward differentiation by torch is not used, as it is silently wrong for some
    operations (layer_norm). Recording a corrected graph (`base.taylor.fuse`) would take longer than
    the search.
    """

    taylor: Taylor
    low: torch.Tensor
    high: torch.Tensor
    square: bool

    def points(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Random points (count, n): uniform in the box, every fourth one at a corner.

        Unbounded coordinates are normal, with a random scale per point between 1/30 and 10.
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
        """Side lengths of the box (n,), 1 for unbounded sides."""
        return torch.where(torch.isfinite(self.high - self.low), self.high - self.low, 1.0)

    def project(self, points: torch.Tensor) -> torch.Tensor:
        """The nearest points in the box."""
        return torch.minimum(torch.maximum(points, self.low), self.high)

    def first(self, points: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Df(x) v, (B, m)."""
        return self.taylor(points, directions, torch.zeros_like(points))[1]

    def second(self, points: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """D²f(x)[v, v], (B, m)."""
        return self.taylor(points, directions, torch.zeros_like(points))[2]

    def jacobians(self, points: torch.Tensor) -> torch.Tensor:
        """Jacobians Df (B, m, n) at points (B, n), in one pass of B·n rows."""
        count, size = points.shape
        basis = torch.eye(size, dtype=torch.float64).repeat(count, 1)
        columns = self.first(points.repeat_interleave(size, dim=0), basis)
        return columns.reshape(count, size, -1).transpose(1, 2).detach()


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-300)


def _turn_2(direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The power method: |Jv| has the gradient JᵀJv/|Jv|. A gradient of zero turns nothing."""
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


def search(target: Target, seed: int = 0, starts: int = 64, steps: int = 60) -> LowerBounds:
    """Maximise each quantity jointly over points x of the box and directions v.

    |Df(x) v| / |v|, |D²f(x)[v, v]| / |v|² (2- and ∞-norm) and vᵀ Df(x) v / |v|² are lower bounds
    for any x and v. The search has three stages. (1) If the Jacobians at the starting points are
    small enough, they are formed and give the initial v. (2) x follows the gradient, and v takes a
    step of the power method (2-norm) or moves to the corner of the cube in the direction of the
    gradient (∞-norm). (3) At the best points the Jacobian is formed, and its norms and the largest
    eigenvalue of its symmetric part are computed.

    Args:
        target: the map and the box.
        seed: seed of the starting points, at least 0.
        starts: number of starting points, at least 1.
        steps: number of steps of gradient ascent; 0 gives the maximum over the sampled points.

    Raises:
        ValueError: `seed`, `starts` or `steps` is not a whole number or is too small.
    """
    seed = check_count("seed", seed, minimum=0)
    starts, steps = check_count("starts", starts), check_count("steps", steps, minimum=0)
    generator = torch.Generator().manual_seed(seed)
    x = target.points(starts, generator)
    raw = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    directions = {"2": _unit(raw), "inf": torch.sign(raw), "log": _unit(raw)}
    found: dict[str, float] = {}
    if x.numel() <= MOST_ROWS:
        found, directions = _sampled(target, x, directions)
    elif steps == 0:
        found, _ = _sampled(target, x[: max(1, MOST_ROWS // x.shape[1])], directions)
    if steps:
        for name, (value, point) in _ascents(target, x, directions, steps).items():
            found[name] = max(value, found.get(name, -torch.inf))
            if name in EXACT:
                here = float(EXACT[name](target.jacobians(point[None]))[0])
                found[name] = max(found[name], here)
    return LowerBounds(**{"log_norm_2": None, **found})


def _largest_symmetric(jacobians: torch.Tensor) -> torch.Tensor:
    return torch.linalg.eigvalsh((jacobians + jacobians.transpose(1, 2)) / 2)[:, -1]


EXACT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # (B, m, n) -> (B,)
    "lipschitz_2": lambda jacobians: torch.linalg.matrix_norm(jacobians, 2),
    "lipschitz_inf": lambda jacobians: jacobians.abs().sum(dim=2).amax(dim=1),
    "log_norm_2": _largest_symmetric,
}


def _sampled(
    target: Target, x: torch.Tensor, directions: dict[str, torch.Tensor]
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The largest values at the points, and the best directions at each of them."""
    jacobians = target.jacobians(x)
    names = [name for name in EXACT if target.square or name != "log_norm_2"]
    found = {name: float(EXACT[name](jacobians).max()) for name in names}
    rows = jacobians.abs().sum(dim=2).argmax(dim=1)
    corner = torch.sign(jacobians[torch.arange(len(x)), rows])
    leading = torch.linalg.svd(jacobians, full_matrices=False)[2][:, 0]
    best = {"2": leading, "inf": torch.where(corner == 0, 1.0, corner), "log": leading}
    if target.square:
        best["log"] = torch.linalg.eigh((jacobians + jacobians.transpose(1, 2)) / 2)[1][..., -1]
    tried = [best["2"], best["inf"], directions["2"][: len(x)], directions["inf"][: len(x)]]
    bends = target.second(x.repeat(len(tried), 1), torch.cat(tried)).detach()
    v = torch.cat(tried)
    lengths = _lengths(bends) / _lengths(v) ** 2
    heights = bends.abs().amax(dim=1) / v.abs().amax(dim=1) ** 2
    for name, values, start in (("2", lengths, "bend 2"), ("inf", heights, "bend inf")):
        found[f"curvature_{name}"] = float(values.max())
        chosen = values.reshape(len(tried), -1).argmax(dim=0)
        best[start] = torch.stack(tried)[chosen, torch.arange(len(x))]
    return found, best


def _lengths(vectors: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(vectors, dim=1)


def _ascents(
    target: Target, x: torch.Tensor, directions: dict[str, torch.Tensor], steps: int
) -> dict[str, tuple[float, torch.Tensor]]:
    """The largest value found of each quantity, with its point."""
    first, second = target.first, target.second
    unit = _unit(directions.get("bend 2", directions["2"]))
    corner = torch.sign(directions.get("bend inf", directions["inf"]))

    def most(vectors: torch.Tensor) -> torch.Tensor:
        return vectors.abs().amax(dim=1)

    plans: dict[str, tuple[Measure, Turn, torch.Tensor]] = {
        "lipschitz_2": (lambda x, v: _lengths(first(x, v)), _turn_2, directions["2"]),
        "lipschitz_inf": (lambda x, v: most(first(x, v)), _turn_inf, directions["inf"]),
        "curvature_2": (lambda x, v: _lengths(second(x, v)), _turn_2, unit),
        "curvature_inf": (lambda x, v: most(second(x, v)), _turn_inf, corner),
    }
    results = {
        name: _ascend(target, measure, turn, x, v, steps)
        for name, (measure, turn, v) in plans.items()
    }
    if target.square:
        shift = 2.0 * results["lipschitz_2"][0]

        def turn_shifted(direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
            return _turn_2(direction, gradient + shift * direction)

        def along(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return (first(x, v) * v).sum(dim=1)

        results["log_norm_2"] = _ascend(target, along, turn_shifted, x, directions["log"], steps)
    return results

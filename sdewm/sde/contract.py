"""The contract between sdewm and a system, checked at times and states that its paths visit.

Every function of the theory calls `require_contract` before it starts; `sdewm.check_system` shows
everything that is found, each finding with a remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from sdewm.base.checks import check_count, check_interval, check_output, check_place
from sdewm.base.findings import (
    Finding,
    batch_dependence,
    impurity,
    require,
    wrong_derivative,
)
from sdewm.base.smoothness import roughest
from sdewm.base.taylor import fuse
from sdewm.sde.system import (
    StepSystem,
    System,
    check_drivers,
    check_jacobians,
    diffusion_entries,
    diffusion_product,
    probing_increments,
    step_of,
)

Coefficient = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Loss = Callable[[torch.Tensor], torch.Tensor]
Path = list[tuple[torch.Tensor, torch.Tensor]]  # times () and states (B, D)
ROWS = 32  # paths that are followed
VISITED_STEPS = 256  # steps that they are followed for
TIMES = 6  # at which everything is checked
NOISE = "let noise enter by the diffusion only"


def check_system(
    system: System | StepSystem,
    x0: torch.Tensor,
    *,
    t1: float,
    steps: int,
    t0: float = 0.0,
    loss: Loss | None = None,
    error: Any = None,
) -> list[Finding]:
    """Check a system, and an error and a loss with it, where its paths go.

    A few paths are followed from the initial states given. At several of the times and states that
    they visit, the first ones included, every coefficient has to

        keep its arguments as they are        "in place"
        give the same value twice             "random"
        treat the rows of the batch apart     "rows" (at every step that is followed)
        compute in the precision of its input "precision"
        have right automatic derivatives      "derivatives"

    and the loss, at the ends of the paths, has to be continuous with a continuous slope as well
    ("smoothness"). A system that has f and g and `f_and_g_prod` has to be one system: paths follow
    the latter, Jacobians are those of f and g; and so has an error with a product ("product").

    Args:
        system: any object that torchsde accepts, in the Itô reading.
        x0: initial states `(D,)` or `(B, D)`.
        t1: end time.
        steps: number of Euler–Maruyama steps.
        t0: start time.
        loss: L(y) -> `(B,)`.
        error: a `sdewm.Perturbation`.

    Returns:
        The findings, the gravest first; empty if there are none.

    Raises:
        ValueError: arguments of another kind or shape; names the argument.

    >>> class Centred:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -(y - y.mean(0))
    ...     def g(self, t, y): return torch.ones_like(y)
    >>> x0 = torch.zeros(2, dtype=torch.float64)
    >>> for finding in check_system(Centred(), x0, t1=1.0, steps=10):
    ...     print(finding.check, "|", finding.message)
    rows | system.f at t = 0 mixes the rows of its batch
    """
    (start, end), steps = check_interval(t0, t1), check_count("steps", steps)
    if not isinstance(x0, torch.Tensor) or x0.dim() not in (1, 2) or not x0.is_floating_point():
        given = f"{tuple(x0.shape)} of {x0.dtype}" if isinstance(x0, torch.Tensor) else repr(x0)
        raise ValueError(f"x0={given}: expected a floating point tensor (D,) or (B, D).")
    check_place("x0", x0)
    if error is not None and not (hasattr(error, "drift") and hasattr(error, "diffusion")):
        raise ValueError(f"error={type(error).__name__}: expected a sdewm.Perturbation.")
    states = (x0.unsqueeze(0) if x0.dim() == 1 else x0).detach()
    coefficients = named_coefficients(system, states.new_tensor(start), states, error)
    path, mixed = follow(system, coefficients, states, start, end, steps)
    if loss is not None:
        if not callable(loss):
            raise ValueError(f"loss={loss!r}: expected a function (B, D) -> (B,).")
        ends = path[-1][1]
        check_output("loss", loss(ends.clone()), (len(ends),), like=ends)
    losses = {} if loss is None else {"loss": loss}
    return [
        *contract_findings(coefficients, path, losses, mixed),
        *_unequal_product(system, path),
        *_unequal_error(error, path),
    ]


def require_contract(
    system: System | StepSystem,
    states: torch.Tensor,
    interval: tuple[float, float],
    steps: int,
    *,
    error: Any = None,
    loss: Loss | None = None,
    loss_name: str = "loss",
    derivatives: bool = True,
) -> Path:
    """Raise ValueError for the gravest finding of `check_system`; called before any work.

    Args:
        system: protocol and shapes have been checked.
        states: initial states `(B, D)`.
        interval: start and end time.
        steps: of the scheme.
        error: a Perturbation.
        loss: L(y).
        loss_name: what messages call it.
        derivatives: whether derivatives of the coefficients are used.

    Returns:
        Times and states of the paths that were followed, see `follow`.
    """
    coefficients = named_coefficients(
        system, states.new_tensor(interval[0]), states.detach(), error
    )
    path, mixed = follow(system, coefficients, states.detach(), *interval, steps)
    losses = {} if loss is None else {loss_name: loss}
    require(contract_findings(coefficients, path, losses, mixed, derivatives))
    require(_unequal_product(system, path))
    require(_unequal_error(error, path))
    return path


def require_constant_jacobians(
    system: System, grid: torch.Tensor, path: Path, others: torch.Tensor | None = None
) -> None:
    """Raise ValueError if `system.jacobians()` is wrong on the grid or on the path, or in between.

    Args:
        system: a system with `jacobians()`.
        grid: all times of the scheme.
        path: of `require_contract`.
        others: see `check_jacobians`.
    """
    check_jacobians(system, grid, path[0][1], others)
    for t, y in path:
        check_jacobians(system, t.unsqueeze(0), y, others)


def named_coefficients(
    system: System | StepSystem, start: torch.Tensor, states: torch.Tensor, error: Any = None
) -> dict[str, Coefficient]:
    """The coefficients by the names that messages use, for initial states `(B, D)`."""
    if isinstance(system, System):
        entries = partial(diffusion_entries, system)
        found: dict[str, Coefficient] = {"system.f": system.f, "system.g": entries}
    else:
        unit = step_of(system)
        drivers = system.drivers  # type: ignore[attr-defined]

        def drift(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return unit(t, y, y.new_zeros(len(y), drivers))[0]

        def noise(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return unit(t, y, y.new_ones(len(y), drivers))[1]

        name = "system.f_and_g_prod"
        found = {f"{name} (drift)": drift, f"{name} (noise)": noise}
    for name in ("drift", "diffusion"):
        if error is not None and getattr(error, name) is not None:
            found[f"error.{name}"] = getattr(error, name)
    if error is not None and error.diffusion_product is not None:
        product = error.diffusion_product  # the diffusion itself may be too large for many rows
        drivers = check_drivers(system, start, states[:2].clone())

        def times(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return product(t, y, probing_increments(y, drivers))

        found["error.diffusion"] = times
    return found


def follow(
    system: System | StepSystem,
    coefficients: Mapping[str, Coefficient],
    states: torch.Tensor,
    start: float,
    end: float,
    steps: int,
) -> tuple[Path, dict[str, Finding]]:
    """Times and states of a few paths, the first of them the initial states themselves.

    Of a long run the first VISITED_STEPS steps are followed, and the later times are seen at the
    last states. A coefficient that changes its argument changes a copy. At each step the
    coefficients are evaluated a second time with a few of the rows in another order.

    Returns:
        The times and states at which everything is to be checked; and, by the names of the
        coefficients, where a row's value was found to depend on the batch around it.

    Raises:
        ValueError: the drift or the noise increment of a step has another shape or dtype.
    """
    kept = states[:ROWS]
    rows = kept if len(kept) > 1 else kept.expand(ROWS, -1)
    drivers = check_drivers(system, states.new_tensor(start), rows[:2].clone())
    step, size = step_of(system), (end - start) / steps
    generator = torch.Generator().manual_seed(0)
    followed = min(steps, VISITED_STEPS)
    wanted = {round(k * (followed - 1) / (TIMES - 1)) for k in range(TIMES)}
    largest = (0, followed - 1)  # steps at which a batch of many rows is tried
    path, mixed, y = [], {}, rows.clone()
    with torch.no_grad():
        for n in range(followed):
            t = states.new_tensor(start + n * size)
            if n in wanted:
                path.append((t, y.clone()))
            for name, function in coefficients.items():
                if name not in mixed:
                    place = f"{name} at t = {float(t):.4g}"
                    found = batch_dependence(
                        place, lambda x, t=t, f=function: f(t.clone(), x), (y,), n in largest
                    )
                    mixed |= {} if found is None else {name: found}
            noise = torch.randn(len(y), drivers, dtype=y.dtype, generator=generator).to(y.device)
            drift, change = step(t.clone(), y.clone(), size**0.5 * noise)
            for what, value in (("drift", drift), ("noise increment", change)):
                place = f"the {what} of system at t = {float(t):.4g}"
                check_output(place, value, tuple(y.shape), like=y)
            after = (y + size * drift + change).detach()
            if not bool(torch.isfinite(after).all()):
                break  # the computation itself says where paths leave the finite numbers
            y = after
        for k in range(1, TIMES) if steps > followed else ():
            late = start + size * (followed + round(k * (steps - 1 - followed) / (TIMES - 1)))
            path.append((states.new_tensor(late), y.clone()))
    return [*path, (states.new_tensor(end), y)], mixed


def contract_findings(
    coefficients: Mapping[str, Coefficient],
    path: Sequence[tuple[torch.Tensor, torch.Tensor]],
    losses: Mapping[str, Loss],
    mixed: Mapping[str, Finding],
    derivatives: bool = True,
) -> Iterable[Finding]:
    """The findings at the states of a path, whose last are the ends; one for each function.

    Those in `mixed` are known already.
    """
    *inner, (_, ends) = path
    # A component that no path moves says which row it is, such as the number of an episode.
    labels = (ends == path[0][1]).all(0)
    impure = False
    for name, function in coefficients.items():
        found = None
        for t, y in inner:
            place = f"{name} at t = {float(t):.4g}"
            found = _changed_time(place, function, t, y) or impurity(
                place, lambda x, t=t, f=function: f(t.clone(), x), (y,), NOISE
            )
            if found is not None:
                break
        found = found or mixed.get(name)
        if found is not None:
            impure = True
            yield found
    if derivatives and not impure:
        yield from _first_wrong_derivative(coefficients, inner)
    for name, loss in losses.items():
        found = (
            impurity(name, loss, (ends,), NOISE)
            or batch_dependence(name, loss, (ends,), largest=True)
            or _smoothness(name, loss, ends, labels)
        )
        if found is None and derivatives:
            found = wrong_derivative([name], fuse(lambda x, f=loss: (f(x),), (ends,)), (ends,))
        if found is not None:
            yield found


def _changed_time(
    place: str, function: Coefficient, t: torch.Tensor, y: torch.Tensor
) -> Finding | None:
    """A coefficient that changes the time, which the others are then given."""
    given = t.clone()
    with torch.no_grad():
        function(given, y.clone())
    if not given._version and torch.equal(given, t):
        return None
    remedy = "compute a new tensor (`t + 1`, not `t += 1`)"
    return Finding("in place", f"{place} changes its time in place", remedy)


def _unequal_product(system: System | StepSystem, path: Path) -> Iterable[Finding]:
    """Where `f_and_g_prod` is not f and the product with g, on two rows of the path's states."""
    if not (isinstance(system, System) and isinstance(system, StepSystem)):
        return
    for t, states in path[:-1]:
        y = states[:2]
        with torch.no_grad():
            drift, diffusion = system.f(t.clone(), y.clone()), system.g(t.clone(), y.clone())
            v = probing_increments(y, y.shape[1] if diffusion.dim() == 2 else diffusion.shape[2])
            given = y.clone()
            found = system.f_and_g_prod(t.clone(), given, v.clone())
        sizes = drift.abs() + y.abs()
        for name, part, expected, what in (
            ("drift", found[0], drift, "system.f"),
            ("noise", found[1], diffusion, "the product of system.g with v"),
        ):
            place = f"system.f_and_g_prod ({name}) at t = {float(t):.4g}"
            wrong = _unequal(place, what, part, expected, v if name == "noise" else None, sizes)
            if wrong is not None:
                yield wrong
                return
        if given._version or not torch.equal(given, y):
            yield Finding(
                "in place",
                f"system.f_and_g_prod at t = {float(t):.4g} changes its state in place",
                "compute a new tensor (`y * 0.5`, not `y *= 0.5`)",
            )
            return


def _unequal_error(error: Any, path: Path) -> Iterable[Finding]:
    """Where `error.diffusion_product` is not the product with `error.diffusion`."""
    if error is None or error.diffusion is None or error.diffusion_product is None:
        return
    for t, states in path[:-1]:
        y = states[:2]
        with torch.no_grad():
            diffusion = error.diffusion(t.clone(), y.clone())
            v = probing_increments(y, y.shape[1] if diffusion.dim() == 2 else diffusion.shape[2])
            found = error.diffusion_product(t.clone(), y.clone(), v.clone())
        place, what = "error.diffusion_product", "the product of error.diffusion with v"
        at = f"{place} at t = {float(t):.4g}"
        wrong = _unequal(at, what, found, diffusion, v, y.abs())
        if wrong is not None:
            yield wrong
            return


def _unequal(
    place: str,
    what: str,
    found: torch.Tensor,
    expected: torch.Tensor,
    v: torch.Tensor | None,
    sizes: torch.Tensor,
) -> Finding | None:
    """Values `(B, D)` that are not the expected ones, or not the diffusion's product with v.

    `sizes` `(B, D)` are those of the numbers of whose rounding both may consist.
    """
    if v is not None:
        sizes = sizes + diffusion_product(expected.abs(), v)
        expected = diffusion_product(expected, v)
    found = check_output(place, found, tuple(sizes.shape), like=sizes).detach()
    unit = torch.finfo(sizes.dtype).eps
    allowed = 64 * unit**0.5 * sizes + 1e3 * unit * (1.0 + sizes.max())
    if bool(((found - expected).abs() <= allowed).all()):  # nan is not
        return None
    gap = float((found - expected).abs().max())
    remedy = "return the sum over k of the columns times v_k, and the drift itself, or leave it out"
    return Finding("product", f"{place} differs from {what} by {gap:.3g}", remedy)


def _first_wrong_derivative(
    coefficients: Mapping[str, Coefficient], path: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> Iterable[Finding]:
    """Of the coefficients as they are differentiated: recorded where that is possible."""

    def together(t: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(function(t, y) for function in coefficients.values())

    recorded = fuse(together, path[0])
    for t, y in path:
        places = [f"{name} at t = {float(t):.4g}" for name in coefficients]
        found = wrong_derivative(places, partial(recorded, t), (y,))
        if found is not None:
            yield found
            return


def _smoothness(
    name: str, function: Loss, ends: torch.Tensor, labels: torch.Tensor
) -> Finding | None:
    """A jump or a kink of the loss between end points of the paths."""
    kind = roughest(function, ends, labels)
    if kind is None:
        return None
    return Finding(
        "smoothness",
        f"{name} has a {kind} where the paths end",
        "the expansion needs a loss that is twice differentiable there; smooth it, for example "
        "an indicator by a sigmoid of the width that matters, |y| by (y² + a²)^½",
    )

"""The interface of a system, an Itô SDE as torchsde accepts it, and checks of the interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch

from sdewm.base.checks import check_choice, check_count, check_output

NOISE_TYPES = ("diagonal", "additive", "scalar", "general")
AFFINE_TIMES, AFFINE_STATES = 1024, 32  # at most, at which given Jacobians are compared
ROUNDINGS = 1000  # units by which sums over components may differ


@runtime_checkable
class System(Protocol):
    """The Itô equation dx = f(t, x) dt + g(t, x) dB.

    Attributes:
        noise_type: "diagonal" (g is `(B, D)`, driver i acts on component i), "scalar" (g is
            `(B, D, 1)`), "additive" (g is `(B, D, M)` and does not depend on x) or "general"
            (g is `(B, D, M)`).
        sde_type: "ito".

    `f(t, y)` returns the drift `(B, D)` and `g(t, y)` the diffusion for the state y `(B, D)` at the
    0-d time t. Both act on each row separately, have no side effects, and return the dtype and
    device of y.
    """

    noise_type: str
    sde_type: str

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift `(B, D)`."""
        ...

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion `(B, D)` or `(B, D, M)`."""
        ...


@runtime_checkable
class StepSystem(Protocol):
    """A system given by its Euler–Maruyama step: one function for drift and noise increment.

    `f_and_g_prod(t, y, v)` returns the drift f(t, y) and Σ_k g_k(t, y) v_k, both `(B, D)`.
    """

    noise_type: str
    sde_type: str

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Drift and noise increment, each `(B, D)`."""
        ...


@runtime_checkable
class VariationSystem(Protocol):
    """A system whose state is that of a path followed by derivatives of the path.

    Attributes:
        variations: names of the derivatives, in order, each as many numbers as the path's state.
    """

    variations: Sequence[str]


@runtime_checkable
class PathSystem(Protocol):
    """A system that gives the steps of its paths itself, for enclosures of all rollouts near them.

    `path_steps(states, increments, t0, step_size)` returns the first states (P, D) and the step
    (n, x) -> x_{n+1}, on the given increments (P, N, M) of the noise. x has k rows for each path,
    those of the same path one after the other (`repeated`).
    """

    def path_steps(
        self, states: torch.Tensor, increments: torch.Tensor, t0: float, step_size: float
    ) -> tuple[torch.Tensor, Callable[[int, torch.Tensor], torch.Tensor]]:
        """First states and step of some paths.

        Raises:
            ValueError: it has no such steps; the message says why.
        """
        ...


@runtime_checkable
class ObservedSystem(Protocol):
    """A system whose first state may follow from an observation.

    `posterior_entry(states, increments)` returns the function from observations (P k, n) to the
    states (P k, D) after the first step, from states (P, D) on increments (P, M) of the noise.
    """

    def posterior_entry(
        self, states: torch.Tensor, increments: torch.Tensor
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """The states after the first step as a function of the observations.

        Raises:
            ValueError: it has no observations of this kind; the message says why.
        """
        ...


def repeated(values: torch.Tensor, rows: int) -> torch.Tensor:
    """Rows of paths (P, …) for k rows of each path, P k = `rows`.

    >>> repeated(torch.tensor([[1.0], [2.0]]), 4)[:, 0]
    tensor([1., 1., 2., 2.])
    """
    return values.repeat_interleave(rows // len(values), 0)


def check_protocol(system: System, t: torch.Tensor, y: torch.Tensor) -> int:
    """Check that `system` satisfies the interface at one state; return its number of drivers M.

    Args:
        system: the object to check.
        t: a 0-d time.
        y: a state `(B, D)`.

    Raises:
        ValueError: the object is not an Itô system, its noise type is unknown, or f or g has a
            wrong shape, dtype or device.

    >>> class Walk:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -y
    ...     def g(self, t, y): return torch.ones_like(y)
    >>> check_protocol(Walk(), torch.tensor(0.0), torch.zeros(2, 3))
    3
    """
    for name in ("noise_type", "sde_type", "f", "g"):
        if getattr(system, name, None) is None:
            raise ValueError(
                f"system={type(system).__name__} has no {name!r}; "
                "expected noise_type, sde_type, f(t, y) and g(t, y)."
            )
    if system.sde_type != "ito":
        raise ValueError(
            f"system.sde_type={system.sde_type!r}: only 'ito' is supported; "
            "add the drift correction ½ Σ_k (D g_k) g_k to f and call the system 'ito'."
        )
    check_choice("system.noise_type", system.noise_type, NOISE_TYPES)
    y = y.expand(2, -1) if len(y) == 1 else y  # one row hides what a batch needs
    batch, size = y.shape
    check_output("system.f", _called(system, "f", t, y), (batch, size), like=y)
    diffusion = _called(system, "g", t, y)
    if system.noise_type == "diagonal":
        check_output("system.g", diffusion, (batch, size), like=y)
        return size
    count = "1" if system.noise_type == "scalar" else "M"
    if not isinstance(diffusion, torch.Tensor) or diffusion.dim() != 3:
        given = (
            tuple(diffusion.shape)
            if isinstance(diffusion, torch.Tensor)
            else type(diffusion).__name__
        )
        raise ValueError(
            f"system.g returned {given}; {system.noise_type} noise expects (B, D, {count}) = "
            f"({batch}, {size}, {count})."
        )
    drivers = diffusion.shape[2]
    if system.noise_type == "scalar" and drivers != 1:
        raise ValueError(f"system.g returned {drivers} drivers; scalar noise expects (B, D, 1).")
    check_output("system.g", diffusion, (batch, size, drivers), like=y)
    return drivers


@torch.no_grad()
def check_noise_type(system: System, t: torch.Tensor, y: torch.Tensor) -> None:
    """Check, at states y `(B, D)`, what "additive" and "diagonal" say of how g depends on them.

    Euler–Maruyama steps do not use it; methods of higher order do, and are none without it.

    Raises:
        ValueError: "additive", but g depends on the state; or "diagonal", but a component of g
            depends on another component of the state.

    >>> class Flipped:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -y
    ...     def g(self, t, y): return y.flip(1)
    >>> check_noise_type(Flipped(), torch.tensor(0.0), torch.ones(1, 2))
    Traceback (most recent call last):
    ...
    ValueError: system.noise_type='diagonal', but a component of system.g depends on another ...
    """
    kind, size = system.noise_type, y.shape[1]
    if kind not in ("additive", "diagonal"):
        return
    shift = (1.0 + y.abs()) * torch.linspace(0.3, 0.7, size, dtype=y.dtype, device=y.device)
    place = torch.arange(size, device=y.device)
    bits = [(place >> n) % 2 == 1 for n in range((size - 1).bit_length())]  # tell all pairs apart
    halves = [half for bit in bits for half in (bit, ~bit)] if kind == "diagonal" else [place >= 0]
    here = system.g(t.clone(), y.clone())
    for half in halves:
        gap = (system.g(t.clone(), y + half * shift) - here).abs()
        if kind == "diagonal":
            gap = gap[:, ~half]  # of the components that stay
        allowed = ROUNDINGS * torch.finfo(y.dtype).eps * (1.0 + float(here.abs().max()))
        if gap.numel() and not float(gap.max()) <= allowed:
            what = "system.g" if kind == "additive" else "a component of system.g"
            which = "the state" if kind == "additive" else "another component of the state"
            raise ValueError(
                f"system.noise_type={kind!r}, but {what} depends on {which} (it changes by "
                f"{float(gap.max()):.3g}): expected noise_type='general' with g (B, D, M)."
            )


def _called(system: System, name: str, t: torch.Tensor, y: torch.Tensor) -> object:
    try:
        return getattr(system, name)(t.clone(), y.clone())  # theirs to change
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError, TypeError) as problem:
        raise ValueError(
            f"system.{name} fails for a state {tuple(y.shape)} of {y.dtype}: {problem} "
            "(the size is that of x0; the dtype is float64 unless dtype is passed: convert a "
            "torch.nn.Module with module.double())"
        ) from problem


def check_jacobians(
    system: System, times: torch.Tensor, y: torch.Tensor, others: torch.Tensor | None = None
) -> None:
    """Check that f and g are affine with the constant Jacobians given by `system.jacobians()`.

    At up to AFFINE_TIMES of the times, for up to AFFINE_STATES states y of each, and for v along
    one direction, at one and at a hundred times the size of the states, and from y to the states in
    `others`: f(t, y + v) − f(t, y) = A v and g_k(t, y + v) − g_k(t, y) = A_k v, up to rounding. The
    automatic derivatives of f and g along v, which no constant part hides, are compared as well.
    That f and g are affine elsewhere is what `jacobians()` asserts.

    Args:
        system: a system with `jacobians()`, see `sde.rates.ConstantJacobians`.
        times: `(T,)`.
        y: states `(B, D)`, or `(T, B, D)` at each time.
        others: further states `(B', D)` that paths visit, such as those with an error.

    Raises:
        ValueError: the shapes are not A `(D, D)` and A_k `(M, D, D)`, a value is not finite, or f
            or g is not affine with these derivatives.

    >>> class Decay:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -y
    ...     def g(self, t, y): return 0 * y
    ...     def jacobians(self): return torch.ones(1, 1), torch.zeros(1, 1, 1)
    >>> check_jacobians(Decay(), torch.zeros(1), torch.zeros(1, 1))
    Traceback (most recent call last):
    ...
    ValueError: system.jacobians() is not the derivative of system.f at t = 0 ...
    """
    y = y.expand(len(times), *y.shape[-2:])
    spread = max(1, -(-len(times) // AFFINE_TIMES))
    times, y = times[::spread], y[::spread, :: -(-y.shape[1] // AFFINE_STATES)]
    drivers, size = check_protocol(system, times[0], y[0]), y.shape[2]
    given = system.jacobians()  # type: ignore[attr-defined]
    shapes = [tuple(part.shape) if isinstance(part, torch.Tensor) else None for part in given]
    expected = [(size, size), (drivers, size, size)]
    fits = shapes[0] == expected[0] and shapes[1] in (expected[1], (1, size, size))
    if not fits or (shapes[1] != expected[1] and bool(given[1].any())):
        raise ValueError(f"system.jacobians() has shapes {shapes}; expected {expected}.")
    drift, noise = (part.to(y) for part in given)
    noise = noise.expand(drivers, -1, -1)  # one matrix 0 stands for all
    if not bool(torch.isfinite(drift).all() & torch.isfinite(noise).all()):
        raise ValueError("system.jacobians() contains values that are not finite.")
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(y[0].shape, dtype=y.dtype, generator=generator).to(y.device)
    slow = max(1, len(times) // 8)  # automatic derivatives take the longest
    for n, (t, states) in enumerate(zip(times, y, strict=True)):
        ends = [states + along, states + 100.0 * (1.0 + states.abs()) * along, states.roll(1, 0)]
        if others is not None:
            ends.append(others[torch.arange(len(states)) % len(others)])
        _check_affine(system, t, states, ends, (drift, noise), n % slow == 0)


def _check_affine(
    system: System,
    t: torch.Tensor,
    y: torch.Tensor,
    ends: Sequence[torch.Tensor],
    given: tuple[torch.Tensor, torch.Tensor],
    derivative: bool,
) -> None:
    """`check_jacobians` at one time, with or without the automatic derivatives."""
    starts, other = y.repeat(len(ends), 1), torch.cat(list(ends))
    v = other - starts
    products = v @ given[0].T, torch.einsum("kij,bj->bik", given[1], v)
    sizes = starts.abs().amax(1, keepdim=True) + other.abs().amax(1, keepdim=True)
    unit = torch.finfo(y.dtype).eps
    for name, product, matrix in zip(("f", "g"), products, given, strict=True):
        large = (sizes * matrix.abs().sum(-1).max(),)  # parts that may cancel

        def value(x: torch.Tensor, name: str = name) -> torch.Tensor:
            found = getattr(system, name)(t.clone(), x.clone())
            diagonal = name == "g" and system.noise_type == "diagonal"
            return torch.diag_embed(found) if diagonal else found

        before, after = value(torch.cat((starts, other))).chunk(2)
        changes = {"": after - before}
        if derivative:
            changes |= _derivative(value, starts, v)
        for how, change in changes.items():
            # Rounding of each row: of the values that are subtracted, and of the product.
            scale = _per_row(product) + (
                _per_row(change) if how else _per_row(before, after, *large)
            )
            wrong = (change - product).flatten(1).abs().amax(1) - ROUNDINGS * unit * scale
            if not bool((wrong <= 0).all()):  # NaN is wrong
                gap = float((change - product).abs().max())
                raise ValueError(
                    f"system.jacobians() is not the derivative of system.{name} at t = "
                    f"{float(t):.6g} (difference {gap:.3g} along one direction{how}); define "
                    "jacobians() only if f and g are affine in the state with the same Jacobians "
                    "at all times."
                )


def _derivative(
    value: Callable[[torch.Tensor], torch.Tensor], y: torch.Tensor, v: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The automatic derivative along v; nothing where torch cannot form it."""
    try:
        return {" by automatic differentiation": torch.func.jvp(value, (y,), (v,))[1]}
    except (RuntimeError, NotImplementedError):
        return {}


def _per_row(*parts: torch.Tensor) -> torch.Tensor:
    """The largest number of each row, summed over the parts."""
    return torch.stack([part.flatten(1).abs().amax(1) for part in parts]).sum(0)


def diffusion_product(diffusion: torch.Tensor, increment: torch.Tensor) -> torch.Tensor:
    """Noise increment Σ_k g_k ΔB^k, shape `(B, D)`, for Brownian increments `(B, M)`.

    The diffusion is `(B, D)` (diagonal noise) or `(B, D, M)`.
    """
    if diffusion.dim() == 2:
        return diffusion * increment
    if diffusion.shape[2] == 1:
        return diffusion[:, :, 0] * increment
    return (diffusion * increment.unsqueeze(1)).sum(dim=2)


def probing_increments(y: torch.Tensor, drivers: int) -> torch.Tensor:
    """Increments v `(B, M)`, different for each driver, with which a product shows every column."""
    v = torch.linspace(0.5, 1.5, drivers, dtype=y.dtype, device=y.device)
    return v.expand(len(y), -1)


@runtime_checkable
class EntriesSystem(Protocol):
    """A system whose diffusion is mostly zero, and that gives its other entries alone.

    `g_entries(t, y)` returns the entries of g(t, y) that are not zero at every state, `(B, n)`, in
    one order at all times and states: sums over the entries of g and of its derivatives need no
    others.
    """

    def g_entries(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Entries `(B, n)`."""
        ...


def diffusion_entries(system: System, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The entries of the diffusion, `(B, …)`: those of `EntriesSystem`, else the diffusion."""
    return system.g_entries(t, y) if isinstance(system, EntriesSystem) else system.g(t, y)


def check_drivers(system: System | StepSystem, t: torch.Tensor, y: torch.Tensor) -> int:
    """Check a System or a StepSystem and return its number of drivers M.

    A StepSystem must give M as its attribute `drivers`.

    Raises:
        ValueError: see `check_protocol`; or a StepSystem has no attribute `drivers`.
    """
    if isinstance(system, System) or not isinstance(system, StepSystem):
        return check_protocol(system, t, y)
    if getattr(system, "drivers", None) is None:
        raise ValueError(
            f"system={type(system).__name__} has no 'drivers'; a system given by f_and_g_prod "
            "needs this attribute: its number of Brownian motions."
        )
    drivers = check_count("system.drivers", system.drivers)  # type: ignore[attr-defined]
    parts = system.f_and_g_prod(t, y.clone(), y.new_zeros(len(y), drivers))
    for name, part in zip(("drift", "noise"), parts, strict=True):
        check_output(f"system.f_and_g_prod ({name})", part, tuple(y.shape), like=y)
    return drivers


def step_of(
    system: System | StepSystem,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """The function (t, y, v) -> drift f(t, y) and noise increment Σ_k g_k(t, y) v_k, each `(B, D)`.

    This is `system.f_and_g_prod` if defined, which may be cheaper than forming g; otherwise it is
    composed of f and g.
    """
    if isinstance(system, StepSystem):
        return system.f_and_g_prod

    def step(
        t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return system.f(t, y), diffusion_product(system.g(t, y), v)

    return step


class StepCoefficients:
    """f and g of a system that is given by its step alone, which is linear in its increments.

    Args:
        system: M drivers.
        drivers: M.

    >>> class Decay:
    ...     noise_type, sde_type, drivers = "general", "ito", 1
    ...     def f_and_g_prod(self, t, y, v): return -y, 0.5 * y * v
    >>> StepCoefficients(Decay(), 1).g(torch.zeros(()), torch.ones(1, 2))
    tensor([[[0.5000],
             [0.5000]]])
    """

    noise_type, sde_type = "general", "ito"

    def __init__(self, system: StepSystem, drivers: int) -> None:
        self.system, self.drivers = system, drivers

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift `(B, D)`."""
        return self.system.f_and_g_prod(t, y, y.new_zeros(len(y), self.drivers))[0]

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion `(B, D, M)`."""
        unit = torch.eye(self.drivers, dtype=y.dtype, device=y.device)
        columns = [self.system.f_and_g_prod(t, y, one.expand(len(y), -1))[1] for one in unit]
        return torch.stack(columns, dim=2)

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Those that the system gives."""
        return self.system.jacobians()  # type: ignore[attr-defined]

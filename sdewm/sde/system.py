"""What a system is, and its contract: any object that torchsde accepts, in the Itô reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch

from sdewm.base.checks import check_choice, check_output

NOISE_TYPES = ("diagonal", "additive", "scalar", "general")


@runtime_checkable
class System(Protocol):
    """The Itô equation dx = f(t, x) dt + g(t, x) dB.

    Attributes:
        noise_type: "diagonal" (g is `(B, D)`, driver i acts on component i), "scalar" (g is `(B, D,
            1)`), "additive" (g is `(B, D, M)` and does not depend on x) or "general" (g is `(B, D,
            M)`).
        sde_type: "ito".

    `f(t, y)` returns the drift `(B, D)` and `g(t, y)` the diffusion for the state y `(B, D)` at the
    0-d time t. Both act row by row, are pure, and keep the dtype and device of y.
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
    """A system given by its Euler–Maruyama step: drift and noise increment at once.

    `f_and_g_prod(t, y, v)` returns the drift f(t, y) and Σ_k g_k(t, y) v_k, both `(B, D)`.
    """

    noise_type: str
    sde_type: str

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Drift and noise increment, each `(B, D)`."""
        ...


def check_system(system: System, t: torch.Tensor, y: torch.Tensor) -> int:
    """Check `system` against its contract at one state and return its number of drivers M.

    Args:
        system: the object to check.
        t: a 0-d time.
        y: a state `(B, D)`.

    Raises:
        ValueError: not an Itô system, unknown noise type, or f or g of wrong shape, dtype or
            device.

    >>> class Walk:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -y
    ...     def g(self, t, y): return torch.ones_like(y)
    >>> check_system(Walk(), torch.tensor(0.0), torch.zeros(2, 3))
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
    batch, size = y.shape
    check_output("system.f", system.f(t, y), (batch, size), like=y)
    diffusion = system.g(t, y)
    if system.noise_type == "diagonal":
        check_output("system.g", diffusion, (batch, size), like=y)
        return size
    if not isinstance(diffusion, torch.Tensor) or diffusion.dim() != 3:
        given = (
            tuple(diffusion.shape)
            if isinstance(diffusion, torch.Tensor)
            else type(diffusion).__name__
        )
        raise ValueError(
            f"system.g returned {given}; {system.noise_type} noise expects (B, D, M) = "
            f"({batch}, {size}, M)."
        )
    drivers = diffusion.shape[2]
    if system.noise_type == "scalar" and drivers != 1:
        raise ValueError(f"system.g returned {drivers} drivers; scalar noise expects (B, D, 1).")
    check_output("system.g", diffusion, (batch, size, drivers), like=y)
    return drivers


def diffusion_product(diffusion: torch.Tensor, increment: torch.Tensor) -> torch.Tensor:
    """Σ_k g_k dB^k, shape `(B, D)`, for an increment `(B, M)`.

    The diffusion is `(B, D)` (diagonal) or `(B, D, M)`.
    """
    if diffusion.dim() == 2:
        return diffusion * increment
    if diffusion.shape[2] == 1:
        return diffusion[:, :, 0] * increment
    return (diffusion * increment.unsqueeze(1)).sum(dim=2)


def step_of(
    system: System | StepSystem,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """The function (t, y, v) -> drift f(t, y) and noise increment Σ_k g_k(t, y) v_k, each `(B, D)`.

    Its own `f_and_g_prod` where it has one, which may be cheaper than forming g, else of f and g.
    """
    if isinstance(system, StepSystem):
        return system.f_and_g_prod

    def step(
        t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return system.f(t, y), diffusion_product(system.g(t, y), v)

    return step

"""The latent representation error: an additional drift and diffusion of size ε."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.func import jvp

from sdewm.base.checks import check_choice, check_output
from sdewm.sde.system import (
    System,
    check_protocol,
    diffusion_product,
    step_of,
)

Coefficient = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
CoefficientProduct = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
DRIVERS = ("same", "independent")


def takes_time_and_state(function: Callable) -> bool:
    """Whether a function can be called with two arguments, as far as that can be known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a built-in function
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True


@dataclass(frozen=True)
class Perturbation:
    """Error drift σ and error diffusion σ̄ in dx = (f + ε σ) dt + (g + ε σ̄) dB.

    See MATHEMATICS.md, section 1.

    Attributes:
        drift: σ(t, y) -> `(B, D)`, or None for zero error drift.
        diffusion: σ̄(t, y), or None. With driver "same" it has the shape of the system's g. With
            driver "independent" it is `(B, D, M′)` for M′ additional Brownian motions, or `(B, D)`
            for D of them, one per component.
        driver: "same": σ̄ multiplies the Brownian motions of g; "independent": it multiplies
            additional, independent ones.
        diffusion_product: (t, y, v) -> Σ_k σ̄_k(t, y) v_k `(B, D)` for v `(B, M)`, used in place of
            the diffusion where only products are needed, as the diffusion of a large state may
            not fit in memory; or None. Only with a diffusion and driver "same".

    Raises:
        ValueError: the driver is unknown, drift and diffusion are both None, one is not callable,
            or a product is given without a diffusion of driver "same".

    >>> Perturbation(drift=lambda t, y: torch.ones_like(y)).driver
    'same'
    """

    drift: Coefficient | None = None
    diffusion: Coefficient | None = None
    driver: str = "same"
    diffusion_product: CoefficientProduct | None = None

    def __post_init__(self) -> None:
        check_choice("driver", self.driver, DRIVERS)
        if self.drift is None and self.diffusion is None:
            raise ValueError(
                "Perturbation(drift=None, diffusion=None): expected at least one of them."
            )
        for name in ("drift", "diffusion"):
            given = getattr(self, name)
            if given is not None and not callable(given):
                raise ValueError(f"{name}={given!r}: expected a function (t, y) or None.")
            if given is not None and not takes_time_and_state(given):
                raise ValueError(
                    f"{name} takes {inspect.signature(given)}: expected a function (t, y) of time "
                    "and state."
                )
        if self.diffusion_product is not None:
            if not callable(self.diffusion_product):
                raise ValueError(
                    f"diffusion_product={self.diffusion_product!r}: expected a function (t, y, v)."
                )
            if self.diffusion is None or self.driver != "same":
                raise ValueError(
                    "diffusion_product: expected with it the diffusion whose product it is, and "
                    "driver='same'."
                )

    @property
    def is_even(self) -> bool:
        """Whether E L is even in ε (S5): zero error drift and an independent driver.

        The sign of ε can then be absorbed in the sign of the error's Brownian motions.
        """
        return self.drift is None and self.driver == "independent"

    def noise(self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Σ_k σ̄_k(t, y) v_k `(B, D)` for increments v of the error's drivers."""
        assert self.diffusion is not None
        if self.diffusion_product is not None:
            return self.diffusion_product(t, y, v)
        return diffusion_product(self.diffusion(t, y), v)


def count_drivers(
    system: System, error: Perturbation, t: torch.Tensor, y: torch.Tensor
) -> tuple[int, int]:
    """Check that system and error are compatible at one state and return (M, M′).

    M′ is the number of the error's independent drivers. It is 0 for driver "same" and without error
    diffusion.

    Raises:
        ValueError: a coefficient has a wrong shape, dtype or device; the message gives its name,
            the value returned and the value expected.
    """
    drivers = check_protocol(system, t, y)
    batch, size = y.shape
    if error.drift is not None:
        check_output("error.drift", error.drift(t, y), (batch, size), like=y)
    if error.diffusion is None:
        return drivers, 0
    value = error.diffusion(t, y)
    if error.driver == "same":
        expected = (batch, size) if system.noise_type == "diagonal" else (batch, size, drivers)
        check_output(
            "error.diffusion (driver 'same': the shape of system.g)", value, expected, like=y
        )
        return drivers, 0
    own = value.shape[2] if isinstance(value, torch.Tensor) and value.dim() == 3 else None
    expected = (batch, size) if own is None else (batch, size, own)
    check_output(
        "error.diffusion (driver 'independent': (B, D) or (B, D, M'))", value, expected, like=y
    )
    return drivers, size if own is None else own


def ito_correction(system: System, error: Perturbation) -> Coefficient:
    """The Itô correction Σ_k A_k σ̄_k, A_k = D g_k, in the variation-of-constants formula (S3).

    The formula subtracts it from the drift forcing. The recursions of S5b contain it implicitly; it
    is needed only for formulas with the fundamental matrix and for negative controls.

    Args:
        system: D components, M drivers.
        error: a perturbation with a diffusion and driver "same".

    Returns:
        The function (t, y) -> `(B, D)`.

    Raises:
        ValueError: there is no error diffusion, or its driver is independent (the correction is
            then 0).

    >>> from sdewm.sde.examples import GeometricBrownianMotion
    >>> case = GeometricBrownianMotion()
    >>> error = Perturbation(diffusion=case.error_diffusion)
    >>> ito_correction(case, error)(torch.tensor(0.0), torch.ones(1, 1))  # ν σ̄ = 0.5 · 0.3
    tensor([[0.1500]])
    """
    diffusion = error.diffusion
    if diffusion is None or error.driver != "same":
        raise ValueError(f"error={error!r}: expected a diffusion error with driver 'same'.")

    def correction(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        columns = _matrix(diffusion(t, y))
        total = torch.zeros_like(y)
        for k in range(columns.shape[2]):

            def column(x: torch.Tensor, k: int = k) -> torch.Tensor:
                return _matrix(system.g(t, x))[:, :, k]

            total = total + jvp(column, (y,), (columns[:, :, k],))[1]
        return total

    return correction


def _matrix(diffusion: torch.Tensor) -> torch.Tensor:
    """A diffusion as `(B, D, M)`, also where it is given by its diagonal."""
    return torch.diag_embed(diffusion) if diffusion.dim() == 2 else diffusion


class PerturbedSystem:
    """The perturbed system at given error sizes, as a step that `solve_path` accepts.

    Its drift is f + ε_d σ. Its noise is g ΔB + ε_n σ̄ ΔB for driver "same" and g ΔB + ε_n σ̄ ΔB′ for
    driver "independent", where the increments are (ΔB, ΔB′).

    Args:
        system: M drivers.
        error: the perturbation.
        drivers: M.
        drift_size: ε_d, a number or a tensor `(B, 1)`.
        diffusion_size: ε_n, a number or a tensor `(B, 1)`.
    """

    noise_type, sde_type = "general", "ito"

    def __init__(
        self,
        system: System,
        error: Perturbation,
        drivers: int,
        drift_size: float | torch.Tensor,
        diffusion_size: float | torch.Tensor,
    ) -> None:
        self.step, self.error, self.drivers = step_of(system), error, drivers
        self.drift_size, self.diffusion_size = drift_size, diffusion_size

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Drift `(B, D)` and noise increment `(B, D)` for the increments v `(B, M + M′)`."""
        drift, noise = self.step(t, y, v[:, : self.drivers])
        if self.error.drift is not None:
            drift = drift + self.drift_size * self.error.drift(t, y)
        if self.error.diffusion is not None:
            own = v if self.error.driver == "same" else v[:, self.drivers :]
            noise = noise + self.diffusion_size * self.error.noise(t, y, own)
        return drift, noise

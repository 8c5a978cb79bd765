"""Initial states, initial errors, and pairs of paths on the same Brownian path (section 6)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sdewm.base.checks import check_count, check_output, check_real_tensor
from sdewm.sde.system import StepSystem, System, step_of

RESOLVED = 1e-3  # share of an error that may be lost where it is added to the state
InitialError = torch.Tensor | Callable[[int, torch.Generator], torch.Tensor]


def initial_states(x0: object, paths: int) -> torch.Tensor:
    """The initial state of every path, `(1, D)` or `(paths, D)`.

    Raises:
        ValueError: x0 is not a finite floating-point tensor (D,), (1, D) or (paths, D).
    """
    allowed = f"(D,), (1, D) or (paths, D) = ({paths}, D)"
    if not isinstance(x0, torch.Tensor) or not x0.is_floating_point():
        given = x0.dtype if isinstance(x0, torch.Tensor) else type(x0).__name__
        raise ValueError(f"x0={given}: expected a floating point tensor {allowed}.")
    check_real_tensor("x0", x0)
    states = x0.unsqueeze(0) if x0.dim() == 1 else x0
    if states.dim() != 2 or states.shape[1] == 0 or states.shape[0] not in (1, paths):
        raise ValueError(f"x0 has shape {tuple(x0.shape)}; expected {allowed}.")
    if not bool(torch.isfinite(states).all()):
        raise ValueError("x0 contains values that are not finite.")
    return states.detach()


def draw_errors(error: object, paths: int, like: torch.Tensor, seed: int) -> torch.Tensor:
    """The initial error e of every path, `(paths, D)`, independent of the Brownian paths.

    Args:
        error: a vector `(D,)`, the same on every path; samples `(B, D)`, each as likely as the
            others, of which path i takes row i mod B; or a sampler (count, generator) ->
            `(count, D)`.
        paths: number of paths.
        like: a state `(…, D)` that gives size, dtype and device of e.
        seed: seed of the generator passed to a sampler.

    Raises:
        ValueError: the type or shape is wrong, or a value or its square is no finite number.

    >>> like = torch.zeros(2, dtype=torch.float64)
    >>> draw_errors(torch.tensor([0.1, 0.0]), 2, like, seed=0)
    tensor([[0.1000, 0.0000],
            [0.1000, 0.0000]], dtype=torch.float64)
    """
    size = like.shape[-1]
    allowed = f"a vector (D,) = ({size},), samples (B, D), or a sampler (count, generator)"
    if isinstance(error, torch.Tensor):
        if error.is_complex():
            raise ValueError(
                f"error is a tensor of {error.dtype}; expected real numbers, {allowed}."
            )
        rows = error.unsqueeze(0) if error.dim() == 1 else error
        if rows.dim() != 2 or rows.shape[1] != size or rows.shape[0] == 0:
            raise ValueError(f"error has shape {tuple(error.shape)}; expected {allowed}.")
        check_samples(len(rows), paths)
        rows = rows.detach().to(like.device, like.dtype)
        drawn = (
            rows.expand(paths, size) if len(rows) == 1 else rows[torch.arange(paths) % len(rows)]
        )
    elif callable(error):
        check_count("seed", seed, minimum=0)
        drawn = error(paths, torch.Generator().manual_seed(seed))
        if isinstance(drawn, torch.Tensor):
            drawn = drawn.detach().to(like.device, like.dtype)
        drawn = check_output("error(count, generator)", drawn, (paths, size), like=like)
    else:
        raise ValueError(f"error={type(error).__name__}: expected {allowed}.")
    if not bool(torch.isfinite(drawn).all()):
        raise ValueError("error contains values that are not finite.")
    sizes, limits = drawn.abs().amax(1), torch.finfo(drawn.dtype)
    least, most = limits.tiny**0.5, limits.max**0.5
    if bool(((sizes < least) & (sizes > 0)).any() | (sizes > most).any()):
        raise ValueError(
            f"error has sizes from {float(sizes.min()):.3g} to {float(sizes.max()):.3g}; expected "
            f"0 or {least:.3g} to {most:.3g}, so that its square is a number of {drawn.dtype}."
        )
    return drawn


def check_samples(count: int, paths: int) -> None:
    """Refuse samples of an error that do not all count as often, as path i takes row i mod B.

    Raises:
        ValueError: `paths` is no multiple of `count`.

    >>> check_samples(600, 1000)
    Traceback (most recent call last):
    ...
    ValueError: error has 600 samples for paths=1000; expected a multiple of 600, ...
    """
    if paths % count:
        more = -(-paths // count) * count
        less = f"{more - count} or " if more > count else ""
        raise ValueError(
            f"error has {count} samples for paths={paths}; expected a multiple of {count}, as "
            f"{less}{more}, so that every sample counts as often."
        )


def check_resolved(states: torch.Tensor, errors: torch.Tensor) -> None:
    """Refuse errors `(P, D)` that rounding takes from states + errors, states `(1, D)` or `(P, D)`.

    Raises:
        ValueError: x0 + e − x0 differs from e by more than a thousandth of it.

    >>> check_resolved(torch.full((1, 1), 1e6).double(), torch.full((1, 1), 1e-12).double())
    Traceback (most recent call last):
    ...
    ValueError: error has sizes from 1e-12, which rounding loses beside x0 of size 1e+06 ...
    """
    sizes = errors.norm(dim=1)
    lost = ((states + errors) - states - errors).norm(dim=1) > RESOLVED * sizes
    if bool(lost.any()):
        large = float(states.expand(len(errors), -1)[lost].norm(dim=1).max())
        raise ValueError(
            f"error has sizes from {float(sizes[lost].min()):.3g}, which rounding loses beside x0 "
            f"of size {large:.3g} in {states.dtype}: expected larger ones, or states in other "
            "units; fundamental_matrix measures the growth of infinitesimal ones."
        )


class CoupledSystem:
    """Two copies (x, x′) of a system driven by the same increments, stacked `(B, 2D)`.

    Args:
        system: an Itô system with D components, given by f and g or by its step.

    >>> from sdewm.sde.examples import OrnsteinUhlenbeck
    >>> pair = CoupledSystem(OrnsteinUhlenbeck())
    >>> zero = torch.zeros(())
    >>> pair.f_and_g_prod(zero, torch.tensor([[1.0, 2.0]]), torch.ones(1, 1))
    (tensor([[-0.8000, -1.6000]]), tensor([[0.5000, 0.5000]]))
    """

    noise_type, sde_type = "general", "ito"

    def __init__(self, system: System | StepSystem) -> None:
        self.step = step_of(system)

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stacked drift and stacked noise increment, each `(B, 2D)`."""
        both = torch.cat(y.chunk(2, dim=1))  # (2B, D)
        drift, noise = self.step(t, both, torch.cat((v, v)))
        return torch.cat(drift.chunk(2), dim=1), torch.cat(noise.chunk(2), dim=1)

"""An Itô system whose drift is a network, with proven rates (S16, S18, S21)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdewm.base.checks import check_finite_number
from sdewm.certificates.certificate import Certificate, certify, checksum
from sdewm.sde.rates import Rates

_ROUNDING = 16 * torch.finfo(torch.float64).eps


class NetworkSystem:
    r"""The residual system dx = (N(x) − x)/τ dt + G dB of a network N with additive noise.

    One Euler–Maruyama step of size Δ = τ is x ← N(x) + G ΔB: the network plus noise (S21). The
    rates are proven by `certify`. With A = (DN − I)/τ the Jacobian of the drift, and L, H and μ
    bounds of ‖DN‖, |D²N[v, v]| for unit v and the logarithmic norm of DN,

        ‖A‖ ≤ α = (L + 1)/τ,   λ_max(sym A) ≤ λ = (μ − 1)/τ,   curvature of the drift ≤ H/τ,
        ‖I + ΔA‖ ≤ min(|1 − θ| + θL, √(1 + 2Δλ + (Δα)²)),   θ = Δ/τ,

    on all of R^D.

    Noise type "additive": f is (B, D), g is (B, D, M).

    Args:
        network: N, a module (B, D) -> (B, D) in the dtype of `start`; the rates require a module
            that `certify` supports.
        noise: G (D, M), or a number c for G = c I.
        start: x0 (D,).
        relaxation_time: τ > 0.

    Raises:
        ValueError: a shape or dtype is wrong, or the relaxation time is not positive.

    >>> network = torch.nn.Linear(2, 2, bias=False).double()
    >>> _ = torch.nn.init.eye_(network.weight)
    >>> system = NetworkSystem(network, 0.1, torch.zeros(2, dtype=torch.float64))
    >>> rates = system.certified_rates(system.x0, system.x0, step_size=1.0, blocks=[slice(0, 2)])
    >>> round(rates.step.item(), 9), round(rates.log_norm[1].item(), 9)
    (1.0, 0.0)
    """

    noise_type, sde_type = "additive", "ito"

    def __init__(
        self,
        network: torch.nn.Module,
        noise: torch.Tensor | float,
        start: torch.Tensor,
        *,
        relaxation_time: float = 1.0,
    ) -> None:
        """Check the arguments, evaluating the network once."""
        self.network, self.x0 = network, start.detach()
        self.state_size = size = len(start)
        self.relaxation_time = check_finite_number("relaxation_time", relaxation_time)
        if self.relaxation_time <= 0:
            raise ValueError(f"relaxation_time={relaxation_time!r}: expected a positive number.")
        if not isinstance(noise, torch.Tensor):
            noise = check_finite_number("noise", noise) * torch.eye(size, dtype=start.dtype)
        if noise.dim() != 2 or noise.shape[0] != size:
            raise ValueError(f"noise has shape {tuple(noise.shape)}; expected (D, M), D = {size}.")
        self.noise = noise.detach()
        others = {part.dtype for part in network.parameters()} - {start.dtype}
        if others:
            raise ValueError(
                f"network has parameters of {others.pop()}, start is {start.dtype}; convert one of "
                "them: network.double(), start.double()."
            )
        with torch.no_grad():
            shape = tuple(network(start[None]).shape)
        if shape != (1, size):
            raise ValueError(
                f"network returned shape {shape} for (1, {size}); expected (1, {size})."
            )
        self.blocks = {"x": slice(0, size)}
        self._certificates: dict[int, Certificate] = {}

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, D)."""
        return (self.network(y) - y) / self.relaxation_time

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, D, M)."""
        return self.noise.to(y).expand(len(y), *self.noise.shape)

    @property
    def certificate(self) -> Certificate:
        """The certificate of the network on all of R^D for its current parameters."""
        current = checksum(self.network)
        if current not in self._certificates:
            self._certificates = {current: certify(self.network)}
        return self._certificates[current]

    def certified_rates(
        self, low: torch.Tensor, high: torch.Tensor, step_size: float, blocks: Sequence[slice]
    ) -> Rates:
        """Rates, N = 1, on all of R^D; off-diagonal blocks are bounded by the norm of DN."""
        proven = self.certificate
        assert proven.log_norm_2 is not None  # the network maps R^D to itself
        norm = torch.tensor([[proven.lipschitz_2]], dtype=torch.float64)
        log_norm = torch.tensor([[proven.log_norm_2]], dtype=torch.float64)
        one = relaxed_rates(
            norm, log_norm, norm[0], proven.curvature_2, step_size, self.relaxation_time
        )
        count = len(blocks)
        if count == 1:
            return one
        off = 1.0 - torch.eye(count, dtype=torch.float64)
        share = step_size / self.relaxation_time
        return Rates(
            **{
                **vars(one),
                "blocks": norm / self.relaxation_time * off + one.blocks * (1.0 - off),
                "step_blocks": share * norm * off + one.step_blocks * (1.0 - off),
            }
        )


def relaxed_rates(
    norms: torch.Tensor,
    log_norms: torch.Tensor,
    norm: torch.Tensor,
    curvature: float,
    step_size: float,
    relaxation_time: float,
) -> Rates:
    """Rates, N = 1, of dx = (N(x) − x)/τ dt + G dB from bounds on the Jacobian J of N.

    Args:
        norms: bounds of the norms ‖J_ij‖ of the blocks, `(b, b)`.
        log_norms: `(b, b)`; its diagonal bounds the logarithmic norms of the blocks J_ii.
        norm: bound of ‖J‖, `(1,)`.
        curvature: bound of |D²N[v, v]| for unit v.
        step_size: Δ.
        relaxation_time: τ.
    """
    share, diagonal = step_size / relaxation_time, torch.eye(len(norms), dtype=norms.dtype).bool()
    keep = abs(1.0 - share)
    comparison = torch.where(diagonal, log_norms - 1.0, norms) / relaxation_time
    # μ(A) ≤ λ_max of the symmetric part of the comparison matrix, and ≤ ‖J‖ − 1 over τ
    log_norm = torch.linalg.eigvalsh(0.5 * (comparison + comparison.T))[-1:]
    log_norm = log_norm + _ROUNDING * comparison.norm()
    log_norm = torch.minimum(log_norm, (norm - 1.0) / relaxation_time)
    drift = (norm + 1.0) / relaxation_time
    step = torch.minimum(keep + share * norm, _step_norm(log_norm, drift, step_size))
    lengths = (norms + 1.0) / relaxation_time
    own = torch.minimum(keep + share * norms, _step_norm(comparison, lengths, step_size))
    zero = torch.zeros_like(norm)
    return Rates(
        drift=drift,
        noise=zero,
        log_norm=log_norm.expand(3, 1),
        least_log_norm=-drift,
        radial=zero,
        step=step,
        fourth=step,
        blocks=comparison[None],
        step_blocks=torch.where(diagonal, own, share * norms)[None],
        curvature=zero + curvature / relaxation_time,
        noise_curvature=zero,
    )


def _step_norm(log_norm: torch.Tensor, norm: torch.Tensor, step_size: float) -> torch.Tensor:
    """Upper bound of ‖I + ΔA‖, √(1 + 2Δμ + Δ²‖A‖²) with what cancellation may have taken."""
    size = (step_size * norm) ** 2
    square = 1.0 + 2.0 * step_size * log_norm + size
    return (square + _ROUNDING * (1.0 + size)).clamp_min(0.0).sqrt()

"""Bounds of the expansion terms from the growth rate of the linearised dynamics (S13)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from sdewm.base.checks import check_count, check_interval, check_output
from sdewm.base.derivative_checks import check_derivatives
from sdewm.base.taylor import fuse, second_order
from sdewm.sde.contract import require_contract
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import CertifiedSystem, ConstantJacobians, block_slices
from sdewm.sde.solve import solve_path
from sdewm.sde.system import System, check_jacobians
from sdewm.theory.bounds.coefficients import Coefficients
from sdewm.theory.bounds.jacobian_rates import exact_rates, jacobian_rates
from sdewm.theory.expansion.perturbation import Perturbation, count_drivers
from sdewm.theory.flow.initial_error import initial_states


@torch.no_grad()
def term_bounds(
    system: System,
    error: Perturbation,
    loss: Callable[[torch.Tensor], torch.Tensor],
    x0: torch.Tensor,
    *,
    t1: float,
    steps: int,
    paths: int = 1000,
    seed: int = 0,
    t0: float = 0.0,
) -> dict[str, float]:
    r"""Upper bounds of |P|, |P_drift|, |S|, |S_cross| and |S_drift| of the scheme (S13).

    With a the mean-square rate of a step, ‖X‖ = (E|X|²)^½, y^ξ and y^η the first variations:

        ‖y^ξ‖ ← a‖y^ξ‖ + Δ‖σ‖,   r ← a² r + 2Δ ‖Σ A_kᵀσ̄_k‖ √r + Δ Σ‖σ̄_k‖²,   ‖y^η‖² ≤ r,
        |P| ≤ ‖∇L‖‖y^η‖,   |P_drift| ≤ ‖∇L‖‖y^ξ‖,   |S| ≤ sup‖∇²L‖ ‖y^η‖²,
        |S_cross| ≤ sup‖∇²L‖ ‖y^ξ‖‖y^η‖,   |S_drift| ≤ sup‖∇²L‖ ‖y^ξ‖².

    A smaller rate reduces both the drift terms and the benign term S. For an independent driver the
    mixed term of r is 0. The results are estimates: moments are means over sampled unperturbed
    paths, and sup‖∇²L‖ and (unless the system proves its rates) a are maxima over them.

    Args:
        system: D components.
        error: the perturbation.
        loss: L(y) -> `(B,)`.
        x0: initial state `(D,)` or `(paths, D)`.
        t1: end time.
        steps: number of Euler–Maruyama steps.
        paths: number of sample paths.
        seed: root seed.
        t0: start time.

    Returns:
        {"P": …, "P_drift": …, "S": …, "S_cross": …, "S_drift": …, "eta": ‖y^η‖, "xi": ‖y^ξ‖}.

    Raises:
        ValueError: an argument is invalid; the message gives its name, value and allowed values.

    >>> from sdewm.sde.examples import OrnsteinUhlenbeck
    >>> case = OrnsteinUhlenbeck()  # here both bounds of y are equalities, and ∇²L = 2
    >>> error = Perturbation(drift=case.error_drift, diffusion=case.error_diffusion)
    >>> bounds = term_bounds(case, error, case.loss, case.x0, t1=1.5, steps=50, paths=10)
    >>> exact = case.exact_terms(steps=50)
    >>> [round(bounds[name] / exact[name], 9) for name in ("S", "S_drift")]
    [1.0, 1.0]
    """
    start, end = check_interval(t0, t1)
    steps, paths = check_count("steps", steps), check_count("paths", paths)
    states = initial_states(x0, paths).to(torch.float64).expand(paths, -1)
    if not isinstance(error, Perturbation):
        raise ValueError(f"error={type(error).__name__}: expected a sdewm.Perturbation.")
    if not callable(loss):
        raise ValueError(f"loss={loss!r}: expected a function (B, D) -> (B,).")
    check_output("loss", loss(states[:2]), (len(states[:2]),), like=states)
    drivers, own = count_drivers(system, error, states.new_tensor(start), states[:2])
    require_contract(system, states, (start, end), steps, error=error, loss=loss)
    noise = GaussianNoise(drivers=drivers, steps=steps, t0=start, t1=end, seed=seed)
    grid = noise.grid(torch.float64)
    path = solve_path(system, states, noise, times=grid.tolist())  # (P, N + 1, D)
    coefficients, dt = Coefficients(system, grid[0], path[:, 0]), noise.step_size
    whole = [slice(0, states.shape[1])]
    proven = _proven_rate(system, path, grid, dt)
    xi, square = 0.0, 0.0
    for n in range(steps):
        t, x = grid[n], path[:, n]
        drift_jacobian, noise_jacobian = coefficients.jacobians(t, x)
        rate = proven
        if rate is None:
            rates = jacobian_rates(drift_jacobian, noise_jacobian, dt, whole)
            rate = float(rates["step"].max())
        force = 0.0 if error.drift is None else _norm(error.drift(t, x))
        mixed, energy = 0.0, 0.0
        if error.diffusion is not None:
            sigma_bar = error.diffusion(t, x)
            energy = _norm(sigma_bar.flatten(1)) ** 2
            if noise_jacobian is not None and own == 0:
                diagonal = noise_jacobian.dim() == 3
                rule = "skd,sk->sd" if diagonal else "skij,sik->sj"
                mixed = _norm(torch.einsum(rule, noise_jacobian, sigma_bar))
        xi = rate * xi + dt * force
        square = rate**2 * square + 2.0 * dt * mixed * math.sqrt(square) + dt * energy
    gradient, curvature = _loss_derivatives(loss, path[:, -1])
    eta = math.sqrt(square)
    return {
        "P": gradient * eta,
        "P_drift": gradient * xi,
        "S": curvature * square,
        "S_cross": curvature * xi * eta,
        "S_drift": curvature * xi**2,
        "eta": eta,
        "xi": xi,
    }


def _proven_rate(
    system: System, path: torch.Tensor, grid: torch.Tensor, step_size: float
) -> float | None:
    """The mean-square rate of a step, if the system proves one for these starts."""
    states = path[:, 0]
    blocks = block_slices(system, None, states.shape[1])
    if isinstance(system, ConstantJacobians):
        check_jacobians(system, grid, path.transpose(0, 1))
        return float(exact_rates(system, step_size, blocks).step)
    if isinstance(system, CertifiedSystem):
        box = states.amin(0), states.amax(0)
        try:
            return float(system.certified_rates(*box, step_size, blocks).step)
        except ValueError:  # no proof from these starts or at this step
            return None
    return None


def _norm(values: torch.Tensor) -> float:
    """(E|X|²)^½ of rows `(P, …)`."""
    return float(values.square().sum(1).mean().sqrt())


def _loss_derivatives(
    loss: Callable[[torch.Tensor], torch.Tensor], y: torch.Tensor
) -> tuple[float, float]:
    """‖∇L‖ = (E|∇L|²)^½ and the largest ‖∇²L‖ over states `(P, D)`."""
    size = y.shape[1]
    recorded = fuse(lambda x: (loss(x),), (y,))
    check_derivatives("loss", recorded, (y,))
    basis = [(row.repeat(len(y), 1),) for row in torch.eye(size, dtype=y.dtype)]
    zero = (torch.zeros_like(y),)
    pairs = {(i, j): zero for i in range(size) for j in range(i, size)}
    _, firsts, mixed = second_order(recorded, (y,), basis, pairs)
    gradient = torch.stack([first[0] for first in firsts], dim=1)
    hessian = y.new_zeros(len(y), size, size)
    for (i, j), (value,) in mixed.items():
        hessian[:, i, j] = hessian[:, j, i] = value.detach()
    spectrum = torch.linalg.eigvalsh(hessian)
    return _norm(gradient.detach()), float(spectrum.abs().max())

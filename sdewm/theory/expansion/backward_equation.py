"""Independent computation of the expansion terms from the value function (S5, S5a).

It serves as a check of the recursions in `expand`. Let u_n(x) = E[L(x_N) | x_n = x] for the
unperturbed scheme with normal increments. Integration by parts in the increment of step n gives,
exactly for the scheme,

    P       = Σ_n Δ E Σ_k D²u_{n+1}(x_{n+1})[σ̄_k(x_n), g_k(x_n)]    same driver; else 0
    P_drift = Σ_n Δ E Du_{n+1}(x_{n+1})[σ(x_n)]
    c2      = ½ Σ_n Δ E Σ_k D²u_{n+1}(x_{n+1})[σ̄_k(x_n), σ̄_k(x_n)]  zero drift, independent driver

Du and D²u are computed from the derivatives of the final state in the state at step n + 1. No
derivative in ε is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from sdewm.base.checks import check_count, check_interval
from sdewm.base.stats import Estimate
from sdewm.base.taylor import Tensors, fuse, second_order
from sdewm.sde.contract import require_contract
from sdewm.sde.monte_carlo import accumulate, tile_size
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import System, diffusion_product
from sdewm.theory.expansion.perturbation import Perturbation, count_drivers


def value_function_terms(
    system: System,
    error: Perturbation,
    loss: Callable[[torch.Tensor], torch.Tensor],
    x0: torch.Tensor,
    *,
    t1: float,
    steps: int,
    paths: int,
    seed: int = 0,
) -> dict[str, Estimate]:
    """P, P_drift and, for zero drift error and an independent driver, c2, from the value function.

    On path i the derivatives start at step i mod N with driver ⌊i/N⌋ mod K, where K is the number
    of drivers of σ̄. Each pair (step, driver) is sampled equally often; `paths` is rounded up to a
    multiple of N·K.

    Args:
        system: see `expand`.
        error: see `expand`.
        loss: L(y) -> `(B,)`.
        x0: initial state `(D,)`; the computation runs in its dtype.
        t1: end time.
        steps: number N of Euler–Maruyama steps; the increments are normal, as the formula for P
            requires.
        paths: number of paths.
        seed: root seed.

    Returns:
        {"P": …, "P_drift": …} and, if it applies, "c2".

    Raises:
        ValueError: an argument is invalid; the message gives its name, value and allowed values.
    """
    start, end = check_interval(0.0, t1)
    steps, paths = check_count("steps", steps), check_count("paths", paths)
    if not isinstance(x0, torch.Tensor) or x0.dim() != 1:
        given = f"has shape {tuple(x0.shape)}" if isinstance(x0, torch.Tensor) else f"= {x0!r}"
        raise ValueError(f"x0 {given}; expected a tensor (D,).")
    time = torch.tensor(start, dtype=x0.dtype)
    drivers, own = count_drivers(system, error, time, x0.expand(2, -1))
    require_contract(system, x0.expand(2, -1), (start, end), steps, error=error, loss=loss)
    carriers = 1 if error.diffusion is None else (own or drivers)
    paths = -(-paths // (steps * carriers)) * steps * carriers
    noise = GaussianNoise(drivers=drivers, steps=steps, t0=start, t1=end, seed=seed)
    tile = min(tile_size(x0.device), paths)
    grid = noise.grid(x0.dtype)
    injected = _Injected(system, error)

    def evaluate(first: int, last: int) -> torch.Tensor:
        index = torch.arange(first, first + tile)
        injected.start = grid[index % steps][:, None]
        injected.carrier = torch.nn.functional.one_hot(index // steps % carriers, carriers).to(
            x0.dtype
        )
        stacked = torch.cat((x0.expand(tile, -1), x0.new_zeros(tile, 5 * len(x0))), dim=1)
        x, a, b, c, ab, aa = solve_path(injected, stacked, noise, first=first)[:, 0].chunk(6, dim=1)
        zero = torch.zeros_like(x)
        recorded = fuse(lambda y: (loss(y),), (x,))
        with torch.no_grad():
            _, (slope_c, slope_ab, slope_aa, _, _), curvature = second_order(
                recorded,
                (x,),
                [(c,), (ab,), (aa,), (a,), (b,)],
                {(3, 4): (zero,), (3, 3): (zero,)},
            )
        span = noise.step_size * steps
        p = span * carriers * (slope_ab[0] + curvature[3, 4][0])
        c2 = 0.5 * span * carriers * (slope_aa[0] + curvature[3, 3][0])
        return torch.stack((p, span * slope_c[0], c2), dim=1)[: last - first]

    sums = accumulate(evaluate, 3, paths, label="value-function form", tile=tile)
    p, p_drift, c2 = (sums.estimate(weights) for weights in torch.eye(3))
    same = error.driver == "same" and error.diffusion is not None
    result = {"P": p if same else Estimate(0.0, 0.0), "P_drift": p_drift}
    return result if not error.is_even else result | {"c2": c2}


class _Injected:
    """A path with derivatives in its own state that start at a given step: (x, a, b, c, ab, aa).

    Until a path's step `start` its derivatives are zero; in that step they become a = σ̄_k(x_n), b
    = g_k(x_n) and c = σ(x_n), taken at the new state x_{n+1}; from then on they follow the
    linearised flow, ab and aa the second variation driven by (a, b) and (a, a).
    """

    noise_type, sde_type = "general", "ito"
    variations = tuple(f"the derivative {name}" for name in ("a", "b", "c", "ab", "aa"))

    def __init__(self, system: System, error: Perturbation) -> None:
        self.system, self.error = system, error
        self.start = self.carrier = torch.empty(0)
        self._step: Callable[..., Tensors] | None = None

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        now = (t == self.start).to(y.dtype)  # (B, 1)
        with torch.no_grad():
            if self._step is None:
                probe = y + torch.linspace(0.1, 1.0, y.shape[1], dtype=y.dtype)
                coefficients = fuse(self._coefficients, (t, v, probe.chunk(6, dim=1)[0]))
                self._step = fuse(
                    partial(self._propagate, coefficients), (t, probe, v, now, self.carrier)
                )
            drift, noise = self._step(t, y, v, now, self.carrier)
        return drift, noise

    def _coefficients(self, t: torch.Tensor, v: torch.Tensor, x: torch.Tensor) -> Tensors:
        return self.system.f(t, x), diffusion_product(self.system.g(t, x), v)

    def _propagate(
        self,
        coefficients: Callable[..., Tensors],
        t: torch.Tensor,
        y: torch.Tensor,
        v: torch.Tensor,
        now: torch.Tensor,
        carrier: torch.Tensor,
    ) -> Tensors:
        x, a, b, c, ab, aa = y.chunk(6, dim=1)
        value, firsts, seconds = second_order(
            partial(coefficients, t, v), (x,), [(a,), (b,), (c,)], {(0, 1): (ab,), (0, 0): (aa,)}
        )
        rows = [value, *firsts, seconds[0, 1], seconds[0, 0]]
        new_a, new_b, new_c = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
        if self.error.diffusion is not None:
            new_a = diffusion_product(self.error.diffusion(t, x), carrier)
            if self.error.driver == "same":
                new_b = diffusion_product(self.system.g(t, x), carrier)
        if self.error.drift is not None:
            new_c = self.error.drift(t, x)
        zero = torch.zeros_like(x)
        started = [zero, now * new_a, now * new_b, now * new_c, zero, zero]
        drift = torch.cat([row[0] for row in rows], dim=1)
        noise = torch.cat([row[1] + start for row, start in zip(rows, started, strict=True)], dim=1)
        return drift.detach(), noise.detach()

"""The bounds S9–S12 and S15–S18 as pure functions of rates.

Each bound has two forms. Form "step" bounds the Euler–Maruyama scheme, for any step size. Form
"sde" bounds the equation, and the scheme only in the limit of small steps. Rates are constant over
a step.

A grade returns factors `(N + 1,)` over the grid times. The factors "mean" and "sup" multiply
δ_1 = E|e|; "mean_square" and "sup_square" multiply δ_2² = E|e|².
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sdewm.sde.rates import Rates
from sdewm.theory.bounds.jacobian_rates import largest_eigenvalue

FORMS = ("step", "sde")
SUBSTEPS = 64  # of a step of form "sde", where an equation is solved inside it
Factors = dict[str, torch.Tensor]


def doob_factor(exponent: torch.Tensor) -> torch.Tensor:
    """Doob's factor R(K) = min_{r>1} r/(r − 1) · e^{(r − 1)K}, with R(0) = 1 (S11).

    The minimum is attained at r = ½(1 + √(1 + 4/K)).

    >>> doob_factor(torch.tensor([0.0, 0.32], dtype=torch.float64))
    tensor([1.0000, 2.6813], dtype=torch.float64)
    """
    k = exponent.clamp_min(1e-300)
    r = 0.5 * (1.0 + (1.0 + 4.0 / k).sqrt())
    return torch.where(exponent > 0, r / (r - 1.0) * ((r - 1.0) * k).exp(), 1.0)


def supremum_factor(entropy: torch.Tensor) -> torch.Tensor:
    """The root x ≥ 1 of x − 1 − log x = K (S11).

    For a martingale M ≥ 0 with M_0 = 1 and entropy E M log M ≤ K, E sup M ≤ x. The value is at most
    `doob_factor` at the same K.

    >>> supremum_factor(torch.tensor([0.0, 0.32], dtype=torch.float64))
    tensor([1.0000, 2.0261], dtype=torch.float64)
    """
    x = 1.0 + (2.0 * entropy).sqrt() + entropy  # right of the root, where Newton's steps stay
    for _ in range(50):
        x = x - (x - 1.0 - x.log() - entropy) * x / (x - 1.0).clamp_min(1e-8)
        x = torch.where(entropy > 0, x.clamp_min(1.0), 1.0)
    return x


def gronwall(rates: Rates, step_size: float, form: str) -> Factors:
    """Grönwall's inequality: the factor 3 exp(3 ∫₀^T (Tα² + 4β²)) of "sup_square" (S9, S15).

    Each grid time t takes T = t. Form "step" is 3 Π(1 + 3Δ(tα² + 4β²)). The bound uses the
    Cauchy–Schwarz and Doob inequalities; the factor of the mean follows from Jensen's inequality.
    """
    steps = len(rates.drift)
    horizon = step_size * torch.arange(steps + 1, dtype=rates.drift.dtype)
    growth = 3.0 * step_size * (horizon[:, None] * rates.drift**2 + 4.0 * rates.noise**2)
    past = torch.ones(steps + 1, steps, dtype=rates.drift.dtype).tril(-1)
    exponent = (past * (growth if form == "sde" else growth.log1p())).sum(1)  # (N + 1,)
    square = 3.0 * exponent.exp()
    return {
        "mean": square.sqrt(),
        "mean_square": square,
        "sup": square.sqrt(),
        "sup_square": square,
    }


def log_norm(rates: Rates, step_size: float, form: str) -> Factors:
    """Bounds by logarithmic norms (S10, S11, S16).

    Form "sde": e^{p ∫ λ_p}; for the supremum this is multiplied by `supremum_factor` at ½p² ∫ κ².
    Form "step": Π a² for the mean square; for its supremum this is multiplied by `supremum_factor`
    at the sum of `entropy_rate`. In both forms |D|^p divided by its moment bound is a
    supermartingale. Hence, by Doob's weak inequality, E sup|D|^q ≤ p/(p − q) · δ_q^q sup e^{q∫λ_p}
    for q < p and any horizon; this is used for (q, p) = (1, 2), (1, 4), (2, 4).

    Args:
        rates: in the Euclidean norm or a weighted one.
        step_size: Δ.
        form: "step" or "sde".
    """
    if form == "sde":
        mean = from_start(step_size * rates.log_norm[0]).exp()
        square = from_start(2.0 * step_size * rates.log_norm[1]).exp()
        fourth = from_start(step_size * rates.log_norm[2]).exp()
        spread = from_start(step_size * rates.radial**2)
        sup = running_maximum(mean) * supremum_factor(0.5 * spread)
        sup_square = running_maximum(square) * supremum_factor(2.0 * spread)
    else:
        square = from_start(2.0 * rates.step.log()).exp()
        fourth = from_start(rates.fourth.log()).exp()
        spread = from_start(entropy_rate(rates, step_size))
        sup_square = running_maximum(square) * supremum_factor(spread)
        mean, sup = square.sqrt(), sup_square.sqrt()
    largest = running_maximum(fourth)
    sup = torch.minimum(sup, torch.minimum(2.0 * running_maximum(square.sqrt()), 4 / 3 * largest))
    sup_square = torch.minimum(sup_square, 2.0 * largest**2)
    return {"mean": mean, "mean_square": square, "sup": sup, "sup_square": sup_square}


def entropy_rate(rates: Rates, step_size: float) -> torch.Tensor:
    """Entropy of |D|²/E|D|² added by a step F = I + ΔA + Σ A_k ΔB^k, upper bound `(N,)` (S11).

    Let m = (I + ΔA)v, |m| ≥ s = 1 + Δν, and q ≥ Δ Σ|A_k v|²/E|Fv|². The added entropy is at most 2q
    for Gaussian increments (logarithmic Sobolev inequality). It is also at most log(1 + k) with
    k ≥ Var|Fv|²/(E|Fv|²)², k = min(4q − 2q², 4Δ(κ + Δαβ/s)² + 2Δ²β⁴/s⁴). All rates used are convex
    (ν: concave) in the Jacobians, so that averages of Jacobians between two paths are covered.
    """
    noise = step_size * rates.noise**2
    least = (1.0 + step_size * rates.least_log_norm).clamp_min(0.0)
    share = torch.where(noise > 0, noise / (least**2 + noise), 0.0)
    radial = rates.radial + step_size * rates.drift * rates.noise / least
    variance = 4.0 * step_size * radial**2 + 2.0 * noise**2 / least**4
    variance = torch.minimum(variance.nan_to_num(torch.inf), 4.0 * share - 2.0 * share**2)
    return torch.minimum(variance.log1p(), 2.0 * share)


def block(
    rates: Rates, step_size: float, start: torch.Tensor, form: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bound by comparison of blocks, for additive noise, on each path: |D_i(t)| ≤ U_i(t) (S16).

    Args:
        rates: rates with β = 0.
        step_size: Δ.
        start: |e_i|, `(P, b)`.
        form: "step": U ← N U with N_ij = ‖(I + ΔA)_ij‖; "sde": U ← e^{ΔN} U, the solution of
            U̇ = N U with the comparison matrix N of S16.

    Returns:
        |U| at the grid, and bounds of |U| over the step that ends there, both `(P, N + 1)`. Inside
        a step of form "sde" |U| may be larger than at its ends. Between two of 64 points it is at
        most e^{sμ(N)} times the value at the first, and e^{sμ(−N)} times that at the second, with s
        their distance, where these exponents are positive.
    """
    fine = SUBSTEPS if form == "sde" else 1
    dt = step_size / fine
    maps = torch.linalg.matrix_exp(dt * rates.blocks) if form == "sde" else rates.step_blocks
    now, norms = start, [start.norm(dim=1)]
    peaks = [norms[0]]
    for n, matrix in enumerate(maps):
        points = [norms[-1]]
        for _ in range(fine):
            now = now @ matrix.T
            points.append(now.norm(dim=1))
        norms.append(points[-1])
        if form == "sde":
            points.append(_largest_between(torch.stack(points), rates.blocks[n], dt))
        peaks.append(points[-1])
    return torch.stack(norms, dim=1), torch.stack(peaks, dim=1)


def _largest_between(points: torch.Tensor, matrix: torch.Tensor, dt: float) -> torch.Tensor:
    """Bound of |U| `(P,)` between points `(k + 1, P)` of a solution of U̇ = N U, dt apart."""
    if not bool(matrix.isfinite().all()):
        return torch.full_like(points[0], torch.inf)
    symmetric = 0.5 * (matrix + matrix.T)
    rise, fall = (largest_eigenvalue(sign * symmetric).clamp_min(0) for sign in (1, -1))
    return torch.minimum((dt * rise).exp() * points[:-1], (dt * fall).exp() * points[1:]).amax(0)


@dataclass(frozen=True)
class Reference:
    """Quantities along the reference paths X⁰.

    Attributes:
        step: ‖I + ΔA‖ at X⁰_n, `(P, N)`.
        log_norm: μ(A) at X⁰_n, `(P, N)`.
        variation: |y_n|, the first variation along e, `(P, N + 1)`.
        error: |e|, `(P,)`.
        transition: bounds of ‖Φ_{n,k}‖, the product of the steps k … n − 1, `(P, N + 1, N + 1)`; 0
            for n < k. None if there are too many of them; products of `step` are then used.
    """

    step: torch.Tensor
    log_norm: torch.Tensor
    variation: torch.Tensor
    error: torch.Tensor
    transition: torch.Tensor | None = None


def linearised(
    reference: Reference, rates: Rates, step_size: float, form: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds of |D| and |D − y| on each path, for additive noise (S18).

    Form "step": D_n − y_n = Σ_{k<n} Φ_{n,k+1} q_k with |q_k| ≤ min(½ΔH d_k², (L + a) d_k). Hence
    r_n = Σ ‖Φ_{n,k+1}‖ |q_k| and d_n = min(|y_n| + r_n, a d + |q|, L d), d_0 = |e|. Here a and Φ
    are taken on the reference path, and L is the rate for all paths. Form "sde": |D| is at most
    |e|E/(1 − q) and |D − y| at most |e|E q/(1 − q) with E = exp ∫μ and q = ½|e| ∫ H E, if q < 1;
    also |D| ≤ |e| e^{∫λ}.

    Returns:
        The bound d of |D| and the bound r of |D − y|, each `(P, N + 1)`. Form "step" has d at most
        |y| + r; form "sde" takes no y, which is computed by the scheme.
    """
    if form == "sde":
        error = reference.error[:, None]
        growth = _from_start(step_size * reference.log_norm).exp()
        largest = torch.maximum(growth[:, :-1], growth[:, 1:])  # over a step
        q = 0.5 * error * _from_start(step_size * rates.curvature * largest)
        q = torch.where(error > 0, q, 0.0)  # also where the curvature is ∞
        inside = torch.where(q < 1, 1.0 - q, 0.0)
        d = torch.minimum(
            error * growth / inside, error * from_start(step_size * rates.log_norm[1]).exp()
        )
        return d, torch.where(q < 1, error * growth * q / inside, torch.inf)
    now, rest = reference.error, torch.zeros_like(reference.error)
    ds, rs, forces = [now], [rest], []
    for n, a in enumerate(reference.step.unbind(1)):
        lipschitz, bend = rates.step[n], 0.5 * step_size * rates.curvature[n]
        curved = (bend * now**2).nan_to_num(nan=torch.inf, posinf=torch.inf)
        curved = torch.where(now > 0, curved, 0.0)  # also where the curvature is ∞
        forces.append(torch.minimum(curved, (lipschitz + a) * now))
        rest = a * rest + forces[-1]
        if reference.transition is not None:
            sums = (reference.transition[:, n + 1, 1 : n + 2] * torch.stack(forces, dim=1)).sum(1)
            rest = torch.minimum(rest, sums)
        now = torch.minimum(a * now + forces[-1], lipschitz * now)
        now = torch.minimum(now, reference.variation[:, n + 1] + rest)
        ds.append(now)
        rs.append(rest)
    return torch.stack(ds, dim=1), torch.stack(rs, dim=1)


def linearised_mean_square(
    rates: Rates, step_size: float, fourth: float, form: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds of ‖D − y‖₂ and ‖sup |D − y|‖₂, each `(N + 1,)`, for multiplicative noise (S18).

    With m = δ_4 e^{∫λ_4} ≥ (E|D|⁴)^¼, the bound R of ‖D − y‖₂ solves
    (R²)′ = 2λR² + (H + βH̄)m²R + ¼H̄²m⁴. Form "step" is
    R² ← a²R² + Δ((1 + Δα)H + βH̄)m²R + ¼m⁴(Δ²H² + ΔH̄²). The supremum is at most
    ∫(αR + ½Hm²) + 2(∫(βR + ½H̄m²)²)^½ by the triangle inequality and Doob's inequality. Form "sde"
    takes the larger ends of m and R over each step, and solves the equation for R² from above: on a
    substep the term ¼H̄²m⁴ enters at once, and the rest is solved exactly.

    Args:
        rates: rates that hold for all paths.
        step_size: Δ.
        fourth: δ_4 = (E|e|⁴)^¼.
        form: "step" or "sde".
    """
    if form == "sde":
        moment = fourth * from_start(step_size * rates.log_norm[2]).exp()
    else:
        moment = fourth * from_start(rates.fourth.log()).exp()
    square, remainders = torch.zeros_like(moment[0]), [torch.zeros_like(moment[0])]
    fine = SUBSTEPS if form == "sde" else 1
    dt = step_size / fine
    for n in range(len(rates.drift)):
        m, h, h_bar = moment[n] ** 2, rates.curvature[n], rates.noise_curvature[n]
        grow, mixed = rates.step[n] ** 2, (1.0 + dt * rates.drift[n]) * h + rates.noise[n] * h_bar
        if form == "sde":
            m = torch.maximum(m, moment[n + 1] ** 2)
            lapse = dt * rates.log_norm[1, n]
            own = 0.25 * dt * (m * h_bar) ** 2 * _mean_growth(2.0 * lapse)
            shift = 0.5 * dt * m * (h + rates.noise[n] * h_bar) * _mean_growth(lapse)
            for _ in range(fine):
                square = (((2.0 * lapse).exp() * square + own).sqrt() + shift) ** 2
        else:
            own = 0.25 * m**2 * (dt**2 * h**2 + dt * h_bar**2)
            square = grow * square + dt * mixed * m * square.sqrt() + own
        remainders.append(square.sqrt())
    remainder = found = torch.stack(remainders)
    if form == "sde":  # within a step R rises or falls throughout
        remainder = torch.cat((torch.maximum(found[:-1], found[1:]), found[-1:]))
    drift = from_start(step_size * (rates.drift * remainder[:-1] + _half(rates.curvature, moment)))
    noise = rates.noise * remainder[:-1] + _half(rates.noise_curvature, moment)
    return found, drift + 2.0 * from_start(step_size * noise**2).sqrt()


def _mean_growth(rate: torch.Tensor) -> torch.Tensor:
    """The integral of exp(rate · s) over s from 0 to 1."""
    return torch.where(rate == 0, 1.0, rate.expm1() / torch.where(rate == 0, 1.0, rate))


def _half(curvature: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    return 0.5 * curvature * torch.maximum(moment[:-1], moment[1:]) ** 2


def double_exponential(rates: Rates, step_size: float, delta: float) -> torch.Tensor:
    """The paper's form as recalled, with its unspecified constant set to 1: not a bound (S15, S18).

    δ(J_0 + J_1) + δ²(e^{H_0(J_0 + J_1)} + e^{H_1(J_0 + J_1)}) with J_0 = e^{∫α}, J_1 = e^{∫β},
    H_0 = H and H_1 = H̄. Here α replaces the sum of the norms of the blocks of A, which is never
    smaller than α.
    """
    growth = from_start(step_size * rates.drift).exp() + from_start(step_size * rates.noise).exp()
    bends = [
        running_maximum(torch.cat((h[:1], h))) for h in (rates.curvature, rates.noise_curvature)
    ]
    return delta * growth + delta**2 * sum((h * growth).exp() for h in bends)


def from_start(steps: torch.Tensor) -> torch.Tensor:
    """Cumulative sums over the steps before each grid time: `(N,)` -> `(N + 1,)`, starting at 0."""
    return torch.cat((steps.new_zeros(1), steps.cumsum(0)))


def _from_start(steps: torch.Tensor) -> torch.Tensor:
    return torch.cat((steps.new_zeros(len(steps), 1), steps.cumsum(1)), dim=1)


def running_maximum(values: torch.Tensor) -> torch.Tensor:
    """Running maximum along the last dimension."""
    return values.cummax(dim=-1).values


def four_norms(norms: torch.Tensor, peaks: torch.Tensor | None = None) -> list[torch.Tensor]:
    """|D|, |D|² and their running maxima, from |D| `(P, N + 1)`, in the order of NORMS.

    `peaks` are the largest |D| over the step that ends at each point, if they are not at the grid.
    """
    largest = running_maximum(norms if peaks is None else peaks)
    return [norms, norms**2, largest, largest**2]

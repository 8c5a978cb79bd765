"""Bounds on the divergence of two rollouts from different initial states (S15–S18)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdewm.base.checks import (
    check_choice,
    check_count,
    check_device,
    check_interval,
    check_names,
)
from sdewm.sde.contract import require_constant_jacobians, require_contract
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import CERTIFICATE, ESTIMATE, ConstantJacobians, block_slices
from sdewm.sde.system import System, check_protocol
from sdewm.theory.bounds.bound import RolloutBounds
from sdewm.theory.bounds.formulas import FORMS
from sdewm.theory.bounds.rollout_problem import ENCLOSURE, RolloutProblem
from sdewm.theory.flow.initial_error import InitialError, draw_errors, initial_states

DEFAULT_GRADES = ("gronwall", "log_norm", "block", "linearised", "double_exponential")
ROLLOUT_GRADES = (*DEFAULT_GRADES, "weighted", ENCLOSURE)


def rollout_bounds(
    system: System,
    x0: torch.Tensor,
    error: InitialError,
    *,
    t1: float,
    steps: int,
    grades: Sequence[str] | str | None = None,
    paths: int = 1000,
    enclosed_paths: int = 8,
    seed: int = 0,
    t0: float = 0.0,
    form: str = "step",
    kind: str | None = None,
    blocks: Sequence[slice] | None = None,
    device: torch.device | str | None = None,
) -> RolloutBounds:
    """Bounds on the divergence D_t = X_t(x0 + e) − X_t(x0) along the same Brownian path.

    Grades, roughly from coarse to sharp, with δ_q = (E|e|^q)^(1/q):

        gronwall     √3 δ_1 exp(3/2 ∫(Tα² + 4β²)) on E sup|D|, its square on E sup|D|²     (S15)
        log_norm     δ_p^p e^{p∫λ_p} on E|D|^p; times R(½p²∫κ²) on E sup|D|^p              (S16)
        block        U̇ = N U between the blocks of the state; additive noise only          (S16)
        linearised   |y| plus a remainder linear in the curvature H                        (S18)
        double_exponential   the paper's form as recalled, constant 1: for comparison only
        weighted     log_norm in norms |Sx|, times ‖S⁻¹‖: the lowest of several S     (S12, S16)
        enclosure    sets that contain X_t(x0 + s e), |s| ≤ 1, on each of a few paths      (S34)

    The bound is a certificate if the system proves the constants, by `jacobians()` (affine
    coefficients) or by `certified_rates` (see sde.rates), and no mean over samples enters it.
    Otherwise it is an estimate: the constants are suprema over Jacobians at sampled states between
    both paths, e is drawn, or grade "linearised" averages |y| over sampled paths. Jacobians are
    sampled along 8 to 256 paths, the fewer the larger D, whose starts and errors are spread over
    all rows (`spread_rows`), and along one with the largest |e|. Affine systems
    need no such average: E|y|² is exact (S19), "mean" is its root, and the suprema under
    multiplicative noise are those of "log_norm". Grade "enclosure" is a
    certificate for every sampled path, and a sampled mean of certificates over the paths; with
    proven rates of additive noise the better of both bounds counts at every step. It is infinite
    from the first step on at which a path has no bound. `.left_out` gives the omitted grades with
    the reasons.

    Args:
        system: an Itô system with D components.
        x0: initial state `(D,)` or one per path `(paths, D)`.
        error: e: a vector `(D,)`; samples `(B, D)`, each as likely as the others; or a sampler
            (count, generator); independent of the Brownian paths. See `draw_errors`. Rates are
            proven for the errors drawn; moments are their means.
            "gronwall" and "log_norm" are certificates only if |e| is the same in all rows of a
            tensor, the other grades only if e is; of a sampler none is, whatever it has drawn.
        t1: end time.
        steps: number of steps of the scheme.
        grades: names of the grades ("block" is refused for multiplicative noise); "all": all that
            apply; default: all that apply except "weighted", which computes the Jacobians again,
            and "enclosure", which takes seconds for each path.
        paths: number of sample paths of e and of y; a multiple of B for B samples.
        enclosed_paths: number of paths that grade "enclosure" encloses, at most, with starts and
            errors from rows that are spread over all of them.
        seed: root seed.
        t0: start time.
        form: "step": bounds of the Euler–Maruyama scheme with these steps, for any step size;
            "sde": bounds of the equation, which hold for the scheme as the step tends to 0. Grade
            "linearised" then bounds |y| as well, as y is computed by the scheme; it is left out
            where Jacobians vary and the noise is multiplicative.
        kind: "certificate": raise an error if no rates are proven (a grade that averages over
            samples remains an estimate); "estimate": do not use proven rates; default: use proven
            rates if available.
        blocks: slices of the state for "block"; default: `system.blocks`, else the components.
        device: device of the computation; default: the CPU.

    Returns:
        grade -> GradeBound with curves over the grid times t_0 … t_N.

    Raises:
        ValueError: an argument is invalid; the message gives its name, value and allowed values.
        FloatingPointError: a trajectory is not finite.

    >>> from sdewm.sde.examples import OrnsteinUhlenbeck
    >>> e = torch.tensor([0.1], dtype=torch.float64)
    >>> case = OrnsteinUhlenbeck()  # D = e (1 − 0.8 Δ)^n: every rate but Grönwall's is exact
    >>> bounds = rollout_bounds(case, case.x0, e, t1=1.5, steps=15)
    >>> for grade in ("gronwall", "log_norm", "linearised"):
    ...     print(f"{grade:11} {bounds[grade].kind} {bounds[grade]['mean'].last.value:.6f}")
    gronwall    certificate 1.155925
    log_norm    certificate 0.028630
    linearised  certificate 0.028630
    """
    check_choice("form", form, FORMS)
    check_count("enclosed_paths", enclosed_paths)
    start, end = check_interval(t0, t1)
    steps, paths = check_count("steps", steps), check_count("paths", paths, minimum=2)
    if kind is not None:
        check_choice("kind", kind, (CERTIFICATE, ESTIMATE))
    named = grades is not None and grades != "all"
    every = ROLLOUT_GRADES if grades == "all" else DEFAULT_GRADES
    wanted = check_names("grades", grades if named else every, ROLLOUT_GRADES)
    states = initial_states(x0, paths).to(check_device(device), torch.float64)
    errors = draw_errors(error, paths, states, seed)
    drivers = check_protocol(system, states.new_tensor(start), states[:2])
    path = require_contract(system, states, (start, end), steps)
    noise = GaussianNoise(drivers=drivers, steps=steps, t0=start, t1=end, seed=seed)
    if kind != ESTIMATE and isinstance(system, ConstantJacobians):
        require_constant_jacobians(system, noise.grid(torch.float64), path, states + errors)
    problem = RolloutProblem(
        system=system,
        states=states.expand(paths, -1),
        errors=errors,
        drawn=callable(error),
        noise=noise,
        blocks=block_slices(system, blocks, states.shape[1]),
        form=form,
        enclosed_paths=enclosed_paths,
    )
    return problem.solve(wanted, kind, explicit=named)

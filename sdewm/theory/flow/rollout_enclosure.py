"""`enclose_rollouts`: proven bounds on the divergence of rollouts from a ball of errors (S34)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_choice, check_count, check_finite_number, check_key
from sdewm.base.progress import counted
from sdewm.base.stats import half_width
from sdewm.certificates.enclosure.attack import attack_path
from sdewm.certificates.enclosure.memory import bytes_needed
from sdewm.certificates.enclosure.rollout import Entry, PathEnclosure, Step, enclose_path
from sdewm.certificates.interval import above
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import SAMPLED
from sdewm.sde.system import (
    ObservedSystem,
    PathSystem,
    StepSystem,
    System,
    check_drivers,
    step_of,
)
from sdewm.theory.bounds.formulas import four_norms
from sdewm.theory.curve import NORMS, Curve
from sdewm.theory.flow.initial_error import initial_states

COLUMNS = 2500  # symbols of the remainders that are kept from step to step
ORDERS = {"first": 1, "second": 2}
MOST_BYTES = 4 << 30
MOST_ERRORS = 128  # p: cubic forms of p³ coefficients are summed
LEVEL = 0.95


class NoEnclosure(ValueError):
    """A system whose rollouts cannot be enclosed; the message says why."""


@dataclass(frozen=True)
class Abstention:
    """The step at which the enclosure of a path gives no bound, and why; later steps have none."""

    path: int
    step: int
    reason: str


@dataclass(frozen=True)
class Violations:
    """How many audited rollouts exceed the bound of their path at some step.

    Attributes:
        count: number of rollouts that exceed it.
        trials: number of rollouts.
        probability: upper end of the exact one-sided 95 % interval (Clopper–Pearson) of the
            probability of a violation, if the trials are independent draws.
    """

    count: int
    trials: int
    probability: float


@dataclass(frozen=True, eq=False)
class _Problem:
    """One path: where the error is, the steps, and the first state if this is an observation."""

    start: Tensor
    step: Step
    entry: Entry | None

    def enclosed(
        self,
        directions: Tensor,
        radius: float,
        steps: int,
        order: int,
        readout: Entry | None = None,
    ) -> PathEnclosure:
        """The bounds on the path; of an observation, from step 1 on, and 0 at step 0."""
        found = enclose_path(
            self.step,
            self.start,
            directions,
            radius,
            steps=steps - (self.entry is not None),
            order=order,
            columns=COLUMNS,
            entry=self.entry,
            readout=readout,
        )
        if self.entry is None:
            return found
        later = None if found.abstains is None else found.abstains + 1
        return replace(
            found,
            bounds=_after_zero(found.bounds),
            linear=_after_zero(found.linear),
            readout=_after_zero(found.readout),
            abstains=later,
        )

    def attacked(self, directions: Tensor, steps: int, seed: int) -> Tensor:
        """The largest distances that a search finds, (N + 1,)."""
        if self.entry is None:
            return attack_path(self.step, self.start, directions, steps=steps, seed=seed)
        found = attack_path(
            self.step, self.start, directions, steps=steps - 1, seed=seed, entry=self.entry
        )
        return _after_zero(found)


def _after_zero(values: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.float64), values])


def _entered(system: System | StepSystem, one: _Problem, noise: Tensor, seen: Tensor) -> _Problem:
    """The problem of an error in the observation that follows the state."""
    if not isinstance(system, ObservedSystem):
        raise ValueError("observation: expected a world model as_system(…).")
    if seen.dim() != 1 or not bool(torch.isfinite(seen).all()):
        raise ValueError(
            f"observation has shape {tuple(seen.shape)}: expected finite numbers (n,)."
        )
    entry = system.posterior_entry(one.start, noise[0])
    return _Problem(seen.double(), partial(_shifted, one.step), entry)


def _shifted(step: Step, n: int, x: Tensor) -> Tensor:
    """Step n + 1: the first one has taken place."""
    return step(n + 1, x)


@dataclass(frozen=True, eq=False)
class RolloutEnclosure(Mapping[str, Curve]):
    """Result of `enclose_rollouts`: bounds that hold for every error of the ball, path by path.

    `tube[name]`, name in "mean", "mean_square", "sup", "sup_square", is the mean over the paths of
    the bounds of |D_k|, |D_k|², and their running maxima, with its standard error s/√n over paths;
    infinite from the first step on at which a path abstains.

    Attributes:
        bounds: (P, N + 1): |X_k(e) − X_k(0)| ≤ bounds[path, k] for all e; ∞ after an abstention.
        linear: (P, N + 1), the norm of the linear part: the error to first order.
        readout: (P, N + 1): |φ(X_k(e)) − φ(X_k(0))| ≤ readout[path, k] for the function φ that was
            given; ∞ after an abstention, and where the set of φ is unbounded; empty without φ.
        abstains: the paths that have no bound up to the last step, each with step and reason.
        radius: of the ball.
        directions: A, (D, p): the errors are radius · A e, |e|₂ ≤ 1.
        noise: (P, N, M), the increments of the paths.
        times: (N + 1,).
        label: "exact", or the surrogate that replaces the model's noise.
        kind: what the bounds are, and what their means are.
        memory: bytes that were estimated before the work started.
    """

    bounds: Tensor
    linear: Tensor
    readout: Tensor
    abstains: tuple[Abstention, ...]
    radius: float
    directions: Tensor
    noise: Tensor
    times: np.ndarray
    label: str
    memory: int
    kind: str = SAMPLED
    _problems: tuple[_Problem, ...] = field(default=(), repr=False)

    def __getitem__(self, name: str) -> Curve:
        four = four_norms(self.bounds)[NORMS.index(check_key("name", name, NORMS))].numpy()
        return Curve(self.times, *_mean_and_error(four))

    def __iter__(self) -> Iterator[str]:
        return iter(NORMS)

    def __len__(self) -> int:
        return len(NORMS)

    def interval(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The 95 % t-interval of the mean over paths, lower and upper ends (N + 1,).

        It is about the mean of the bounds over the law of the noise; the bounds themselves have no
        sampling error.

        Raises:
            ValueError: there is a single path.
        """
        curve, half = self[name], half_width(1.0, len(self.bounds))
        width = half * curve.standard_errors
        return curve.values - width, curve.values + width

    def violations(self, measured: Tensor | np.ndarray) -> Violations:
        """Count measured distances above the bounds, where there are bounds.

        Args:
            measured: |X_k(e) − X_k(0)| for errors of the ball, on the noise of this result:
                (P, N + 1), or (K, P, N + 1) for K errors of each path.

        Raises:
            ValueError: another shape.

        >>> from sdewm.sde.examples import OrnsteinUhlenbeck
        >>> case = OrnsteinUhlenbeck()
        >>> tube = enclose_rollouts(case, case.x0, 0.1, steps=2, paths=3, step_size=0.1)
        >>> tube.violations(0.99 * tube.bounds)
        Violations(count=0, trials=3, probability=0.63)
        """
        distances = torch.as_tensor(np.asarray(measured), dtype=torch.float64)
        shape = tuple(self.bounds.shape)
        if distances.dim() not in (2, 3) or tuple(distances.shape[-2:]) != shape:
            raise ValueError(
                f"measured has shape {tuple(distances.shape)}: expected (P, N + 1) = {shape}, or "
                "(K, P, N + 1)."
            )
        above = (~(distances <= self.bounds)).any(-1)
        count, trials = int(above.sum()), above.numel()
        return Violations(count, trials, violation_bound(count, trials))

    def attack(self, seed: int = 0) -> Tensor:
        """The largest distances that a search finds, (P, N + 1); see `attack_path`.

        They are lower bounds of the suprema that `bounds` bounds.
        """
        directions, steps = self.radius * self.directions, self.bounds.shape[1] - 1
        return torch.stack([one.attacked(directions, steps, seed) for one in self._problems])


def enclose_rollouts(
    system: System | StepSystem,
    x0: Tensor,
    radius: float,
    directions: Tensor | None = None,
    *,
    steps: int,
    paths: int = 8,
    step_size: float = 1.0,
    order: str = "second",
    observation: Tensor | None = None,
    readout: Entry | None = None,
    seed: int = 0,
) -> RolloutEnclosure:
    """Bound the divergence of rollouts from all initial errors of a ball or an ellipsoid (S34).

    On each path, with its noise and inputs fixed, X_k(e) is the rollout from x0 + radius · A e. For
    all |e|₂ ≤ 1 and k = 0 … N the result has

        |X_k(e) − X_k(0)|₂ ≤ bounds[path, k].

    This is proven for the model in exact arithmetic with the weights, inputs and noise increments
    as they are stored in float64. Rounding errors of the computation are part of the sets
    (`certificates.enclosure.taylor_set`), and so is the uncertainty of the reference X_k(0)
    (`certificates.enclosure.rollout`). A mean over the paths is a sampled mean.

    The sets are Taylor models: polynomials of degree two in e, and a zonotope for the remainders,
    run through the code of the step. Every torch function of the step must have an enclosure:
    linear maps, tanh, sigmoid, SiLU, softplus, GELU, Mish, ELU, ReLU, products, quotients, layer
    and root-mean-square normalisation, nn.GRUCell, functions that move numbers, and what is
    composed of them.

    A path *abstains* at the first step at which its bound exceeds 10 times the error to first order
    (the norm of the linear part of its set), or a set becomes unbounded.

    Args:
        system: a world model with its inputs (`as_system`, with τ = 1), of one or more episodes; or
            any Itô system written in torch, by its Euler–Maruyama steps.
        x0: initial state (D,), or one for each path (paths, D), in float64. With several episodes
            as `system.start` gives it; standard errors take the paths as units.
        radius: of the ball of e, above 0.
        directions: A (D, p), p at most 128; an error of covariance C is at most r in its own metric
            on the ellipsoid of A = C^½ with radius r. None: the unit matrix.
        steps: N.
        paths: number of noise paths.
        step_size: Δ of the Euler–Maruyama steps; 1 for a world model.
        order: "second", or "first": half the time and less memory, enough for radii up to about
            1e-3.
        observation: the observation (n,) that follows the state x0 of a world model with an
            encoder. The error is in it then, observation + radius · A e with A (n, p): step 1 is
            the posterior's, and D_0 = 0; the later steps are the prior's.
        readout: a function φ of states (B, D) -> (B,) or (B, m), such as the value of a critic
            (`latent_sde.losses.value`) or the mean of a decoder: its change is bounded at every
            step. A bias of φ after k steps is at most the mean of the bounds.
        seed: of the noise, which is that of `rollout_divergence` with equal `seed`, `steps` and
            t1 = steps · step_size.

    Returns:
        A `RolloutEnclosure`.

    Raises:
        ValueError: an argument is not allowed; a function of the step has no enclosure (the message
            names it); the latent is one-hot; or the sets would take more than 4 GiB.

    >>> from sdewm.sde.examples import OrnsteinUhlenbeck
    >>> case = OrnsteinUhlenbeck()
    >>> tube = enclose_rollouts(case, case.x0, 0.1, steps=4, paths=2, step_size=0.25)
    >>> tube["mean"].values  # additive noise cancels: 0.1 (1 − 0.8/4)^n
    array([0.1 , 0.08 , 0.064 , 0.0512 , 0.04096])
    """
    steps, paths = check_count("steps", steps), check_count("paths", paths)
    radius, step_size = _positive("radius", radius), _positive("step_size", step_size)
    check_choice("order", order, ORDERS)
    states = initial_states(x0, paths).double().expand(paths, -1)
    noise = _increments(system, states, steps, step_size, seed)
    problems = [path_problem(system, states[i], noise[i], 0.0, step_size) for i in range(paths)]
    first = problems[0]
    if observation is not None:
        problems = [_entered(system, one, noise[i], observation) for i, one in enumerate(problems)]
    matrix = _check_directions(directions, len(problems[0].start))
    memory = bytes_needed(first.step, first.start, matrix.shape[1], ORDERS[order], COLUMNS)
    if memory > MOST_BYTES:
        raise ValueError(
            f"directions has p = {matrix.shape[1]} columns: the sets would take about "
            f"{memory / 2**30:.1f} GiB, and at most {MOST_BYTES >> 30} are allowed; give fewer "
            "directions, or order='first'."
        )
    work = counted("enclosure", problems, paths)
    found = [one.enclosed(matrix, radius, steps, ORDERS[order], readout) for one in work]
    return RolloutEnclosure(
        bounds=torch.stack([one.bounds for one in found]),
        linear=torch.stack([one.linear for one in found]),
        readout=torch.stack([one.readout for one in found]) if readout else torch.empty(0),
        abstains=_abstentions(found),
        radius=radius,
        directions=matrix,
        noise=noise,
        times=step_size * np.arange(steps + 1.0),
        label=str(getattr(system, "label", "exact")),
        memory=memory,
        _problems=tuple(problems),
    )


def _abstentions(found: list[PathEnclosure]) -> tuple[Abstention, ...]:
    return tuple(
        Abstention(path, one.abstains, one.reason)
        for path, one in enumerate(found)
        if one.abstains is not None
    )


def _positive(name: str, value: float) -> float:
    if not check_finite_number(name, value) > 0:
        raise ValueError(f"{name}={value!r}: expected a number above 0.")
    return float(value)


def _check_directions(directions: Tensor | None, size: int) -> Tensor:
    matrix = torch.eye(size, dtype=torch.float64) if directions is None else directions
    if not isinstance(matrix, Tensor) or matrix.dim() != 2 or len(matrix) != size:
        given = tuple(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
        raise ValueError(f"directions is {given}: expected a matrix (D, p) with D = {size}.")
    if not 1 <= matrix.shape[1] <= MOST_ERRORS:
        raise ValueError(
            f"directions has p = {matrix.shape[1]} columns: expected at least 1 and at most "
            f"{MOST_ERRORS}; choose the directions of the largest errors."
        )
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("directions contains values that are not finite.")
    return matrix.detach().double()


def _increments(
    system: System | StepSystem,
    states: Tensor,
    steps: int,
    step_size: float,
    seed: int,
) -> Tensor:
    """The noise increments (P, N, M) of the paths."""
    drivers = check_drivers(system, torch.zeros(()), states[:2])
    noise = GaussianNoise(drivers=drivers, steps=steps, t1=steps * step_size, seed=seed)
    return noise.increments(0, len(states)).transpose(0, 1)


def enclose_errors(
    system: System | StepSystem,
    states: Tensor,
    errors: Tensor,
    noise: GaussianNoise,
    step_rates: Tensor | None = None,
) -> Tensor:
    """Bounds of |X_k(s e) − X_k(0)| for all |s| ≤ 1, path by path: (P, N + 1).

    They are infinite from the step on at which the path abstains. Later paths are enclosed only up
    to there, because the mean over all paths is infinite then.

    Args:
        system: see `enclose_rollouts`.
        states: (P, D), where the paths start.
        errors: e of each path, (P, D).
        noise: the increments; path i has number i.
        step_rates: (N,), Lipschitz constants of the steps that are proven for the rollouts with
            s = 0 and 1, under additive noise; the bound of s = 1 at step k + 1 is then at most the
            constant times that at step k, and no path abstains.

    Raises:
        NoEnclosure: a function of the step has no enclosure; the message names it.
    """
    increments = noise.increments(0, len(states)).transpose(0, 1)
    bounds = torch.full((len(states), noise.steps + 1), math.inf, dtype=torch.float64)
    last = noise.steps
    starts = enumerate(zip(states.double(), errors.double(), strict=True))
    for i, (state, error) in counted("enclosure", starts, len(states)):
        if not bool(error.any()):  # both rollouts are one
            bounds[i, : last + 1] = 0.0
            continue
        try:
            problem = path_problem(system, state, increments[i], noise.t0, noise.step_size)
            line = error[: len(problem.start), None]
            found = problem.enclosed(line, 1.0, last, ORDERS["second"])
        except ValueError as reason:
            raise NoEnclosure(str(reason)) from None
        bounds[i, : last + 1] = found.bounds
        if step_rates is not None:
            bounds[i] = _continued(bounds[i], above(float(error.norm())), step_rates)
        elif found.abstains is not None:
            last = max(0, found.abstains - 1)
    return bounds


def _continued(bounds: Tensor, start: float, rates: Tensor) -> Tensor:
    """The smaller of each bound and the one before times the Lipschitz constant of the step."""
    better = [min(float(bounds[0]), start)]
    for bound, rate in zip(bounds[1:], rates, strict=True):
        better.append(min(float(bound), above(float(rate) * better[-1])))
    return bounds.new_tensor(better)


def path_problem(
    system: System | StepSystem, state: Tensor, noise: Tensor, t0: float, step_size: float
) -> _Problem:
    """The steps of one path from a state (D,), on increments (N, M) from time t0 on.

    Raises:
        ValueError: the system has no steps that can be enclosed.
    """
    if isinstance(system, PathSystem):
        return _Problem(*system.path_steps(state, noise, t0, step_size), None)
    return _Problem(state, partial(_euler_step, system, noise, t0, step_size), None)


def _euler_step(
    system: System | StepSystem, noise: Tensor, t0: float, step_size: float, n: int, x: Tensor
) -> Tensor:
    """One Euler–Maruyama step, x + f(x) Δ + g(x) ΔB."""
    time = torch.tensor(t0 + n * step_size, dtype=torch.float64)
    drift, moved = step_of(system)(time, x, noise[n].expand(len(x), -1))
    return x + drift * step_size + moved


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over paths and its standard error s/√n; nan where infinite, or of a single path."""
    if len(values) == 1:
        return values[0], np.full_like(values[0], np.nan)
    with np.errstate(invalid="ignore"):
        return values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5


def violation_bound(count: int, trials: int) -> float:
    """Upper end of the exact one-sided 95 % interval (Clopper–Pearson) of a probability."""
    from scipy.special import betaincinv  # not every import of sdewm should pay for it

    return 1.0 if count == trials else float(betaincinv(count + 1.0, trials - count, LEVEL))

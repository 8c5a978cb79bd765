"""`enclose_rollouts`: proven bounds on the divergence of rollouts from a ball of errors (S34)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import (
    check_choice,
    check_count,
    check_finite_number,
    check_key,
    check_real_tensor,
)
from sdewm.base.progress import counted
from sdewm.base.stats import half_width, mean_and_error
from sdewm.certificates.enclosure.rollout import Entry
from sdewm.certificates.enclosure.slabs import MOST_SLABS
from sdewm.sde.fingerprint import Watch
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import SAMPLED
from sdewm.sde.system import StepSystem, System, check_drivers
from sdewm.theory.bounds.formulas import four_norms
from sdewm.theory.curve import NORMS, Curve
from sdewm.theory.flow.initial_error import initial_states
from sdewm.theory.flow.path_problem import ORDERS, PathEnclosure, PathProblem, Request

MOST_ERRORS = 128  # p: cubic forms of p³ coefficients are summed
LEVEL = 0.95
MOST_SEED = 2**63 - 1  # of a generator of torch


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
class RolloutEnclosure(Mapping[str, Curve]):
    """Result of `enclose_rollouts`: bounds that hold for every error of the ball, path by path.

    `tube[name]`, name in "mean", "mean_square", "sup", "sup_square", is the mean over the paths of
    the bounds of |D_k|, |D_k|², and their running maxima, with its standard error s/√n over paths;
    infinite from the first step on at which a path abstains.

    Attributes:
        bounds: (P, N + 1): |X_k(e) − X_k(0)| ≤ bounds[path, k] for all e; ∞ after an abstention.
        linear: (P, N + 1), the norm of the linear part: the error to first order. From the step on
            at which only the slabs have a bound, the largest one of a slab.
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
        slabs: number of slabs into which the ball was cut.
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
    slabs: int
    _problem: PathProblem = field(repr=False)
    _watch: Watch = field(repr=False)
    kind: str = SAMPLED

    def __getitem__(self, name: str) -> Curve:
        four = four_norms(self.bounds)[NORMS.index(check_key("name", name, NORMS))].numpy()
        return Curve(self.times, *mean_and_error(four))

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
        if len(self.bounds) < 2:
            raise ValueError("paths=1: an interval of the mean over paths needs at least two.")
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
        if isinstance(measured, np.ndarray) and measured.dtype.kind in "fiu":
            measured = torch.from_numpy(measured.astype(np.float64))
        distances = check_real_tensor("measured", measured).detach().double()
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

        Raises:
            ValueError: within torch.inference_mode, where there are no gradients to ascend; or the
                system has changed since the bounds were computed.
        """
        if torch.is_inference_mode_enabled():
            raise ValueError("attack: expected to be called outside torch.inference_mode.")
        check_count("seed", seed, minimum=0, maximum=MOST_SEED)
        self._watch.require_unchanged("the step", "call enclose_rollouts again")
        directions, steps = self.radius * self.directions, self.bounds.shape[1] - 1
        each = (self._problem.of(slice(i, i + 1)) for i in range(len(self.bounds)))
        return torch.stack([one.attacked(directions, steps, seed) for one in each])


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
    slabs: int = 1,
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

    As a check of the enclosures themselves, a few rollouts of the ball are followed through the
    step in float64. They must be in the sets (`certificates.enclosure.members`). The step and φ
    must depend on their arguments alone; a change after many calls would not be noticed.

    A path *abstains* at the first step at which its bound exceeds 10 times the error to first order
    (the norm of the linear part of its set), or a set becomes unbounded.

    What is left out grows with the cube of the reach of a set. With S slabs the ball is also cut
    into S parts across the direction that the path stretches most, and the largest bound of these
    is taken where it is smaller. This costs about S/2 times as much, as several
    are computed at a time, and carries bounds to larger errors and further steps.

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
        slabs: S, at most 256.
        seed: of the noise, which is that of `rollout_divergence` with equal `seed`, `steps` and
            t1 = steps · step_size.

    Returns:
        A `RolloutEnclosure`.

    Raises:
        ValueError: an argument is not allowed; a function of the step has no enclosure (the message
            names it); a rollout of the ball leaves the sets, as of a step that draws random numbers
            or remembers its calls; the latent is one-hot; or the sets would take more than 4 GiB.

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
    if readout is not None and not callable(readout):
        raise ValueError(f"readout={readout!r}: expected a function of states (B, D), or None.")
    if observation is not None:
        check_real_tensor("observation", observation)
    grid, noise = _increments(system, states, steps, step_size, seed)
    problem = PathProblem(system, states, noise, grid.t0, grid.step_size, observation)
    matrix = _check_directions(directions, problem.start.shape[1])
    if check_count("slabs", slabs) > MOST_SLABS:
        raise ValueError(f"slabs={slabs}: expected at most {MOST_SLABS}.")
    asked = Request(radius * matrix.expand(paths, -1, -1), steps, ORDERS[order], readout)
    rows = problem.rows_at_a_time(matrix.shape[1], asked.order)
    memory = problem.checked_memory(matrix.shape[1], asked.order)
    parts = [slice(i, min(i + rows, paths)) for i in range(0, paths, rows)]
    work = counted("enclosure", parts, len(parts))
    found = [one for some in work for one in _enclosed(problem.of(some), asked.of(some), slabs)]
    return RolloutEnclosure(
        bounds=torch.stack([one.bounds for one in found]),
        linear=torch.stack([one.linear for one in found]),
        readout=torch.empty(0) if readout is None else torch.stack([one.readout for one in found]),
        abstains=_abstentions(found),
        radius=radius,
        directions=matrix,
        noise=noise,
        times=grid.grid(torch.float64).numpy(),
        label=str(getattr(system, "label", "exact")),
        memory=memory * min(rows, max(paths, slabs)),
        slabs=slabs,
        _problem=problem,
        _watch=Watch.set(partial(problem.reference, steps)),
    )


def _enclosed(problem: PathProblem, asked: Request, slabs: int) -> list[PathEnclosure]:
    found = problem.enclosed(asked)
    if slabs > 1:
        for i, one in enumerate(found):
            only = slice(i, i + 1)
            found[i] = problem.of(only).cut(asked.of(only), one, slabs)
    return found


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
    if isinstance(matrix, Tensor):
        check_real_tensor("directions", matrix)
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
) -> tuple[GaussianNoise, Tensor]:
    """The noise, and its increments on the paths (P, N, M)."""
    drivers = check_drivers(system, torch.zeros(()), states[:2])
    noise = GaussianNoise(drivers=drivers, steps=steps, t1=steps * step_size, seed=seed)
    return noise, noise.increments(0, len(states)).transpose(0, 1)


def violation_bound(count: int, trials: int) -> float:
    """Upper end of the exact one-sided 95 % interval (Clopper–Pearson) of a probability."""
    from scipy.special import betaincinv  # not every import of sdewm should pay for it

    return 1.0 if count == trials else float(betaincinv(count + 1.0, trials - count, LEVEL))

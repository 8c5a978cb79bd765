"""Derivations by sympy, evaluated and compared with simulation, enumeration or autograd.

A check receives the derivation, changed by a negative control, evaluates its results at a concrete
system, and compares the numbers with a computation that does not use them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch.func import jacfwd, jacrev, jvp

import sdewm
from paper_checks.cases.derivations import (
    ACTION,
    DRIVERS,
    ENCODER_NOISE,
    JET,
    SEQUENCE_NOISE,
    STATES,
    TASK_NOISE,
    A,
    CurvedSystem,
    closed_loop_model,
)
from paper_checks.cases.expansions import ready_case
from paper_checks.cases.trained_models import trained_case
from paper_checks.derivations import layer_norm as layer_norm_derivation
from paper_checks.derivations import moments as moment_derivation
from paper_checks.derivations.assembly import TERMS, assembly
from paper_checks.derivations.block_structure import ROWS, STATE, VARIATION, block_structure
from paper_checks.derivations.ito_correction import (
    GEOMETRIC,
    evaluate,
    geometric_first_order,
    ito_correction,
)
from paper_checks.derivations.residual_form import FACTOR, MEAN, TAU, residual_form
from paper_checks.derivations.residual_form import STATE as RESIDUAL_STATE
from paper_checks.derivations.steps import Derivation
from paper_checks.derivations.variation import (
    ETA,
    LENGTH,
    PAIRS,
    XI,
    Coefficients,
    variation_equations,
)
from paper_checks.findings import Finding, Mutate, Settings, compare, conclude
from sdewm.base.elementary import ElementaryOperations, load_forward_rules
from sdewm.base.stats import Estimate
from sdewm.certificates.interval import Interval
from sdewm.certificates.normalisation import Normalisation
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.theory.expansion.perturbation import ito_correction as automatic_correction

ROUNDING = 1e-11  # of sums of some hundred products
PATHS = 32
LENGTH_OF_STEP = 0.1
VARIATIONS = ("x", "y_eta", "y_xi", *(f"w_{a}_{b}" for a, b in PAIRS))
RELAXATION_TIMES = (0.5, 1.0, 2.0, 7.0)
REFINEMENTS = (32, 512)  # numbers of steps between which the order is measured


def variation(settings: Settings, mutate: Mutate) -> Finding:
    """The recursions of S5b give the derivatives of simulated end states in both sizes.

    The derivatives are taken by automatic differentiation of the whole simulation, and once more by
    central differences of it.
    """
    noise, references = _simulated_derivatives(settings.seed)
    derivation = mutate(variation_equations(STATES, DRIVERS))
    derived = run_recursion(derivation, CurvedSystem(), LENGTH_OF_STEP, noise)
    findings = [
        _largest(f"{name}{label}", derived[name] - reference, allowed)
        for name, label, reference, allowed in references
    ]
    return conclude(findings, headline="largest error of w_eta_eta")


@lru_cache  # for the negative control, which is compared with the same numbers
def _simulated_derivatives(
    seed: int,
) -> tuple[torch.Tensor, list[tuple[str, str, torch.Tensor, float]]]:
    """Increments, and per variation: name, method, derivative of the end states, tolerance."""
    case, generator = CurvedSystem(), torch.Generator().manual_seed(seed)
    noise = torch.randn(PATHS, 8, DRIVERS, dtype=torch.float64, generator=generator)
    noise = math.sqrt(LENGTH_OF_STEP) * noise
    load_forward_rules()

    def end(sizes: torch.Tensor) -> torch.Tensor:
        return case.simulate(sizes, LENGTH_OF_STEP, noise)  # (B, 2)

    zero, unit = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    first, second = jacfwd(end)(zero), jacfwd(jacfwd(end))(zero)  # (B, 2, 2), (B, 2, 2, 2)
    index, h, label = {ETA: 0, XI: 1}, 1e-3, " by differences"
    references = [("x", "", end(zero), ROUNDING)]
    for a, i in index.items():
        central = (end(h * unit[i]) - end(-h * unit[i])) / (2 * h)
        references += [(f"y_{a}", "", first[:, :, i], ROUNDING), (f"y_{a}", label, central, 1e-5)]
    for a, b in PAIRS:
        i, j = index[a], index[b]
        corners = [
            sign * end(h * (p * unit[i] + q * unit[j]))
            for p, q, sign in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
        ]
        central = sum(corners, torch.zeros(())) / (4 * h * h)
        name, automatic = f"w_{a}_{b}", second[:, :, i, j]
        references += [(name, "", automatic, ROUNDING), (name, label, central, 1e-4)]
    return noise, references


def run_recursion(
    derivation: Derivation, case: CurvedSystem, length: float, noise: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Path and variations (B, 2) after the increments (B, N, 2), by the derived recursions."""
    inputs = [*JET.x, *JET.y[ETA], *JET.y[XI], *(w for pair in PAIRS for w in JET.w[pair])]
    inputs += [LENGTH, *Coefficients(JET, DRIVERS).increments]
    entries = [entry for name in VARIATIONS for entry in case.insert(derivation.results[name])]
    function = sp.lambdify(inputs, entries, modules="numpy", cse=True)
    state = np.zeros((len(VARIATIONS) * STATES, len(noise)))
    state[:STATES] = case.x0.numpy()[:, None]
    for increment in noise.numpy().transpose(1, 2, 0):
        state = np.stack(
            [value + np.zeros(len(noise)) for value in function(*state, length, *increment)]
        )
    parts = torch.from_numpy(state).T.split(STATES, dim=1)
    return dict(zip(VARIATIONS, parts, strict=True))


def _largest(name: str, gap: torch.Tensor, allowed: float = ROUNDING) -> Finding:
    """The largest entry of a difference that is claimed to vanish."""
    estimate = Estimate(float(gap.abs().max()), 0.0)
    return compare(f"largest error of {name}", estimate, 0.0, allowed)


def assembled(settings: Settings, mutate: Mutate) -> Finding:
    """c₁ and c₂ assembled from the terms are the derivatives of E L, enumerated (S4).

    E L is the mean over all sign patterns of the increments of a two-state system. Its derivatives
    in ε are taken by automatic differentiation; the terms are also those of `sdewm.expand`.
    """
    derivation, case = mutate(assembly(STATES)), CurvedSystem()
    values, derivatives, expansion = _enumerated()
    inputs = [*JET.x, *JET.y[ETA], *JET.y[XI], *(w for pair in PAIRS for w in JET.w[pair])]
    on_path = sp.lambdify(inputs, [case.insert(derivation.results[name]) for name in TERMS])
    terms = {n: float(np.mean(v)) for n, v in zip(TERMS, on_path(*values), strict=True)}
    numbers = {TERMS[name]: value for name, value in terms.items()}
    totals = {name: float(derivation.results[name].subs(numbers)) for name in ("c1", "c2")}
    findings = [
        compare(name, Estimate(totals[name], 0.0), value, ROUNDING)
        for name, value in derivatives.items()
    ]
    findings += [
        compare(f"{name} by expand", Estimate(value, 0.0), expansion[name], ROUNDING)
        for name, value in (terms | totals).items()
    ]
    return conclude(findings, headline="c2")


@lru_cache  # for the negative control, which is compared with the same numbers
def _enumerated() -> tuple[list[np.ndarray], dict[str, float], dict[str, float]]:
    """Over all sign patterns: path and variations, c₁ and c₂ by autograd, terms by `expand`."""
    case, steps, t1 = CurvedSystem(), 4, 0.8
    length = t1 / steps
    both = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    signs = torch.cartesian_prod(*[both] * steps * DRIVERS)
    noise = math.sqrt(length) * signs.reshape(-1, steps, DRIVERS)
    moved = run_recursion(variation_equations(STATES, DRIVERS), case, length, noise)

    def mean_loss(size: torch.Tensor) -> torch.Tensor:
        return case.loss(case.simulate(torch.stack([size, size]), length, noise)).mean()

    load_forward_rules()
    zero = torch.zeros((), dtype=torch.float64)
    second = jacfwd(jacfwd(mean_loss))(zero)
    derivatives = {"c1": float(jacfwd(mean_loss)(zero)), "c2": 0.5 * float(second)}
    error = sdewm.Perturbation(drift=case.error_drift, diffusion=case.error_diffusion)
    grid: dict[str, Any] = {"t1": t1, "steps": steps, "increments": "enumerate"}
    terms = sdewm.expand(case, error, case.loss, case.x0, **grid).terms
    values = [column.numpy() for name in VARIATIONS for column in moved[name].T]
    return values, derivatives, {name: term.value for name, term in terms.items()}


def correction(settings: Settings, mutate: Mutate) -> Finding:
    """Variation of constants with the derived forcings gives P of O3, and every simulated path.

    For matrices that do not commute, left-end sums of Φ⁻¹ dt and Φ⁻¹ dB on simulated paths tend to
    the simulated variation with order ½ in the step; without correction they do not.
    """
    derivation = mutate(ito_correction())
    case = ready_case("GeometricBrownianMotion")
    values = (case.growth, case.volatility, case.sigma_bar, float(case.x0), case.t1)
    first_order = geometric_first_order(derivation.results["y"])
    first_order = first_order.subs(dict(zip(GEOMETRIC, values, strict=True)))
    exact = case.exact_terms()["P"]
    findings = [compare("P of O3", Estimate(float(first_order), 0.0), exact, 1e-9 * abs(exact))]
    findings += [_strong_order(settings, derivation, name) for name in ("y", "w")]
    return conclude(findings, headline="P of O3")


MATRICES = {
    "A": np.array([[-0.6, 0.9], [0.2, -0.4]]),
    "A_{1}": np.array([[0.3, 0.4], [-0.2, 0.25]]),
    "A_{2}": np.array([[0.1, -0.5], [0.3, 0.2]]),
}
FORCINGS = {  # of y and of w: any vectors serve
    "y": (r"\sigma", r"\bar{\sigma}_{1}", r"\bar{\sigma}_{2}"),
    "w": ("F_{0}", "F_{1}", "F_{2}"),
}
VECTORS = tuple(np.array([[a], [b]]) for a, b in ((0.4, -0.2), (0.5, 0.3), (-0.3, 0.6)))


def _strong_order(settings: Settings, derivation: Derivation, name: str) -> Finding:
    """Order in the step of the root mean square of (variation − variation of constants)."""
    generator = np.random.default_rng(settings.seed)
    vectors = dict(zip(FORCINGS[name], VECTORS, strict=True))
    forcing = evaluate(derivation.results[name], MATRICES | vectors)
    squares = []
    for steps in REFINEMENTS:
        length = 1.0 / steps
        noise = math.sqrt(length) * generator.standard_normal((steps, 2, 1024, 1, 1))
        flow = np.broadcast_to(np.eye(2), (1024, 2, 2))
        moved, total = np.zeros((2, 1024, 2, 1))
        for first, second in noise:
            inverse = np.linalg.inv(flow)
            driven = VECTORS[1] * first + VECTORS[2] * second
            total = total + inverse @ (forcing * length + driven)
            step = np.eye(2) + MATRICES["A"] * length
            step = step + MATRICES["A_{1}"] * first + MATRICES["A_{2}"] * second
            moved = step @ moved + VECTORS[0] * length + driven
            flow = step @ flow
        squares.append(((moved - flow @ total) ** 2).sum((1, 2)))
    coarse, fine = squares
    ratio = math.log(REFINEMENTS[1] / REFINEMENTS[0])
    order = 0.5 * math.log(coarse.mean() / fine.mean()) / ratio
    parts = [0.5 * np.std(s) / s.mean() / ratio / math.sqrt(len(s)) for s in squares]
    return compare(f"order of the error of {name}", Estimate(order, math.hypot(*parts)), 0.5, 0.1)


def structure(settings: Settings, mutate: Mutate) -> Finding:
    """The derived corrections equal those of automatic differentiation at random states (S6, S7).

    The world model has one component per block, a closed loop, and curved diffusions of h and s.
    """
    action = {A: ACTION}
    derivation = mutate(
        block_structure(ENCODER_NOISE, SEQUENCE_NOISE.subs(action), TASK_NOISE.subs(action))
    )
    model = closed_loop_model()
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (2, PATHS, len(STATE))
    x, y = torch.randn(shape, dtype=torch.float64, generator=generator)
    t = torch.zeros((), dtype=torch.float64)
    diffusion = model.latent_error_diffusion(lambda h, s: 0.5 + 0.2 * torch.tanh(h + s))
    load_forward_rules()
    error = sdewm.Perturbation(diffusion=diffusion)
    expected = {"first": automatic_correction(model, error)(t, x)}
    for k, name in enumerate(ROWS):

        def column(state: torch.Tensor, k: int = k) -> torch.Tensor:
            return model.g(t, state)[:, :, k]

        def slope(state: torch.Tensor, column: Any = column) -> torch.Tensor:
            return jvp(column, (state,), (y,))[1]

        def error_column(state: torch.Tensor, k: int = k) -> torch.Tensor:
            return diffusion(t, state)[:, :, k]

        forcing = jvp(slope, (x,), (y,))[1] + 2.0 * jvp(error_column, (x,), (y,))[1]  # F_k
        expected[name] = jvp(column, (x,), (forcing,))[1]
    findings = []
    for name, automatic in expected.items():
        function = sp.lambdify([*STATE, *VARIATION], list(derivation.results[name]))
        entries = function(*x.numpy().T, *y.numpy().T)
        derived = np.stack([entry + np.zeros(PATHS) for entry in entries], axis=1)
        findings.append(_largest(f"A F of {name}", torch.from_numpy(derived) - automatic))
    return conclude(findings, headline="largest error of A F of seq")


def moments(settings: Settings, mutate: Mutate, *, system: str, driver: str = "same") -> Finding:
    """Closed forms of the terms equal the exact terms of the ready system to 1e-9 (rule a).

    Both in continuous time and for the scheme with 10 steps.
    """
    case, count = ready_case(system), 10
    perturbed = mutate(moment_derivation.perturbed_system(system, driver))
    values = {symbol: getattr(case, name) for name, symbol in perturbed.parameters.items()}
    values |= dict(zip(perturbed.start, case.x0.tolist(), strict=True))
    values |= {moment_derivation.TIME: case.t1, moment_derivation.COUNT: count}
    values |= {moment_derivation.LENGTH: case.t1 / count}
    findings = []
    for scheme, label in ((False, ""), (True, f", {count} steps")):
        exact = case.exact_terms(driver=driver, steps=count if scheme else None)
        if "Q" in exact:
            exact = exact | {"Q + S/2": exact["Q"] + exact["S"] / 2}
        derived = moment_derivation.moment_closure(perturbed, scheme).results
        names = [name for name in derived if name in exact]
        expressions = [derived[name] for name in names]
        numbers = sp.lambdify(list(values), expressions, modules="math", cse=True)(*values.values())
        findings += [
            compare(f"{n}{label}", Estimate(float(v), 0.0), exact[n], 1e-9 * abs(exact[n]))
            for n, v in zip(names, numbers, strict=True)
        ]
    return conclude(findings, headline="c2")


def linear_moments(settings: Settings, mutate: Mutate, *, system: str, driver: str) -> Finding:
    """The terms of O2 and O6 from closed moment equations, solved together, to 1e-9 (rule a)."""
    case, count = ready_case(system), 10
    perturbed = mutate(moment_derivation.linear_system(case, driver))
    findings = []
    for steps, label in ((None, ""), (count, f", {count} steps")):
        exact = case.exact_terms(driver=driver, steps=steps)
        exact = exact | {"Q + S/2": exact["Q"] + exact["S"] / 2}
        derived = moment_derivation.solved_together(perturbed, case.t1, steps)
        findings += [
            compare(f"{name}{label}", Estimate(value, 0.0), exact[name], 1e-9 * abs(exact[name]))
            for name, value in derived.items()
        ]
    return conclude(findings, headline="c2")


def residual(settings: Settings, mutate: Mutate) -> Finding:
    """Euler–Maruyama steps of the derived drift and diffusion are a trained model's steps (S21).

    For every relaxation time they reproduce the filtered states of recorded episodes, each from the
    state before it. The Jacobian
    of a step has the rank of the deterministic part, as the derived determinant 0 states.
    """
    derivation = mutate(residual_form())
    names = [MEAN, FACTOR, RESIDUAL_STATE, TAU]
    drift, diffusion = (
        sp.lambdify(names, derivation.results[name], modules="math")
        for name in ("drift", "diffusion")
    )
    case = trained_case(20, 8)
    paths = clean_paths(case.model, case.episodes)
    system = sdewm.as_system(
        case.model,
        actions=case.episodes.previous_actions[:, 1:],
        observations=case.episodes.observations[:, 1:],
    )
    findings = []
    for tau in RELAXATION_TIMES:
        worst = torch.zeros((), dtype=torch.float64)
        for n in range(paths.states.shape[1] - 1):
            state = system.start(paths.states[:, n])
            mean, factor = system.law(torch.tensor(float(n), dtype=torch.float64), state)
            increment = math.sqrt(tau) * paths.noise[:, n + 1]
            moved = torch.einsum("bdm,bm->bd", diffusion(mean, factor, state, tau), increment)
            moved = state + tau * drift(mean, factor, state, tau) + moved
            worst = torch.maximum(worst, (moved[:, :-1] - paths.states[:, n + 1]).abs().max())
        findings.append(_largest(f"the states, τ = {tau}", worst))
    start, kept = system.start(paths.states[:, 10])[:1], case.model.rssm.deter_size
    jacobian = jacrev(lambda y: system.step(y, 10, paths.noise[:1, 11])[0, :-1])(start)[:, 0, :-1]
    values = torch.linalg.svdvals(jacobian)
    share = Estimate(float(values[kept] / values[0]), 0.0)
    determinant = float(derivation.results["determinant"])
    findings.append(compare("singular value after those of h", share, determinant))
    return conclude(findings, headline="largest error of the states, τ = 2.0")


def layer_norm(settings: Settings, mutate: Mutate) -> Finding:
    """The derivatives of layer normalisation equal those of the written-out form and of torch.

    Compared are nested forward derivatives of the elementary form, the propagation of the
    certificates, central differences of torch's own layer norm, and the certificates' constant.
    """
    derivation, floor, size = mutate(layer_norm_derivation.layer_norm()), 1e-3, 7
    generator = torch.Generator().manual_seed(settings.seed)
    x, d = torch.randn(2, PATHS, size, dtype=torch.float64, generator=generator)
    y, p = (part - part.mean(1, keepdim=True) for part in (x, d))
    means = [(a * b).mean(1, keepdim=True).numpy() for a, b in ((y, y), (y, p), (p, p))]
    derived = {}
    for name in ("first", "second"):
        arguments = layer_norm_derivation.ARGUMENTS
        function = sp.lambdify(arguments, derivation.results[name], modules="numpy")
        entries = function(y.numpy(), p.numpy(), *means, floor)
        derived[name] = torch.from_numpy(np.broadcast_to(entries, y.shape).copy())

    def norm(state: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.layer_norm(state, (size,), eps=floor)

    load_forward_rules()
    with ElementaryOperations():
        slope = jvp(norm, (x,), (d,))[1]
        curvature = jvp(lambda s: jvp(norm, (s,), (d,))[1], (x,), (d,))[1]
    one, zero, h = torch.ones(size, dtype=torch.float64), torch.zeros_like(x), 2e-4
    module = Normalisation(one, 0 * one, floor, centred=True)
    _, *propagated = module.taylor(x, d, zero)
    plus, minus = norm(x + h * d), norm(x - h * d)
    differences = ((plus - minus) / (2 * h), (plus + minus - 2 * norm(x)) / h**2)
    findings = []
    for k, (name, automatic) in enumerate((("first", slope), ("second", curvature))):
        findings += [
            _largest(f"the {name} derivative", derived[name] - automatic),
            _largest(f"the {name} derivative, certificates", derived[name] - propagated[k]),
            _largest(f"the {name} derivative, differences", derived[name] - differences[k], 1e-4),
        ]
    square = sp.lambdify(
        [layer_norm_derivation.COSINE, layer_norm_derivation.SHARE], derivation.results["square"]
    )
    cosine, share = np.meshgrid(np.linspace(0.0, 1.0, 201), np.linspace(0.0, 1.0, 1001))
    limit = torch.full((size,), math.inf, dtype=torch.float64)
    constant = module.enclose(Interval(-limit, limit)).curvature_2 * math.sqrt(size) * floor
    largest = Estimate(float(np.sqrt(square(cosine, share).max())), 0.0)
    findings.append(compare("largest second derivative", largest, constant, 1e-9))
    return conclude(findings, headline="largest second derivative")

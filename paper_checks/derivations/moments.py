r"""c₀, c₁ and c₂ of the ready systems in closed form, from closed moment equations (section 9).

The loss of a ready system is a polynomial, and so are its drift and its covariance a(x), the
diffusion times its transpose. Moments of the *perturbed* system, with both sizes of the error kept
as symbols, therefore solve linear equations, without any variation:

* continuous time: d/dt E p(x) = E[f·∇p + ½ Σ a_ij ∂_ij p];
* the scheme: E[p(x⁺) | x] = exp(½Δ Σ a_ij ∂_ij) p at x + Δ f, with a frozen (Gaussian increments).

Expanded in the sizes the equations are triangular and are solved one after the other. A sum of
basis functions e_k(μ), with e_k = t^k/k! e^(μt) or C(n, k) μ^(n−k), solves both kinds: for a
forcing e_k(μ) and rate λ the solution from 0 is (e_k(μ) − solution for e_(k−1)(μ))/(μ − λ), and
e_(k+1)(λ) if μ = λ.

Where the drift couples all states, the equations are not triangular. For such a system with numbers
in place of symbols, all of them together are one linear equation, solved by a matrix exponential or
power.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
from scipy.linalg import expm

from paper_checks.derivations.steps import Derivation, Step, equation

TIME = sp.Symbol("T", positive=True)
COUNT = sp.Symbol("N", integer=True, positive=True)  # of steps
LENGTH = sp.Symbol(r"\Delta", positive=True)  # of a step
DRIFT_SIZE, NOISE_SIZE = sp.symbols(r"{\varepsilon}_d {\varepsilon}_n")
ORDERS = tuple((i, j) for i in range(3) for j in range(3) if i + j <= 2)
X, H = sp.symbols("x h", real=True)
START, START_H = sp.symbols("x_0 h_0")


@dataclass(frozen=True)
class Perturbed:
    """A perturbed system with polynomial drift and covariance.

    Attributes:
        name: the class in `sdewm.sde.examples`.
        number: its statement number.
        states: state variables.
        start: their initial values.
        drift: of each state, with the size of the drift error.
        covariance: of each pair of states, symmetric, with the size of the diffusion error.
        loss: polynomial in the states.
        parameters: symbol by the name of the parameter of the class.
    """

    name: str
    number: str
    states: tuple[sp.Symbol, ...]
    start: tuple[sp.Symbol, ...]
    drift: tuple[sp.Expr, ...]
    covariance: Mapping[tuple[int, int], sp.Expr]
    loss: sp.Expr
    parameters: Mapping[str, sp.Symbol]


def perturbed_system(name: str, driver: str) -> Perturbed:
    """One of the ready systems, with symbols for its parameters.

    The error's noise is added to the system's noise ("same"), or independent of it.
    """
    a, b, c, beta = sp.symbols(r"a b c \beta")
    q, mu, nu, sigma, bar = sp.symbols(r"q \mu \nu \sigma \bar{\sigma}")

    def square(noise: sp.Expr, error: sp.Expr) -> sp.Expr:
        if driver == "same":
            return sp.expand((noise + NOISE_SIZE * error) ** 2)
        return noise**2 + NOISE_SIZE**2 * error**2

    errors = {"sigma": sigma, "sigma_bar": bar}
    if name == "OrnsteinUhlenbeck":
        drift, noise = (-a * X + DRIFT_SIZE * sigma,), square(q, bar)
        number, parameters = "O1", {"rate": a, "noise": q, **errors}
    elif name == "GeometricBrownianMotion":
        drift, noise = (mu * X + DRIFT_SIZE * sigma,), square(nu * X, bar)
        number, parameters = "O3", {"growth": mu, "volatility": nu, **errors}
    elif name == "ScaledGeometricBrownianMotion":
        drift, noise = (mu * X,), square(nu * X, bar * X)
        number, parameters = "O3b", {"growth": mu, "volatility": nu, "sigma_bar": bar}
    elif name == "PearsonDiffusion":
        drift, noise = (mu * X,), sp.expand(square(nu, bar) * (1 + X**2))
        number, parameters = "O5", {"drift": mu, "volatility": nu, "sigma_bar": bar}
    else:
        cascade = {"rate": a, "decay": b, "gain": c, "curvature": beta, "noise": q, **errors}
        return Perturbed(
            name,
            "O4",
            (X, H),
            (START, START_H),
            (-a * X + DRIFT_SIZE * sigma, -b * H + c * X + beta * X**2),
            {(0, 0): square(q, bar)},
            H**2,
            cascade,
        )
    return Perturbed(name, number, (X,), (START,), drift, {(0, 0): noise}, X**2, parameters)


def image(system: Perturbed, power: sp.Expr, scheme: bool) -> sp.Expr:
    """The generator applied to a monomial; for the scheme its mean after one step."""
    states, half = system.states, sp.Rational(1, 2)

    def diffuse(value: sp.Expr, second: Mapping[tuple[int, int], sp.Expr]) -> sp.Expr:
        parts = (part * sp.diff(value, states[i], states[j]) for (i, j), part in second.items())
        return half * sp.Add(*parts)

    if not scheme:
        slopes = (f * sp.diff(power, x) for f, x in zip(system.drift, states, strict=True))
        return sp.expand(sp.Add(*slopes) + diffuse(power, system.covariance))
    frozen = {key: sp.Dummy() for key in system.covariance}
    total, term = power, power
    for k in itertools.count(1):
        term = LENGTH * diffuse(term, frozen) / k
        if term == 0:
            break
        total += term
    moves = zip(states, system.drift, strict=True)
    total = total.subs({x: x + LENGTH * f for x, f in moves}, simultaneous=True)
    return sp.expand(total.subs({frozen[key]: value for key, value in system.covariance.items()}))


Sum = dict[tuple[int, sp.Expr], sp.Expr]  # factor by (k, μ) of the basis function e_k(μ)


def _add(total: Sum, key: tuple[int, sp.Expr], value: sp.Expr) -> None:
    k, rate = key
    for known in total:
        if known[0] == k and sp.expand(known[1] - rate) == 0:
            key = known
    total[key] = total.get(key, sp.S.Zero) + value


def solve_linear(rate: sp.Expr, forcing: Sum, start: sp.Expr) -> Sum:
    """The solution with this rate, forcing and initial value as a sum of basis functions."""
    solution: Sum = {}
    for (k, other), value in forcing.items():
        gap = sp.expand(other - rate)
        if gap == 0:
            _add(solution, (k + 1, rate), value)
            continue
        for order in range(k, -1, -1):
            value = value / gap
            _add(solution, (order, other), value)
            if order == 0:
                _add(solution, (0, rate), -value)
            value = -value
    _add(solution, (0, rate), start)
    return solution


def expected_loss(system: Perturbed, scheme: bool) -> dict[tuple[int, int], sp.Expr]:
    """Coefficients of ε_d^i ε_n^j in E L for i + j ≤ 2, at time T or after N steps."""
    states, sizes = system.states, (DRIFT_SIZE, NOISE_SIZE)

    @cache
    def row(powers: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, int], sp.Expr]]:
        """The image of a monomial: (monomial, orders in the sizes, factor)."""
        monomial = sp.Mul(*(x**p for x, p in zip(states, powers, strict=True)))
        polynomial = sp.Poly(image(system, monomial, scheme), *states, *sizes)
        split = len(states)
        return [(key[:split], key[split:], factor) for key, factor in polynomial.terms()]

    @cache
    def moment(powers: tuple[int, ...], orders: tuple[int, int]) -> tuple[tuple, ...]:
        """The coefficient of the orders in a moment, as items of a Sum."""
        rate, forcing = sp.S.Zero, {}
        for others, used, factor in row(powers):
            left = (orders[0] - used[0], orders[1] - used[1])
            if min(left) < 0 or factor == 0:
                continue
            if (others, left) == (powers, orders):
                rate = factor
                continue
            for key, value in moment(others, left):
                _add(forcing, key, factor * value)
        begin = sp.Mul(*(x**p for x, p in zip(system.start, powers, strict=True)))
        start = begin if orders == (0, 0) else sp.S.Zero
        return tuple(solve_linear(rate, forcing, start).items())

    def basis(k: int, rate: sp.Expr) -> sp.Expr:
        if scheme:
            return sp.binomial(COUNT, k).expand(func=True) * rate ** (COUNT - k)
        return TIME**k / sp.factorial(k) * sp.exp(rate * TIME)

    loss = sp.Poly(system.loss, *states).terms()
    return {
        orders: sp.Add(
            *(
                factor * value * basis(*key)
                for powers, factor in loss
                for key, value in moment(powers, orders)
            )
        )
        for orders in ORDERS
    }


def linear_system(case: Any, driver: str) -> Perturbed:
    """O2 or O6, dx = (Mx + c + ε_d σ) dt + (G + ε_n Σ̄) dB with L = ½ xᵀWx, with numbers."""
    matrix = sp.Matrix(case.matrix.tolist())
    size = matrix.rows
    states = sp.symbols(f"x_1:{size + 1}", real=True)
    x, noise, error = sp.Matrix(states), sp.Matrix(case.noise.tolist()), case.sigma_bar.tolist()
    bar = NOISE_SIZE * sp.Matrix(error)
    own = (noise + bar) * (noise + bar).T if driver == "same" else noise * noise.T + bar * bar.T
    drift = matrix * x + DRIFT_SIZE * sp.Matrix(case.sigma.tolist())
    if hasattr(case, "constant"):
        drift += sp.Matrix(case.constant.tolist())
    loss = sp.expand((x.T * sp.Matrix(case.weight.tolist()) * x)[0] / 2)
    pairs = itertools.product(range(size), repeat=2)
    covariance = {(i, j): sp.expand(own[i, j]) for i, j in pairs if own[i, j] != 0}
    name = type(case).__name__
    number = {"LinearWorldModel": "O2", "ClosedLoop": "O6"}[name]
    start = tuple(sp.Float(value) for value in case.x0.tolist())
    return Perturbed(name, number, states, start, tuple(drift), covariance, loss, {})


def solved_together(system: Perturbed, t1: float, steps: int | None) -> dict[str, float]:
    """The results of `moment_closure` for a system with numbers, at `t1`.

    The unknowns are the coefficients of ε_d^i ε_n^j, i + j ≤ 2, of all moments up to the degree of
    the loss, which is closed because the drift is linear and the noise constant.
    """
    scheme = steps is not None
    degree = sp.Poly(system.loss, *system.states).total_degree()
    powers = [
        one
        for one in itertools.product(range(degree + 1), repeat=len(system.states))
        if sum(one) <= degree
    ]
    index = {key: n for n, key in enumerate(itertools.product(powers, ORDERS))}
    matrix, start = np.zeros((len(index), len(index))), np.zeros(len(index))
    length = t1 / steps if steps else 0.0
    for one in powers:
        monomial = sp.Mul(*(x**p for x, p in zip(system.states, one, strict=True)))
        moved = image(system, monomial, scheme).subs(LENGTH, length)
        terms = sp.Poly(moved, *system.states, DRIFT_SIZE, NOISE_SIZE).terms()
        for orders in ORDERS:
            for key, factor in terms:
                others, used = key[: len(one)], key[len(one) :]
                left = (orders[0] - used[0], orders[1] - used[1])
                if min(left) >= 0:
                    matrix[index[one, orders], index[others, left]] += float(factor)
        begin = [float(x) ** p for x, p in zip(system.start, one, strict=True)]
        start[index[one, (0, 0)]] = np.prod(begin)
    moved_on = np.linalg.matrix_power(matrix, steps) if steps else expm(t1 * matrix)
    found = moved_on @ start
    loss = sp.Poly(system.loss, *system.states).terms()
    parts = {
        orders: float(sum(float(factor) * found[index[one, orders]] for one, factor in loss))
        for orders in ORDERS
    }
    return named_parts(parts)


def named_parts(orders: Mapping[tuple[int, int], Any]) -> dict[str, Any]:
    """c0, P, P_drift, Q + S/2, c1 and c2 from the coefficients of ε_d^i ε_n^j."""
    results = {"c0": orders[0, 0], "P": orders[0, 1], "P_drift": orders[1, 0]}
    results |= {"Q + S/2": orders[0, 2], "c1": orders[0, 1] + orders[1, 0]}
    return results | {"c2": orders[0, 2] + orders[1, 1] + orders[2, 0]}


def moment_closure(system: Perturbed, scheme: bool = False) -> Derivation:
    """E L and its coefficients in ε for one ready system.

    The results are "c0", "P", "P_drift", "Q + S/2", "c1" and "c2" (S4; Q and S are not told apart
    by the law of the perturbed system alone, see S5).
    """
    results = named_parts(expected_loss(system, scheme))
    steps = []
    waiting, seen = [e for e, _ in sp.Poly(system.loss, *system.states).terms()], set()
    for powers in waiting:  # grows while it is walked
        if powers in seen or not any(powers):
            continue
        seen.add(powers)
        monomial = sp.Mul(*(x**p for x, p in zip(system.states, powers, strict=True)))
        moved = image(system, monomial, scheme)
        waiting += [e for e, _ in sp.Poly(moved, *system.states).terms()]
        inner = sp.latex(monomial)
        left = rf"\mathbb{{E}}[({inner})^+\mid x]" if scheme else rf"\mathcal{{L}}\,{inner}"
        text = "The mean after one step is" if scheme else "The generator gives"
        steps.append(Step(text, equation(left, moved)))
    parts = (
        ("c0", "c_0", "Solved with both sizes zero, the expected loss is"),
        ("P", "P", "Its part linear in the size of the diffusion error is"),
        ("P_drift", r"\tilde P", "Its part linear in the size of the drift error is"),
        ("Q + S/2", r"Q+\tfrac12S", "Its part quadratic in the size of the diffusion error is"),
    )
    if len(system.states) == 1:  # those of two states fill pages
        steps += [Step(text, equation(left, results[name])) for name, left, text in parts]
    kind = "the scheme" if scheme else "continuous time"
    title = f"Moments of {system.name}, {kind}"
    return Derivation(title, system.number, tuple(steps), results)

"""Exact expansion terms from moment equations of the variation system.

For polynomial coefficients the joint moments of the state and of its variations (S1, S4) solve a
closed linear system: an ordinary differential equation in continuous time, and a recursion for the
Euler–Maruyama scheme with Gaussian increments (S5b). Both are derived here from the coefficients
alone; no expansion term is entered by hand. Statement numbers: ``paper_checks/MATHEMATICS.md``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sdewm.base.checks import check_choice, check_count
from sdewm.sde.examples.polynomials import Polynomial, add, derivative, multiply, scale

DRIVERS = ("same", "independent")
# Blocks of the extended state: x, y eta, y xi, w eta, w - w eta (S4).
STATE, Y_ETA, Y_XI, W_ETA, W_DRIFT = range(5)
BLOCKS = 5


@dataclass(frozen=True)
class MomentSystem:
    """Polynomial coefficients of a perturbed system, n states, and its loss.

    Attributes:
        drift: n polynomials, g of (1).
        diffusion: one list of n polynomials per driver, the columns of g-bar.
        error_drift: n polynomials, sigma.
        error_diffusion: one list of n polynomials per driver, the columns of sigma-bar.
        loss: L, one polynomial.
        variation_drift: n polynomials whose Jacobian replaces that of ``drift`` in the variations;
            only for negative controls with a wrong linearisation (S7). None means ``drift``.
        modes: None for polynomials; for a single angle x, the largest |k| of exp(ikx) retained.
    """

    drift: Sequence[Polynomial]
    diffusion: Sequence[Sequence[Polynomial]]
    error_drift: Sequence[Polynomial]
    error_diffusion: Sequence[Sequence[Polynomial]]
    loss: Polynomial
    variation_drift: Sequence[Polynomial] | None = None
    modes: int | None = None


class MomentVariation:
    """The extended system (x, y eta, y xi, w eta, w - w eta) of S1 and S4, 5 n variables.

    Attributes:
        drift: 5 n polynomials.
        diffusion: one such list per driver.
        targets: polynomials whose expectations are c0, P, Q, S, P_drift, Q_drift, S_cross, S_drift.
    """

    def __init__(self, system: MomentSystem, driver: str) -> None:
        """Derive the variation equations for one driver convention."""
        self.modes = system.modes
        self.size = len(system.drift)
        linearised = system.variation_drift or system.drift
        zero: list[Polynomial] = [{}] * self.size
        noise, error = system.diffusion, system.error_diffusion
        if driver == "same":
            pairs = list(zip(noise, error, strict=True))
        else:
            pairs = [(column, zero) for column in noise] + [(zero, column) for column in error]
        self.drift = self._rows(system.drift, linearised, system.error_drift, zero)
        self.diffusion = [self._rows(column, column, zero, bar) for column, bar in pairs]
        self.targets = self._targets(system.loss)

    def _rows(
        self,
        value: Sequence[Polynomial],
        linearised: Sequence[Polynomial],
        sigma: Sequence[Polynomial],
        sigma_bar: Sequence[Polynomial],
    ) -> list[Polynomial]:
        """One coefficient of the five blocks; ``sigma`` forces y xi, ``sigma_bar`` forces y eta."""
        first, second = self._first, self._second
        terms = list(zip(linearised, sigma, sigma_bar, strict=True))
        y_eta = [add(first(g, Y_ETA), self._lift(b)) for g, _, b in terms]
        y_xi = [add(first(g, Y_XI), self._lift(s)) for g, s, _ in terms]
        w_eta = [
            add(first(g, W_ETA), second(g, Y_ETA, Y_ETA), scale(first(b, Y_ETA), 2.0))
            for g, _, b in terms
        ]
        w_drift = [
            add(
                first(g, W_DRIFT),
                second(g, Y_XI, Y_XI),
                scale(second(g, Y_XI, Y_ETA), 2.0),
                scale(add(first(s, Y_XI), first(s, Y_ETA), first(b, Y_XI)), 2.0),
            )
            for g, s, b in terms
        ]
        return [*map(self._lift, value), *y_eta, *y_xi, *w_eta, *w_drift]

    def _targets(self, loss: Polynomial) -> dict[str, Polynomial]:
        first, second = self._first, self._second
        return {
            "c0": self._lift(loss),
            "P": first(loss, Y_ETA),
            "Q": scale(first(loss, W_ETA), 0.5),
            "S": second(loss, Y_ETA, Y_ETA),
            "P_drift": first(loss, Y_XI),
            "Q_drift": scale(first(loss, W_DRIFT), 0.5),
            "S_cross": second(loss, Y_XI, Y_ETA),
            "S_drift": second(loss, Y_XI, Y_XI),
        }

    def _lift(self, polynomial: Polynomial) -> Polynomial:
        tail = (0,) * ((BLOCKS - 1) * self.size)
        return {exponents + tail: value for exponents, value in polynomial.items()}

    def _unit(self, block: int, index: int) -> Polynomial:
        position = block * self.size + index
        return {tuple(int(i == position) for i in range(BLOCKS * self.size)): 1.0}

    def _first(self, polynomial: Polynomial, block: int) -> Polynomial:
        """Directional derivative D p [block]."""
        periodic = self.modes is not None
        parts = (
            multiply(self._lift(derivative(polynomial, i, periodic)), self._unit(block, i))
            for i in range(self.size)
        )
        return add(*parts)

    def _second(self, polynomial: Polynomial, block: int, other: int) -> Polynomial:
        """Second directional derivative D2 p [block, other]."""
        periodic = self.modes is not None
        parts = (
            multiply(self._first(derivative(polynomial, i, periodic), other), self._unit(block, i))
            for i in range(self.size)
        )
        return add(*parts)

    def generator(self, exponents: tuple[int, ...]) -> Polynomial:
        """Itô generator, drift . grad + (1/2) sum_k (diffusion_k . grad)^2, of one monomial."""
        monomial: Polynomial = {exponents: 1.0}
        total: Polynomial = {}
        active = [i for i, power in enumerate(exponents) if power]
        for i in active:
            slope = derivative(monomial, i, self._periodic(i))
            total = add(total, multiply(self.drift[i], slope))
            for j, column in itertools.product(active, self.diffusion):
                if column[i] and column[j]:
                    curvature = derivative(slope, j, self._periodic(j))
                    weight = scale(multiply(column[i], column[j]), 0.5)
                    total = add(total, multiply(weight, curvature))
        return total

    def _periodic(self, index: int) -> bool:
        return self.modes is not None and index < self.size

    def euler_step(self, index: int, step: float) -> Polynomial:
        """One Euler–Maruyama step of a variable, polynomial in (variables, increments)."""
        drivers = len(self.diffusion)
        start = {tuple(int(i == index) for i in range(BLOCKS * self.size)): 1.0}
        moved = add(start if not self._periodic(index) else {}, scale(self.drift[index], step))
        total: Polynomial = {e + (0,) * drivers: value for e, value in moved.items()}
        for k, column in enumerate(self.diffusion):
            increment = tuple(int(i == k) for i in range(drivers))
            total = add(total, {e + increment: value for e, value in column[index].items()})
        return total

    def euler_image(self, step: float) -> Callable[[tuple[int, ...]], Polynomial]:
        """Monomial -> its conditional mean after one Euler–Maruyama step (Gaussian increments)."""
        drivers = len(self.diffusion)
        moves = [self.euler_step(i, step) for i in range(BLOCKS * self.size)]

        def image(exponents: tuple[int, ...]) -> Polynomial:
            product: Polynomial = {(0,) * (len(exponents) + drivers): 1.0}
            for move, power in zip(moves, exponents, strict=True):
                for _ in range(power):
                    product = multiply(product, move)
            means = (
                {e[: len(exponents)]: value * _normal_moments(e[len(exponents) :], step)}
                for e, value in product.items()
            )
            return add(*means)

        return image


def _normal_moments(powers: tuple[int, ...], variance: float) -> float:
    """E prod_k N_k^powers[k] for independent centred normals of the given variance."""
    total = 1.0
    for power in powers:
        if power % 2:
            return 0.0
        total *= float(np.prod(np.arange(power - 1, 0, -2))) * variance ** (power // 2)
    return total


def closure(
    image: Callable[[tuple[int, ...]], Polynomial], start: Polynomial, modes: int | None = None
) -> tuple[list[tuple[int, ...]], Any]:
    """Monomials reached from ``start`` under a linear map, and the sparse matrix of the map.

    Row i of the matrix holds the image of monomial i. With ``modes`` set, first exponents beyond
    it in absolute value are dropped.
    """
    from scipy.sparse import coo_array

    basis = {exponents: i for i, exponents in enumerate(start)}
    queue = list(basis)
    rows, cols, values = [], [], []
    for exponents in queue:  # grows while it is walked
        for target, value in image(exponents).items():
            if modes is not None and abs(target[0]) > modes:
                continue
            if target not in basis:
                basis[target] = len(queue)
                queue.append(target)
            rows.append(basis[exponents])
            cols.append(basis[target])
            values.append(value)
    return queue, coo_array((np.array(values), (rows, cols)), shape=(len(queue),) * 2).tocsr()


def exponential_action(matrix: Any, vector: np.ndarray) -> np.ndarray:
    """exp(matrix) @ vector by a scaled Taylor series; every scaled factor has 1-norm at most 1."""
    pieces = max(1, int(np.ceil(abs(matrix).sum(axis=0).max())))
    for _ in range(pieces):
        term = vector
        for order in itertools.count(1):
            term = matrix @ term / (order * pieces)
            vector = vector + term
            if np.abs(term).max() <= 1e-18 * np.abs(vector).max():
                break
    return vector


def exact_terms(
    system: MomentSystem,
    x0: torch.Tensor,
    t1: float,
    driver: str = "same",
    steps: int | None = None,
) -> dict[str, float]:
    """The ten expansion terms of S4, exact to rounding.

    Args:
        system: coefficients, n states.
        x0: start (n,).
        t1: final time; the start is time 0.
        driver: "same" or "independent".
        steps: None for continuous time, N for Euler–Maruyama with N equal steps and Gaussian
            increments.

    Returns:
        c0, P, Q, S, P_drift, Q_drift, S_cross, S_drift, c1, c2; S is E[y'Hy] without a half.

    Raises:
        ValueError: for an unknown driver or a ``steps`` that is not a positive whole number.
    """
    extended = MomentVariation(system, check_choice("driver", driver, DRIVERS))
    start = dict.fromkeys(itertools.chain(*extended.targets.values()), 1.0)
    if steps is None:
        basis, matrix = closure(extended.generator, start, system.modes)
        moments = exponential_action(matrix * t1, initial_moments(basis, extended, x0))
    else:
        steps = check_count("steps", steps)
        basis, matrix = closure(extended.euler_image(t1 / steps), start)
        moments = initial_moments(basis, extended, x0)
        for _ in range(steps):
            moments = matrix @ moments
    return read_terms(extended.targets, dict(zip(basis, moments, strict=True)))


def initial_moments(
    basis: list[tuple[int, ...]], extended: MomentVariation, x0: torch.Tensor
) -> np.ndarray:
    """Values of the monomials at the start, where all variations are zero."""
    start = np.array(x0.tolist())
    states = np.array([exponents[: extended.size] for exponents in basis])
    values = np.exp(1j * start * states) if extended.modes is not None else start**states
    varied = np.array([any(exponents[extended.size :]) for exponents in basis])
    return np.where(varied, 0.0, values.prod(axis=1))


def read_terms(
    targets: dict[str, Polynomial], moments: dict[tuple[int, ...], complex]
) -> dict[str, float]:
    """Expectations of the targets, and the totals c1 and c2 of S4, equation (2)."""
    terms = {
        name: float(np.real(sum(value * moments[e] for e, value in target.items())))
        for name, target in targets.items()
    }
    terms["c1"] = terms["P"] + terms["P_drift"]
    terms["c2"] = (
        terms["Q"] + terms["S"] / 2 + terms["Q_drift"] + terms["S_cross"] + terms["S_drift"] / 2
    )
    return terms

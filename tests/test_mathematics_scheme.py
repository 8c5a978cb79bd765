"""The lemmas of MATHEMATICS.md on the scheme (S9–S18), on random systems by exact enumeration.

Drift and diffusion are quadratic, so that Jacobians are affine between two states: the averages of
the text are exact at the midpoint, and the supremum of a convex rate is attained at an end.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from scipy.special import lambertw

DT = 0.15


def gamma_root(entropy):
    return 1.0 if entropy <= 0 else float(-lambertw(-np.exp(-1.0 - entropy), -1).real)


def norm(matrices):
    return np.linalg.norm(matrices, 2, axis=(-2, -1))


def sym(matrices):
    return 0.5 * (matrices + np.swapaxes(matrices, -1, -2))


def root_mean_square(vectors):
    return math.sqrt((vectors**2).sum(-1).mean())


@dataclass
class Quadratic:
    """Drift (row 0) and diffusions x -> A x + ½ B[x, x]; A (1 + K, D, D), B (1 + K, D, D, D)."""

    linear: np.ndarray
    bent: np.ndarray

    def coefficients(self, x):
        return np.einsum("kij,pj->kpi", self.linear, x) + 0.5 * self.second(x, x)

    def second(self, u, v):
        return np.einsum("kijl,pj,pl->kpi", self.bent, u, v)

    def jacobians(self, x):
        return self.linear[:, None] + np.einsum("kijl,pl->kpij", self.bent, x)

    def steps(self, x, noise):
        """States (N + 1, P, D) along increments (N, K, P)."""
        path = [x]
        for increment in noise:
            drift, *diffusion = self.coefficients(path[-1])
            moved = sum(b[:, None] * g for b, g in zip(increment, diffusion, strict=True))
            path.append(path[-1] + DT * drift + moved)
        return np.array(path)


def random_system(rng, size, drivers, bend=0.2, noise_bend=0.2, noise=0.5):
    scale = np.array([1.0, *[noise] * drivers])[:, None, None]
    linear = rng.normal(size=(1 + drivers, size, size)) * scale
    linear[0] -= np.eye(size)
    bent = rng.normal(size=(1 + drivers, size, size, size))
    bent *= np.array([bend, *[noise_bend] * drivers])[:, None, None, None]
    return Quadratic(linear, 0.5 * (bent + np.swapaxes(bent, 2, 3)))


def all_increments(steps, drivers):
    signs = np.array(list(product((1.0, -1.0), repeat=steps * drivers)))
    return math.sqrt(DT) * signs.T.reshape(steps, drivers, -1)


def pointwise_rates(system, states):
    """The rates of section 5 at each state, and the norms of I + ΔA."""
    drift, *noise = system.jacobians(states)
    noise, step = np.array(noise), np.eye(states.shape[1]) + DT * drift
    gram = np.einsum("kpij,kpil->pjl", noise, noise)
    square = np.linalg.eigvalsh(np.swapaxes(step, 1, 2) @ step + DT * gram)[:, -1]
    beta = np.sqrt(np.linalg.eigvalsh(gram)[:, -1].clip(0))
    inner = (norm(sym(np.swapaxes(step, 1, 2) @ noise)) ** 2).sum(0)
    return {
        "alpha": norm(drift),
        "beta": beta,
        "kappa": np.sqrt((norm(sym(noise)) ** 2).sum(0)),
        "nu": -np.linalg.eigvalsh(sym(drift))[:, 0],  # the largest −ν is −ν
        "a": np.sqrt(square),
        "a4": (square**2 + 4 * DT * inner + 2 * DT**2 * beta**4) ** 0.25,
        "step": norm(step),
    }


def largest(system, *states):
    rates = [pointwise_rates(system, x) for x in states]
    return {name: max(float(r[name].max()) for r in rates) for name in rates[0]}


@dataclass
class Rollout:
    """Both paths on all increments, the first variation, and rates per step."""

    reference: np.ndarray
    difference: np.ndarray
    variation: np.ndarray
    tube: list
    along: list
    bends: tuple

    @classmethod
    def of(cls, system, x, error, noise):
        paths = noise.shape[2]
        start, moved = np.tile(x, (paths, 1)), np.tile(x + error, (paths, 1))
        reference, other = system.steps(start, noise), system.steps(moved, noise)
        y = [moved - start]
        for state, increment in zip(reference, noise, strict=False):
            drift, *rest = np.einsum("kpij,pj->kpi", system.jacobians(state), y[-1])
            y.append(
                y[-1]
                + DT * drift
                + sum(b[:, None] * g for b, g in zip(increment, rest, strict=True))
            )
        tube = [largest(system, *pair) for pair in zip(reference[:-1], other[:-1], strict=True)]
        size = len(x)
        bends = norm(system.bent[:1].reshape(size, -1)), norm(system.bent[1:].reshape(-1, size**2))
        along = [largest(system, state) for state in reference[:-1]]
        return cls(reference, other - reference, np.array(y), tube, along, bends)


def growth(rates, name, power):
    return np.cumprod([1.0, *[r[name] ** power for r in rates]])


def share(rates):
    """k and eta of (8)."""
    s, noise = max(0.0, 1 - DT * rates["nu"]), DT * rates["beta"] ** 2
    theta = noise / (s * s + noise) if noise else 0.0
    k = 4 * theta - 2 * theta**2
    if s:
        radial = rates["kappa"] + DT * rates["alpha"] * rates["beta"] / s
        k = min(k, 4 * DT * radial**2 + 2 * noise**2 / s**4)
    return k, min(math.log1p(k), 2 * theta)


def remainders(rollout, delta):
    """R of (10) and the bound (11)."""
    (h, h_bar), r, m, drift, martingale = rollout.bends, [0.0], delta, 0.0, 0.0
    suprema = [0.0]
    for tube, along in zip(rollout.tube, rollout.along, strict=True):
        a, b, alpha, beta = (along[name] for name in ("a", "step", "alpha", "beta"))
        drift += DT * (alpha * r[-1] + 0.5 * h * m**2)
        martingale += DT * (beta * r[-1] + 0.5 * h_bar * m**2) ** 2
        mixed = DT * (b * h + beta * h_bar) * m**2 * r[-1]
        own = 0.25 * m**4 * (DT**2 * h**2 + DT * h_bar**2)
        r.append(math.sqrt(a**2 * r[-1] ** 2 + mixed + own))
        suprema.append(drift + 2 * math.sqrt(martingale))
        m *= tube["a4"]
    return np.array(r), np.array(suprema)


@pytest.mark.parametrize("seed", range(12))
def test_bounds_of_the_scheme_hold_for_nonlinear_multiplicative_noise(seed):
    rng = np.random.default_rng(seed)
    drivers, steps = [(1, 8), (2, 5)][seed % 2]
    system = random_system(rng, 2, drivers)
    error = rng.normal(size=2) * 0.3
    noise = all_increments(steps, drivers)
    rollout = Rollout.of(system, rng.normal(size=2), error, noise)
    delta, length = np.linalg.norm(error), np.linalg.norm(rollout.difference, axis=2)
    highest, tube = np.maximum.accumulate(length, axis=0), rollout.tube
    square, fourth = growth(tube, "a", 2), growth(tube, "a4", 4)
    entropy = np.cumsum([0.0, *[share(r)[1] for r in tube]])
    top = np.maximum.accumulate(square)
    factor = np.array([gamma_root(k) for k in entropy])
    ahead = [
        3
        * math.prod(1 + 3 * DT * (n * DT * r["alpha"] ** 2 + 4 * r["beta"] ** 2) for r in tube[:n])
        for n in range(steps + 1)
    ]
    bounds = [
        ((length**2).mean(1), delta**2 * square),
        (length.mean(1), delta * np.sqrt(square)),
        ((length**4).mean(1), delta**4 * fourth),
        ((highest**2).mean(1), delta**2 * top * factor),
        (highest.mean(1), delta * np.sqrt(top * factor)),
        (highest.mean(1), 2 * delta * np.sqrt(top)),
        ((highest**2).mean(1), 2 * delta**2 * np.sqrt(np.maximum.accumulate(fourth))),
        (highest.mean(1), 4 / 3 * delta * np.maximum.accumulate(fourth) ** 0.25),
        ((highest**2).mean(1), delta**2 * np.array(ahead)),
    ]
    for measured, bound in bounds:
        assert (measured <= bound * (1 + 1e-12)).all()
    rest = np.linalg.norm(rollout.difference - rollout.variation, axis=2)
    r, suprema = remainders(rollout, delta)
    assert (np.sqrt((rest**2).mean(1)) <= r + 1e-13).all()
    worst = np.maximum.accumulate(rest, axis=0)
    assert (np.sqrt((worst**2).mean(1)) <= suprema + 1e-13).all()


def test_growth_and_remainder_are_equalities_in_one_dimension_and_fail_when_lowered():
    rng = np.random.default_rng(5)
    noise, x, error = all_increments(8, 1), np.array([0.4]), np.array([0.3])
    linear = Rollout.of(random_system(rng, 1, 1, bend=0.0, noise_bend=0.0), x, error, noise)
    exact = (linear.difference[..., 0] ** 2).mean(1)
    np.testing.assert_allclose(exact, 0.09 * growth(linear.tube, "a", 2), rtol=1e-12)
    assert exact[-1] > 0.09 * growth(linear.tube, "a", 2)[-1] * 0.99**2
    bent = Rollout.of(random_system(rng, 1, 1), x, error, noise[:1])
    measured = root_mean_square(bent.difference[1] - bent.variation[1])
    assert measured == pytest.approx(
        remainders(bent, 0.3)[0][1], rel=1e-12
    )  # both curvatures whole
    (h, h_bar), bent.bends = bent.bends, tuple(0.99 * one for one in bent.bends)
    assert measured > remainders(bent, 0.3)[0][1] and min(h, h_bar) > 0


@pytest.mark.parametrize("seed", range(6))
def test_additive_noise_is_bounded_path_by_path(seed):
    rng, size = np.random.default_rng(seed), 1 if seed == 0 else 3
    system = random_system(rng, size, 1, noise=0.0, noise_bend=0.0)
    error, noise = 0.2 * rng.normal(size=size), rng.normal(size=(10, 1, 40)) * math.sqrt(DT)
    rollout = Rollout.of(system, rng.normal(size=size), error, noise)
    h = rollout.bends[0]
    d, r, u = np.full(40, np.linalg.norm(error)), np.zeros(40), np.abs(error)
    whole = np.full(40, d[0])
    for n in range(10):
        own = pointwise_rates(system, rollout.reference[n])["step"]
        far = rollout.reference[n] + rollout.difference[n]
        tube = np.maximum(own, pointwise_rates(system, far)["step"])
        bend = 0.5 * DT * h * d**2
        r = own * r + np.minimum(bend, (tube + own) * d)
        d, whole = np.minimum(own * d + bend, tube * d), whole * tube
        ends = [np.eye(size) + DT * system.jacobians(x)[0] for x in (rollout.reference[n], far)]
        u = np.abs(np.array(ends)).max((0, 1)) @ u
        length = np.linalg.norm(rollout.difference[n + 1], axis=1)
        variation = np.linalg.norm(rollout.variation[n + 1], axis=1)
        rest = np.linalg.norm(rollout.difference[n + 1] - rollout.variation[n + 1], axis=1)
        assert (length <= np.minimum(np.minimum(d, variation + r), whole) * (1 + 1e-12)).all()
        assert (rest <= r + 1e-13).all()
        if size == 1 and n == 0:  # the curvature enters whole: no smaller H would do
            assert rest == pytest.approx(r, rel=1e-9) and r.min() > 1e-4
        assert (np.abs(rollout.difference[n + 1]) <= u + 1e-13).all()


@pytest.mark.parametrize("seed", range(6))
def test_variations_under_an_error_stay_below_the_recursion_of_s13(seed):
    rng = np.random.default_rng(seed)
    size, steps = (1, 8) if seed == 0 else (2, 5)
    system = random_system(rng, size, 2, bend=0.0, noise_bend=0.0)
    noise = all_increments(steps, 2)
    jacobians = system.linear
    sigma, bars = rng.normal(size=size), rng.normal(size=(2, size))
    rates = largest(system, np.zeros((1, size)))
    drift, diffusion = (np.zeros((noise.shape[2], size)) for _ in range(2))
    first, second = 0.0, 0.0
    rho, tau = np.linalg.norm(jacobians[1].T @ bars[0] + jacobians[2].T @ bars[1]), (bars**2).sum()
    for increment in noise:
        step = np.eye(size) + DT * jacobians[0] + np.einsum("kp,kij->pij", increment, jacobians[1:])
        drift = np.einsum("pij,pj->pi", step, drift) + DT * sigma
        diffusion = np.einsum("pij,pj->pi", step, diffusion) + increment.T @ bars
        first = rates["a"] * first + DT * np.linalg.norm(sigma)
        second = rates["a"] ** 2 * second + 2 * DT * rho * math.sqrt(second) + DT * tau
        assert root_mean_square(drift) <= first * (1 + 1e-12)
        assert root_mean_square(diffusion) ** 2 <= second * (1 + 1e-12)
    assert root_mean_square(diffusion) ** 2 > 0.01 * second

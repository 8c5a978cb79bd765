"""Lemmas of MATHEMATICS.md behind S10 to S12: one step of the scheme, martingales, metrics."""

import math

import numpy as np
import pytest


def sym(matrices):
    return 0.5 * (matrices + np.swapaxes(matrices, -1, -2))


def draws(kind):
    if kind == "two-point":
        points, weights = np.array([1.0, -1.0]), np.array([0.5, 0.5])
    else:
        points, weights = np.polynomial.hermite_e.hermegauss(60)
        weights = weights / weights.sum()
    grid = np.stack(np.meshgrid(points, points)).reshape(2, -1)
    return grid, np.outer(weights, weights).ravel()


@pytest.mark.parametrize("kind", ["two-point", "gaussian"])
def test_variance_and_entropy_of_a_step(kind):
    rng, (xi, weights) = np.random.default_rng(7), draws(kind)
    closest = {"variance": 0.0, "entropy": 0.0}
    for _ in range(300):
        m, c = (rng.normal(size=s) * 10 ** rng.uniform(-2, 1) for s in (3, (3, 2)))
        if rng.random() < 0.3:
            c = np.outer(m, [1.0, 0.0]) * 10 ** rng.uniform(-2, 2)
        mean = m @ m + (c * c).sum()
        gram, q = c.T @ c, (c * c).sum() / mean
        factor = ((m[:, None] + c @ xi) ** 2).sum(0) / mean
        assert weights @ factor == pytest.approx(1.0)
        variance = weights @ (factor - 1) ** 2
        identity = (4 * ((c.T @ m) ** 2).sum() + 2 * (gram**2).sum()) / mean**2
        own = 2 * (np.diag(gram) ** 2).sum() / mean**2 if kind == "two-point" else 0.0
        assert variance == pytest.approx(identity - own, rel=1e-8, abs=1e-12)
        assert variance <= 4 * q - 2 * q * q + 1e-12 <= 2 + 2e-12
        entropy = weights @ (factor * np.log(np.maximum(factor, 1e-300)))
        assert entropy <= min(2 * q, math.log1p(variance)) + 1e-9
        closest["variance"] = max(closest["variance"], variance / (4 * q - 2 * q * q))
        closest["entropy"] = max(closest["entropy"], entropy / (2 * q))
    assert min(closest.values()) > 0.98  # neither constant can be lowered


def test_maximal_inequality_is_sharp():
    """The martingale rises by 1 + h or drops to 1/b of its maximum and stops: nearly equality."""
    h, b = 1e-3, 2.0
    level, alive, mean_maximum, entropy = 1.0, 1.0, 0.0, 0.0
    for _ in range(40_000):
        up = (1 - 1 / b) / (1 + h - 1 / b)
        fallen = alive * (1 - up)
        mean_maximum += fallen * level
        entropy += fallen * (level / b) * math.log(level / b)
        level, alive = level * (1 + h), alive * up
    mean_maximum += alive * level
    entropy += alive * level * math.log(level)
    gamma = mean_maximum - 1 - math.log(mean_maximum)
    assert 0.99 * entropy < gamma <= entropy


def test_pointwise_quotients_do_not_bound_a_nonlinear_step():
    """1 + Δf′ is ∓1 at the ends and 0 on average: the quotient is 2, and small at both ends."""
    xi, weights = draws("gaussian")
    noise = 0.1  # √Δ g′, constant; D = ξ noise when the average of 1 + Δf′ is 0
    square = (noise * xi[0]) ** 2
    quotient = (weights @ square**2) / (weights @ square) ** 2 - 1
    pointwise = (4 * noise**2 + 2 * noise**4) / (1 + noise**2) ** 2
    assert pointwise < 0.05
    assert quotient == pytest.approx(2.0)


def test_growth_rates_are_convex_from_p_equal_to_one_on():
    rng = np.random.default_rng(3)

    def rate(p, a, noise, v):
        along = np.einsum("i,kij,j->k", v, noise, v)
        return v @ a @ v + 0.5 * ((noise @ v) ** 2).sum() + 0.5 * (p - 2) * (along**2).sum()

    gaps = {p: [] for p in (0.5, 1, 2, 4)}
    for _ in range(400):
        ends = rng.normal(size=(2, 3, 3, 3))
        v = rng.normal(size=3)
        v /= np.linalg.norm(v)
        if rng.random() < 0.5:
            ends[:, 1:] = np.eye(3) * rng.normal(size=(2, 2, 1, 1))
        middle = ends.mean(0)
        for p, gap in gaps.items():
            means = np.mean([rate(p, end[0], end[1:], v) for end in ends])
            gap.append(means - rate(p, middle[0], middle[1:], v))
        low = np.linalg.eigvalsh(sym(middle[1:]))
        definite = np.maximum(0, np.maximum(low[:, 0], -low[:, -1]))
        first, second, fourth = (rate(p, middle[0], middle[1:], v) for p in (1, 2, 4))
        assert first <= second - 0.5 * (definite**2).sum() + 1e-12
        assert fourth <= second + (np.abs(low).max(1) ** 2).sum() + 1e-12
    assert all(min(gaps[p]) > -1e-12 for p in (1, 2, 4)) and min(gaps[0.5]) < -0.01


def test_best_metric_of_a_step_is_the_perron_eigenmatrix():
    a, one = np.array([[-0.6, 0.9], [0.2, -0.4]]), np.array([[0.3, 0.1], [-0.2, 0.25]])
    step, rng = np.eye(2) + 0.05 * a, np.random.default_rng(1)
    values, vectors = np.linalg.eig(np.kron(step, step).T + 0.05 * np.kron(one, one).T)
    radius = values.real.max()
    perron = vectors[:, values.real.argmax()].real.reshape(2, 2)

    def rate(metric):
        half = np.linalg.cholesky(metric).T
        moved, noisy = (half @ matrix @ np.linalg.inv(half) for matrix in (step, one))
        return float(np.linalg.eigvalsh(moved.T @ moved + 0.05 * noisy.T @ noisy)[-1])

    assert rate(perron * np.sign(perron[0, 0])) == pytest.approx(radius, rel=1e-12)
    others = [np.eye(2), *(m @ m.T + 0.01 * np.eye(2) for m in rng.normal(size=(200, 2, 2)))]
    assert min(rate(metric) for metric in others) > radius

"""MATHEMATICS.md: printed values, the numbers that code cites, and its lemmas on the scheme."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, linalg, special

import sdewm
from sdewm.sde import examples

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "paper_checks" / "MATHEMATICS.md").read_text(encoding="utf-8")
CASES = {
    "O1": examples.OrnsteinUhlenbeck,
    "O2": examples.LinearWorldModel,
    "O3": examples.GeometricBrownianMotion,
    "O3b": examples.ScaledGeometricBrownianMotion,
    "O4": examples.QuadraticCascade,
    "O5": examples.PearsonDiffusion,
    "O6": examples.ClosedLoop,
    "O7": examples.CircleDiffusion,
}
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if re.match(r"\| (case|O\d)", line)
]
NAMES = ROWS[0][1:]
BOUNDS = dict(re.findall(r"^\| `(O\d+ [^`]+)` \| (\S+) \|", TEXT, flags=re.MULTILINE))


def enumerated_terms(driver, steps):
    case = examples.EnumerationWorldModel()
    diffusion = case.error_diffusion if driver == "same" else case.independent_error_diffusion
    error = sdewm.Perturbation(drift=case.error_drift, diffusion=diffusion, driver=driver)
    grid = {"t1": case.t1, "steps": steps, "paths": 1, "increments": "enumerate"}
    terms = sdewm.expand(case, error, case.loss, case.x0, **grid).terms
    return {name: term.value for name, term in terms.items()}


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: row[0])
def test_printed_values_are_those_of_the_code(row):
    label, driver = re.match(r"(O\d+b?) (same|independent)", row[0]).groups()
    steps = re.search(r"(\d+) steps", row[0])
    steps = int(steps[1]) if steps else None
    if label == "O8":
        exact = enumerated_terms(driver, steps)
    else:
        case = CASES[label](loss="h") if "L = h" in row[0] else CASES[label]()
        exact = case.exact_terms(driver=driver, steps=steps)
    printed = {name: cell for name, cell in zip(NAMES, row[1:], strict=True) if cell != "–"}
    for name, cell in printed.items():
        decimals = len(cell.partition(".")[2]) or 10
        assert exact[name] == pytest.approx(float(cell), abs=0.51 * 10**-decimals, rel=0), name


def test_every_cited_number_is_defined():
    defined = set(re.findall(r"^\*\*([SO]\d+[ab]?)[ ,`]", TEXT, flags=re.MULTILINE))
    files = [
        path
        for folder in ("sdewm", "analysis", "paper_checks", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".toml", ".md")
    ]
    cited = {
        (number, path.name)
        for path in files
        for number in re.findall(r"(?<![\w.])[SO]\d{1,2}[ab]?(?!\w)", path.read_text("utf-8"))
    }
    assert {(number, name) for number, name in cited if number not in defined} == set()


def root_of_gamma(entropy):
    return float(-special.lambertw(-np.exp(-1.0 - entropy), -1).real) if entropy > 0 else 1.0


def doob(k):
    return min(r / (r - 1) * math.exp((r - 1) * k) for r in 1 + np.geomspace(1e-2, 1e2, 200_001))


def sym(matrix):
    return 0.5 * (matrix + matrix.T)


def top(matrix):
    return float(np.linalg.eigvalsh(matrix)[-1])


def entropy_rate(dt, alpha, beta, kappa, nu):
    """k and eta of (8)."""
    s = max(0.0, 1 + dt * nu)
    theta = dt * beta**2 / (s * s + dt * beta**2) if beta else 0.0
    k = 4 * theta - 2 * theta**2
    if s:
        k = min(k, 4 * dt * (kappa + dt * alpha * beta / s) ** 2 + 2 * dt**2 * beta**4 / s**4)
    return k, min(math.log1p(k), 2 * theta)


def fundamental_matrix_values():
    a, a1, t, n = (
        np.array([[-0.6, 0.9], [0.2, -0.4]]),
        np.array([[0.3, 0.1], [-0.2, 0.25]]),
        1.5,
        30,
    )
    eye, dt = np.eye(2), t / n
    step = eye + dt * a
    generator = np.kron(a, eye) + np.kron(eye, a) + np.kron(a1, a1)
    flow, chain = linalg.expm(t * generator), np.kron(step, step) + dt * np.kron(a1, a1)
    chain = np.linalg.matrix_power(chain, n)
    rate, rho = top(sym(a) + 0.5 * a1.T @ a1), 0.5 * np.linalg.eigvals(generator).real.max()
    spectrum = np.linalg.eigvalsh(sym(a1))
    kappa, growth = max(abs(spectrum)), 2 * math.exp(2 * rate * t)
    square = top(step.T @ step + dt * a1.T @ a1) ** n
    alpha, beta = np.linalg.norm(a, 2), np.linalg.norm(a1, 2)
    _, eta = entropy_rate(dt, alpha, beta, kappa, np.linalg.eigvalsh(sym(a))[0])
    values, vectors = np.linalg.eig(generator.T)
    metric = vectors[:, values.real.argmax()].real.reshape(2, 2)
    metric = sym(metric) / np.trace(metric)

    def gronwall(alpha, beta):
        return 6 * math.exp(3 * t * (t * alpha**2 + 4 * beta**2))

    return {
        "second moment": np.trace((flow @ eye.ravel()).reshape(2, 2)),
        "second moment, 30 steps": np.trace((chain @ eye.ravel()).reshape(2, 2)),
        "lambda": rate,
        "lambda_1": rate - 0.5 * max(0.0, spectrum[0], -spectrum[-1]) ** 2,
        "rho": rho,
        "S9": gronwall(alpha, beta),
        "S9, Frobenius": gronwall(np.linalg.norm(a), np.linalg.norm(a1)),
        "S9, 30 steps": 6 * (1 + 3 * dt * (t * alpha**2 + 4 * beta**2)) ** n,
        "S10": growth,
        "S10, 30 steps": 2 * square,
        "S11, R": growth * doob(2 * kappa**2 * t),
        "S11": growth * root_of_gamma(2 * kappa**2 * t),
        "S11, 30 steps": 2 * square * root_of_gamma(n * eta),
        "S12": math.exp(2 * rho * t) / np.linalg.eigvalsh(metric)[0],
        "S19": (flow @ np.diag([0.0, 0.01]).ravel()).reshape(2, 2).trace(),
    }


def supremum_values(p, m=0.2, nu=0.4):
    """E sup D^p by quadrature over the first time at which log D^p = ct + vB reaches u."""
    c, v = p * (m - nu**2 / 2), p * nu

    def density(s, u):  # t = s²
        return (
            2
            * u
            / (v * s**2 * math.sqrt(2 * math.pi))
            * math.exp(-(((u - c * s * s) / (v * s)) ** 2) / 2)
        )

    nodes, weights = np.polynomial.legendre.leggauss(80)
    total = 1.0
    for low, high in [(0, 0.5), (0.5, 1.5), (1.5, 4), (4, 10)]:
        for x, weight in zip(nodes, weights, strict=True):
            u = low + 0.5 * (high - low) * (1 + x)
            passed = integrate.quad(density, 0, 1, (u,), epsabs=0, epsrel=1e-11, limit=200)[0]
            total += 0.5 * (high - low) * weight * math.exp(u) * passed
    tail = (
        special.ndtr((c + v * v) / v) * 2 * (c + v * v) / (2 * c + v * v) * math.exp(c + v * v / 2)
    )
    assert total == pytest.approx(tail + 2 * c / (2 * c + v * v) * special.ndtr(-c / v), rel=1e-9)
    growth, k = math.exp(p * m + p * (p - 1) / 2 * nu**2), p * p * nu**2 / 2
    return {
        f"sup, p={p}": total,
        f"S11, p={p}": growth * root_of_gamma(k),
        f"S11, R, p={p}": growth * doob(k),
        f"S15, p={p}": (3 * math.exp(3 * (m * m + 4 * nu * nu))) ** (p / 2),
    }


def cubic_values():
    """The flow and its derivatives from the variation equations of S18."""

    def right(t, s):
        x, y, w = s
        return [-(x**3), -3 * x * x * y, -3 * x * x * w - 6 * x * y * y]

    def flow(x):
        return integrate.solve_ivp(right, (0, 0.7), [x, 1, 0], "DOP853", rtol=1e-13, atol=1e-15).y[
            :, -1
        ]

    x, y, w = flow(1.1)
    return {
        "flow": x,
        "first derivative": y,
        "second derivative": w,
        "bias": 0.5 * (flow(1.2)[0] ** 2 + flow(1.0)[0] ** 2) - x * x,
        "second order": 0.01 * (y * y + x * w),
    }


@pytest.mark.parametrize(
    ("case", "values"),
    [
        ("O9", fundamental_matrix_values),
        ("O10", lambda: supremum_values(1) | supremum_values(2)),
        ("O11", cubic_values),
    ],
    ids=["O9", "O10", "O11"],
)
def test_printed_bounds_are_recomputed(case, values):
    printed = {k.partition(" ")[2]: v for k, v in BOUNDS.items() if k.startswith(case + " ")}
    computed = values()
    assert printed.keys() == computed.keys()
    for name, cell in printed.items():
        decimals = len(cell.partition(".")[2])
        assert computed[name] == pytest.approx(float(cell), abs=0.51 * 10**-decimals, rel=0), name


def test_printed_slopes_and_curvatures_of_activations():
    x = np.linspace(-8, 8, 400_001)
    logistic, density, normal = (
        special.expit(x),
        np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
        special.ndtr(x),
    )
    slope = logistic * (1 - logistic)
    first = {
        "tanh": 1 / np.cosh(x) ** 2,
        "sigmoid": slope,
        "softplus": logistic,
        "SiLU": logistic + x * slope,
        "GELU": normal + x * density,
        "ELU": np.exp(np.minimum(x, 0)),
    }
    for name, largest, curvature in re.findall(
        r"^\| (\w+) \| ([\d.]+) \| ([\d.]+)", TEXT, re.MULTILINE
    ):
        values = first.pop(name)
        assert abs(values).max() == pytest.approx(
            float(largest), abs=1e-6 + 4e-4 * (name == "softplus")
        )
        jumpless = np.diff(values[x <= 0]) if name == "ELU" else np.diff(values)
        assert abs(jumpless).max() / (x[1] - x[0]) == pytest.approx(float(curvature), abs=3e-5)
    assert not first

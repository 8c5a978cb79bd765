"""Ready systems: exact terms against the tabulated oracles, contracts, and refusals."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from sdewm.sde.examples import (
    CircleDiffusion,
    ClosedLoop,
    CurvatureCounterexample,
    EnumerationWorldModel,
    GeometricBrownianMotion,
    LinearWorldModel,
    OrnsteinUhlenbeck,
    PearsonDiffusion,
    QuadraticCascade,
    RegularityCounterexample,
    ScaledGeometricBrownianMotion,
    TanhWorldModel,
)

NAMES = ("c0", "P", "Q", "S", "P_drift", "Q_drift", "S_cross", "S_drift", "c1", "c2")
# The oracle table of MATHEMATICS.md, computed by other means than the code under test. The last
# digit of Q_drift in O4 (independent) is that of a 40-digit evaluation without variation equations.
ORACLE = """
O1 same             0.2727091725 0.3409807675 0 0.4091769210 0.2525715103
                    0 0 0.2441647647 0.5935522779 0.3266708429
O1 independent      0.2727091725 0 0 0.4091769210 0.2525715103
                    0 0 0.2441647647 0.2525715103 0.3266708429
O1 scheme           0.2710804778 0.3461154396 0 0.4153385276 0.2504607061
                    0 0 0.2472321507 0.5965761457 0.3312853391
O2 same             0.1918211195 0.0487477383 0 0.0812462305 0.1179496809
                    0 0 0.0857305046 0.1666974191 0.0834883675
O2 independent      0.1918211195 0 0 0.0812462305 0.1179496809
                    0 0 0.0857305046 0.1179496809 0.0834883675
O3                  2.339646852 0.5398843878 0 0.2836899216 1.439691701
                    0 0.0894238025 0.4769269465 1.979576089 0.4697322365
O3b                 1.623734152 0.6494936609 0.0649493661 0.9417658083 0
                    0 0 0 0.6494936609 0.5358322702
O4 h^2 same         0.1359547855 -0.0687222401 -0.0524210879 0.0463608076 0.0096226628
                    -0.0128900690 -0.0052993720 0.0032872938 -0.0590995773 -0.0457864782
O4 h^2 independent  0.1359547855 0 -0.0580052259 0.0129270917 0.0096226628
                    -0.0107682000 0 0.0032872938 0.0096226628 -0.0606662332
O4 h same           0.3665010478 -0.1055117054 -0.0791337791 0 0.0150575859
                    -0.0146905447 0 0 -0.0904541195 -0.0938243238
O6                  0.1392920026 0.0734327576 0 0.1223879293 0.1251322955
                    0 0 0.0925819335 0.1985650531 0.1074849314
O7 same             0.1397815155 0.1540929272 0.0080249503 0.0864632651 0.0733517679
                    0.0143358754 -0.0110918774 0.0937938067 0.2274446951 0.1013974843
O7 independent      0.1397815155 0 0.0041015403 0.1136805359 0.0733517679
                    -0.0039179392 0 0.0937938067 0.0733517679 0.1039207724
"""
CASES = {
    "O1 same": (OrnsteinUhlenbeck, "same", None),
    "O1 independent": (OrnsteinUhlenbeck, "independent", None),
    "O1 scheme": (OrnsteinUhlenbeck, "same", 50),
    "O2 same": (LinearWorldModel, "same", None),
    "O2 independent": (LinearWorldModel, "independent", None),
    "O3": (GeometricBrownianMotion, "same", None),
    "O3b": (ScaledGeometricBrownianMotion, "same", None),
    "O4 h^2 same": (QuadraticCascade, "same", None),
    "O4 h^2 independent": (QuadraticCascade, "independent", None),
    "O4 h same": (partial(QuadraticCascade, loss="h"), "same", None),
    "O6": (ClosedLoop, "same", None),
    "O7 same": (CircleDiffusion, "same", None),
    "O7 independent": (CircleDiffusion, "independent", None),
}
ALL_CASES = [
    CircleDiffusion,
    ClosedLoop,
    CurvatureCounterexample,
    EnumerationWorldModel,
    GeometricBrownianMotion,
    LinearWorldModel,
    OrnsteinUhlenbeck,
    PearsonDiffusion,
    QuadraticCascade,
    RegularityCounterexample,
    ScaledGeometricBrownianMotion,
    TanhWorldModel,
]


def oracle():
    """Case name -> term -> tabulated value; two lines of the table per case."""
    lines = ORACLE.strip().splitlines()
    return {
        first[:20].strip(): dict(zip(NAMES, map(float, (first[20:] + second).split()), strict=True))
        for first, second in zip(lines[::2], lines[1::2], strict=True)
    }


def close(value, expected):
    """Relative 1e-9, or half a unit of the tenth decimal where the table has no more digits."""
    return abs(value - expected) <= max(1e-9 * abs(expected), 6e-11)


@pytest.mark.parametrize("name", CASES)
def test_terms_equal_the_tabulated_oracle(name):
    make, driver, steps = CASES[name]
    terms, expected = make().exact_terms(driver, steps), oracle()[name]
    assert set(terms) == set(NAMES)
    for term, value in expected.items():
        assert close(terms[term], value), (term, terms[term], value)


def test_pearson_coefficients_equal_the_tabulated_oracle():
    case = PearsonDiffusion()
    expected = (0.5242712993, 0.5356044142, 0.2929945128, 0.0935651042)
    assert all(map(close, case.exact_coefficients(), expected))
    assert set(case.exact_terms()) == {"c0", "P", "c1", "c2"}


def test_frozen_loop_gives_its_own_wrong_values_and_not_the_right_ones():
    frozen = ClosedLoop().frozen_terms()
    assert close(frozen["P_drift"], 0.1416687721)
    assert close(frozen["S_drift"], 0.1220848699)
    right = ClosedLoop().exact_terms()
    assert not close(frozen["P_drift"], right["P_drift"])
    assert close(frozen["c0"], right["c0"])  # only the variations are cut


@pytest.mark.parametrize("mutation", ["S without its half", "no S_drift", "independent for same"])
def test_the_comparison_notices_a_wrong_formula(mutation):
    driver = "independent" if mutation == "independent for same" else "same"
    terms = OrnsteinUhlenbeck().exact_terms(driver)
    if mutation == "S without its half":
        terms["c2"] += terms["S"] / 2
    if mutation == "no S_drift":
        terms["c2"] -= terms["S_drift"] / 2
        assert round(terms["c2"], 6) == 0.204588
    assert not all(close(terms[name], value) for name, value in oracle()["O1 same"].items())


@pytest.mark.parametrize("make", ALL_CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coefficients_keep_the_contract_of_a_system(make, dtype):
    case, t = make(), torch.zeros((), dtype=dtype)
    size = case.state_size
    assert case.x0.shape == (size,)
    assert case.x0.dtype == torch.float64
    y = torch.randn(7, size, dtype=dtype, generator=torch.Generator().manual_seed(1))
    before = y.clone()
    outputs = {"f": case.f, "g": case.g, "error_diffusion": case.error_diffusion}
    if case.error_drift is not None:
        outputs["error_drift"] = case.error_drift
    g = case.g(t, y)
    shapes = {
        "f": (7, size),
        "error_drift": (7, size),
        "g": tuple(g.shape),
        "error_diffusion": tuple(g.shape),
    }
    assert g.shape == (7, size) if case.noise_type == "diagonal" else g.shape[:2] == (7, size)
    assert case.noise_type != "scalar" or g.shape[2] == 1
    exact = 2 * torch.finfo(dtype).eps if make is TanhWorldModel else 0.0
    for name, function in outputs.items():
        value = function(t, y)
        assert tuple(value.shape) == shapes[name]
        assert value.dtype == dtype
        alone = torch.cat([function(t, y[i : i + 1]) for i in range(7)])
        torch.testing.assert_close(value, alone, rtol=4 * exact, atol=8 * exact)  # row by row
    assert case.loss(y).shape == (7,)
    assert torch.equal(y, before)


def test_all_noise_types_occur_and_additive_noise_ignores_the_state():
    cases = [make() for make in ALL_CASES]
    assert {case.noise_type for case in cases} == {"additive", "scalar", "diagonal", "general"}
    for case in cases:
        if case.noise_type == "additive":
            t, y = torch.zeros(()), case.x0[None]
            assert torch.equal(case.g(t, y), case.g(t, y + 1))


@pytest.mark.parametrize("make", ALL_CASES)
def test_second_derivatives_exist_at_the_start(make):
    case = make()

    def loss_after_a_step(epsilon):
        x = case.x0[None]
        t = torch.zeros((), dtype=torch.float64)
        noise = case.g(t, x) + epsilon * case.error_diffusion(t, x)
        return case.loss(
            x + 0.1 * case.f(t, x) + 0.2 * noise.reshape(1, case.state_size, -1).sum(dim=2)
        )[0]

    zero = torch.zeros((), dtype=torch.float64)
    second = torch.func.jacrev(torch.func.jacrev(loss_after_a_step))(zero)
    assert torch.isfinite(second)


def test_convex_loss_can_be_lowered_by_noise():
    case = CurvatureCounterexample(t1=0.8)
    for driver in ("same", "independent"):
        terms = case.exact_terms(driver)
        assert terms["S"] == 0.0
        assert terms["c1"] == 0.0
        assert terms["c2"] == pytest.approx(-(0.8**2) / 2, rel=1e-12)
        assert case.exact_terms(driver, 5)["c2"] == pytest.approx(
            -(0.8**2) / 2 * (1 - 1 / 5), rel=1e-12
        )
    cascade = QuadraticCascade().exact_terms("independent")
    assert cascade["Q"] + cascade["S"] / 2 == pytest.approx(-0.051542, abs=5e-7)


def test_loss_without_a_lipschitz_curvature_has_order_five_halves():
    case = RegularityCounterexample(t1=1.0)
    assert case.exact_loss(1.0) == pytest.approx(1.233268, abs=5e-7)
    x = np.linspace(-12.0, 12.0, 200001)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    assert case.exact_loss(0.3) == pytest.approx(
        np.trapezoid(np.abs(0.3 * x) ** 2.5 * density, x), rel=1e-9
    )
    assert case.exact_loss(0.2) / case.exact_loss(0.1) == pytest.approx(2**2.5)
    assert set(case.exact_terms("independent", 3).values()) == {0.0}


def test_tanh_world_model_is_set_by_its_seed_and_any_size():
    t = torch.zeros(())
    for size, width, drivers in ((1, 1, 1), (3, 5, 2), (6, 32, 4)):
        case, again = (
            TanhWorldModel(state_size=size, width=width, drivers=drivers, seed=3) for _ in range(2)
        )
        other = TanhWorldModel(state_size=size, width=width, drivers=drivers, seed=4)
        y = case.x0.expand(2, size)
        assert case.g(t, y).shape == case.error_diffusion(t, y).shape == (2, size, drivers)
        assert torch.equal(case.f(t, y), again.f(t, y))
        assert not torch.equal(case.f(t, y), other.f(t, y))
    far = torch.full((1, 6), 1e6, dtype=torch.float64)
    assert case.g(t, far).abs().max() < 50  # bounded
    assert (case.f(t, far) + far).abs().max() < 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OrnsteinUhlenbeck(rate=float("nan")), "rate=nan"),
        (lambda: OrnsteinUhlenbeck(t1=0.0), "t1=0.0"),
        (lambda: OrnsteinUhlenbeck().exact_terms("shared"), "driver='shared'"),
        (lambda: OrnsteinUhlenbeck().exact_terms(steps=0), "steps=0"),
        (lambda: CircleDiffusion().exact_terms("own", steps=3), "driver='own'"),
        (lambda: CircleDiffusion().exact_terms(steps=-1), "steps=-1"),
        (lambda: CircleDiffusion(noise=(0.5, float("inf"))), r"noise\[1\]=inf"),
        (lambda: PearsonDiffusion().exact_terms(steps=0), "steps=0"),
        (lambda: RegularityCounterexample().exact_terms(driver="x"), "driver='x'"),
        (lambda: QuadraticCascade(loss="h^2"), "loss='h\\^2'"),
        (lambda: LinearWorldModel(start=(1.0, 2.0)), r"matrix has shape \(4, 4\); expected \(2,"),
        (lambda: ClosedLoop(weight=((0, 1, 0), (0, 0, 0), (0, 0, 0))), "symmetric"),
        (lambda: ClosedLoop(sigma=(0.0, math.inf, 0.0)), "sigma"),
        (lambda: TanhWorldModel(width=0), "width=0"),
        (lambda: TanhWorldModel(seed=-1), "seed=-1"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()

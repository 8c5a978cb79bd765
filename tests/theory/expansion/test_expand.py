"""The expansion by sampling: within error bars of exact values, and a function of its seed."""

import pytest
import torch

import sdewm
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
    ScaledGeometricBrownianMotion,
    TanhWorldModel,
)
from sdewm.theory.expansion.error_variation import ErrorVariation

CASES = [
    (OrnsteinUhlenbeck(), "same"),
    (OrnsteinUhlenbeck(), "independent"),
    (LinearWorldModel(), "same"),
    (LinearWorldModel(), "independent"),
    (GeometricBrownianMotion(), "same"),
    (ScaledGeometricBrownianMotion(), "same"),
    (QuadraticCascade(), "same"),
    (QuadraticCascade(), "independent"),
    (QuadraticCascade(loss="h"), "same"),
    (PearsonDiffusion(), "same"),
    (ClosedLoop(), "same"),
    (CircleDiffusion(), "same"),
    (CircleDiffusion(), "independent"),
    (CurvatureCounterexample(), "independent"),
]


@pytest.mark.parametrize(
    ("case", "driver"), CASES, ids=lambda v: getattr(v, "__class__", v).__name__
)
def test_every_term_is_within_five_standard_errors_of_its_exact_value_for_the_scheme(case, driver):
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion, driver)
    arguments = (case, error, case.loss, case.x0)
    result = sdewm.expand(*arguments, t1=case.t1, steps=16, paths=30_000, seed=12)
    exact = case.exact_terms(driver, steps=16)
    compared = 0
    for name, value in exact.items():
        estimate = result.terms[name]
        assert abs(estimate.value - value) <= 5 * estimate.standard_error + 1e-12, name
        compared += estimate.standard_error > 0 and abs(value) > 5 * estimate.standard_error
    assert compared >= 2, "the error bars are too wide to tell the terms from zero"


@pytest.mark.parametrize(
    "case", [EnumerationWorldModel(), CircleDiffusion(), TanhWorldModel(seed=3)]
)
def test_the_fused_step_is_the_nested_jvp(case):
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    generator = torch.Generator().manual_seed(0)
    x = case.x0.expand(7, -1) + 0.1 * torch.randn(
        7, len(case.x0), dtype=torch.float64, generator=generator
    )
    t = torch.tensor(0.2, dtype=torch.float64)
    g = case.g(t, x)
    drivers = g.shape[-1]
    v = torch.randn(7, drivers, dtype=torch.float64, generator=generator)
    fast, slow = (ErrorVariation(case, error, drivers, fused=fused) for fused in (True, False))
    state = torch.randn(7, fast.width * len(case.x0), dtype=torch.float64, generator=generator)
    for a, b in zip(fast.f_and_g_prod(t, state, v), slow.f_and_g_prod(t, state, v), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


SMALL = TanhWorldModel(seed=3, state_size=3, width=6, drivers=2)


def world_model(**options):
    """Terms of two whole tiles of paths and a part of a third."""
    case = SMALL
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    arguments = {"t1": case.t1, "steps": 2, "paths": 9000, "seed": 5} | options
    return sdewm.expand(case, error, case.loss, arguments.pop("x0", case.x0), **arguments)


@pytest.fixture(scope="module")
def reference():
    return world_model()


@pytest.mark.parametrize("chunk", [1e3, 1e4, 1e5])
def test_chunk_size_changes_no_bit(chunk, reference):
    assert world_model(chunk=chunk).terms == reference.terms


def test_the_seed_decides(reference):
    assert world_model(seed=5).terms == reference.terms
    assert world_model(seed=6).terms != reference.terms


def test_the_initial_state_may_be_given_once_or_per_path(reference):
    x0 = SMALL.x0
    assert world_model(x0=x0[None]).terms == reference.terms
    assert world_model(x0=x0.expand(9000, -1).clone()).terms == reference.terms
    spread = x0 + 0.1 * torch.randn(
        9000, len(x0), dtype=x0.dtype, generator=torch.Generator().manual_seed(0)
    )
    assert world_model(x0=spread).terms != reference.terms


def test_float32_gives_the_terms_to_its_precision(reference):
    single = world_model(dtype=torch.float32)
    for name, estimate in single.terms.items():
        both = (estimate.standard_error**2 + reference.terms[name].standard_error ** 2) ** 0.5
        assert abs(estimate.value - reference.terms[name].value) < 5 * both + 1e-5, name


def test_an_independent_error_may_have_any_number_of_drivers():
    case = OrnsteinUhlenbeck()
    results = []
    for own in (1, 3):

        def spread(t, y, own=own):
            return torch.full((y.shape[0], 1, own), 0.6 / own**0.5, dtype=y.dtype)

        error = sdewm.Perturbation(None, spread, "independent")
        arguments = (case, error, case.loss, case.x0)
        results.append(sdewm.expand(*arguments, t1=1.5, steps=3, increments="enumerate").terms)
    for name in ("c0", "P", "S", "c2"):
        assert results[0][name].value == pytest.approx(results[1][name].value, abs=1e-12)


def test_a_layer_norm_network_has_the_right_second_derivatives():
    """torch's nested forward mode is wrong for layer_norm; the expansion must not be."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.LayerNorm(8), torch.nn.SiLU(), torch.nn.Linear(8, 3)
    ).double()

    class Network:
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, y):
            return net(y)

        def g(self, t, y):
            return 0.3 + 0 * y

    error = sdewm.Perturbation(diffusion=lambda t, y: torch.ones_like(y))
    x0 = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64)
    result = sdewm.expand(
        Network(), error, lambda y: (y**2).sum(1), x0, t1=1.0, steps=3, increments="enumerate"
    )
    low, high = result.order((0.1, 0.05, 0.025)).interval
    assert 2.7 < low <= high < 3.3


def test_changes_are_formed_on_the_same_paths():
    case = TanhWorldModel()
    error = sdewm.Perturbation(drift=case.error_drift)
    found = sdewm.expand(case, error, case.loss, case.x0, t1=case.t1, steps=4, paths=512)
    (row,) = found.measure([0.3])
    c0 = found.terms["c0"].value
    assert row.change.value == pytest.approx(row.measured.value - c0)
    assert row.predicted_change.value == pytest.approx(row.predicted.value - c0)
    assert row.change.value == pytest.approx(row.predicted_change.value + row.remainder.value)
    assert row.change.standard_error < 0.5 * row.measured.standard_error


class Decay:
    """dx = −x dt, without noise: every path is known from its start."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return -y

    def g(self, t, y):
        return torch.zeros_like(y)


def test_groups_of_paths_are_the_units_of_standard_errors():
    groups, each = 20, 10
    start = torch.randn(groups, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    error = sdewm.Perturbation(drift=lambda t, y: y)
    arguments = {"t1": 1.0, "steps": 1, "paths": groups * each}
    together, apart = (
        sdewm.expand(
            Decay(), error, lambda y: (y[:, 0] - 1) ** 2, start.repeat_interleave(each, 0),
            groups=units, **arguments,
        ).terms["S_drift"]
        for units in (groups, None)
    )  # fmt: skip
    slow = 2 * start[:, 0] ** 2  # one step: y = x, ∇²L = 2
    assert [together.value, apart.value] == pytest.approx([float(slow.mean())] * 2)
    assert together.standard_error == pytest.approx(float(slow.std()) / groups**0.5)
    assert together.standard_error > 2 * apart.standard_error


@pytest.mark.parametrize(("groups", "paths"), [(3, 100), (1, 100), (10, 50)])
def test_groups_that_do_not_divide_the_paths_are_refused(groups, paths):
    error, x0 = sdewm.Perturbation(drift=lambda t, y: y), torch.zeros(1, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"groups={groups}"):
        sdewm.expand(
            Decay(), error, lambda y: y[:, 0], x0, t1=1.0, steps=2, paths=paths, groups=groups
        )

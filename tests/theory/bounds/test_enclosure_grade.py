"""Grade "enclosure" of `rollout_bounds`: exact cases, trained models, proven rates, refusals."""

import math

import numpy as np
import pytest
import torch

import sdewm
from paper_checks.cases.trained_models import WITHOUT, trained_run
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.sde.examples import GeometricBrownianMotion, OrnsteinUhlenbeck
from sdewm.sde.rates import CERTIFICATE, SAMPLED
from sdewm.theory.bounds.rollout_bounds import rollout_bounds
from sdewm.theory.flow import error_enclosure, path_problem
from sdewm.theory.flow.rollout_divergence import rollout_divergence
from tests.theory.bounds.rollout_cases import network_system

STEPS, START = 6, 5


def of(system, x0, error, *, t1, steps, grades=("enclosure",), **more):
    return rollout_bounds(system, x0, error, t1=t1, steps=steps, grades=grades, **more)


def test_linear_systems_are_enclosed_up_to_rounding():
    case, e = OrnsteinUhlenbeck(), torch.tensor([0.1], dtype=torch.float64)
    found = of(case, case.x0, e, t1=1.0, steps=4, paths=3)["enclosure"]
    exact = 0.1 * (1 - 0.8 * 0.25) ** np.arange(5)
    assert found["mean"].values == pytest.approx(exact, rel=1e-12)
    assert (found["mean"].values >= exact).all()
    assert found.kind == SAMPLED
    assert found.constants == {"paths": 3.0, "abstains": math.inf}


def test_multiplicative_noise_is_that_of_the_measured_paths():
    case, e = GeometricBrownianMotion(), torch.tensor([0.1], dtype=torch.float64)
    grid = {"t1": 1.0, "steps": 4, "paths": 5, "seed": 3}
    bound = of(case, case.x0, e, **grid)["enclosure"]
    measured = rollout_divergence(case, case.x0, e, **grid)
    for name in ("mean", "sup_square"):
        ratio = bound.tightness(measured)[name].values
        assert ratio == pytest.approx(1.0, abs=1e-9)
        assert (bound[name].values >= measured[name].values * (1 - 1e-14)).all()
    other = rollout_divergence(case, case.x0, e, **{**grid, "seed": 4})
    assert abs(bound.tightness(other)["mean"].values[-1] - 1) > 1e-3  # the control: other noise


@pytest.fixture(scope="module")
def shipped():
    """A shipped model, a posterior state, and small errors of all components."""
    run = trained_run(WITHOUT)
    episodes = run.episodes(START + STEPS + 2, 2, 0)
    states = clean_paths(run.model, episodes.first_rows(START + 1), 0).states
    actions = episodes.previous_actions[0, START + 1 : START + 1 + STEPS]
    generator = torch.Generator().manual_seed(0)
    errors = 1e-3 * torch.randn(4, run.model.state_size, generator=generator).double()
    return sdewm.as_system(run.model, actions=actions), states[0, START], errors


def test_it_is_the_only_tight_bound_of_a_trained_model(shipped):
    system, state, errors = shipped
    grid = {"t1": STEPS, "steps": STEPS, "paths": 4}
    bounds = of(system, state, errors, grades=["log_norm", "enclosure"], **grid)
    measured = rollout_divergence(system, state, errors, **grid)
    ratio = bounds["enclosure"].tightness(measured)["mean"].values
    assert (ratio >= 1.0).all()
    assert ratio.max() < 1.05
    assert bounds["log_norm"].tightness(measured)["mean"].values[-1] > 100.0
    # The control: the bound of smaller errors does not hold for these.
    small = of(system, state, 0.9 * errors, **grid)["enclosure"]
    assert (small["mean"].values < measured["mean"].values).all()


def test_the_line_of_a_large_error_is_cut_where_it_has_no_close_bound(shipped, monkeypatch):
    system, state, errors = shipped
    grid = {"t1": 3, "steps": 3, "paths": 2}
    large = 300.0 * errors[:2]
    bound = of(system, state, large, **grid)["enclosure"]["mean"].values
    measured = rollout_divergence(system, state, large, **grid)["mean"].values
    assert (measured <= bound).all()
    assert (bound < 1.2 * measured).all()
    # The control: the line as a whole.
    monkeypatch.setattr(error_enclosure, "PARTS", ())
    assert np.isinf(of(system, state, large, **grid)["enclosure"]["mean"].values[1:]).all()


def test_the_bound_of_no_error_is_zero():
    case = OrnsteinUhlenbeck()
    errors = torch.tensor([[0.0], [0.1]], dtype=torch.float64)
    found = of(case, case.x0, errors, t1=1.0, steps=4, paths=2)["enclosure"]
    assert found["mean"].values == pytest.approx(0.05 * 0.8 ** np.arange(5), rel=1e-12)


def test_an_abstention_is_told_with_its_step(shipped):
    system, state, errors = shipped
    found = of(system, state, 3e3 * errors, t1=STEPS, steps=STEPS, paths=4)["enclosure"]
    first = int(found.constants["abstains"])
    assert 1 <= first <= STEPS
    finite = np.isfinite(found["mean"].values)
    assert finite[:first].all()
    assert not finite[first:].any()


def test_with_proven_rates_the_better_bound_counts_at_every_step(monkeypatch):
    monkeypatch.setattr(error_enclosure, "PARTS", ())
    system, e = network_system(), torch.full((3,), 0.6, dtype=torch.float64)
    grid = {"t1": 6.0, "steps": 24, "grades": ["log_norm", "enclosure"], "paths": 2}
    both = of(system, system.x0, e, **grid)
    alone = of(system, system.x0, e, kind="estimate", **grid)
    better, own, rates = (
        bound["mean"].values for bound in (both["enclosure"], alone["enclosure"], both["log_norm"])
    )
    assert not np.isfinite(own[-1])  # or this would show nothing
    assert both["log_norm"].kind == CERTIFICATE
    assert np.isfinite(better).all()
    assert (better <= np.minimum(own, rates) * (1 + 1e-12)).all()
    assert better[-1] < 0.99 * rates[-1]  # the first steps are enclosed better


class LateNoise:
    """Noise that sets in beyond 0.5, where no state of the start is; its derivative is 0."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return 1.0 + 0.5 * torch.nn.functional.softplus(4.0 * (y - 2.0))

    def g(self, t, y):
        return 0.5 * (1.0 + torch.sign(y - 0.5))


def test_one_path_is_a_certificate_only_where_the_noise_is_proven_to_vanish():
    """A single path of seed 2 was called a certificate: 0.0128 for a mean of 0.0223."""
    start, e = torch.zeros(1, dtype=torch.float64), torch.tensor([0.01], dtype=torch.float64)
    grid = {"t1": 3.0, "steps": 3, "seed": 2}
    bound = of(LateNoise(), start, e, **grid)["enclosure"]
    assert bound.kind == SAMPLED
    assert bound.constants["paths"] == 8.0
    measured = rollout_divergence(LateNoise(), start, e, paths=4000, **grid)["mean"].last
    one = of(LateNoise(), start, e, **grid, enclosed_paths=1)["enclosure"]["mean"].last
    assert one.value < measured.value - 5 * measured.standard_error  # or this would show nothing
    # The control: without noise, and with proven rates, one path is all paths.
    still = network_system()
    still.noise = torch.zeros_like(still.noise)
    e = torch.full((3,), 0.01, dtype=torch.float64)
    assert of(still, still.x0, e, t1=1.0, steps=2)["enclosure"].kind == CERTIFICATE


def test_it_is_left_out_with_the_reason_or_refused():
    case, e = OrnsteinUhlenbeck(), torch.tensor([0.1], dtype=torch.float64)
    with pytest.raises(ValueError, match="'enclosure'.*form='step'"):
        of(case, case.x0, e, t1=1.0, steps=4, form="sde")
    found = rollout_bounds(case, case.x0, e, t1=1.0, steps=4, form="sde", grades="all", paths=2)
    assert "form='step'" in found.left_out["enclosure"]


class Wave(OrnsteinUhlenbeck):
    """A drift that has no enclosure."""

    jacobians = None

    def f(self, t, y):
        return torch.special.i0(y)


def test_a_function_without_an_enclosure_is_named():
    case, e = Wave(), torch.tensor([0.1], dtype=torch.float64)
    with pytest.raises(ValueError, match="i0"):
        of(case, OrnsteinUhlenbeck().x0, e, t1=1.0, steps=4, paths=2)


def test_a_model_that_is_too_wide_is_left_out_before_it_takes_memory(shipped, monkeypatch):
    system, state, errors = shipped
    monkeypatch.setattr(path_problem, "MOST_BYTES", 1 << 20)
    found = of(system, state, errors, t1=STEPS, steps=STEPS, paths=4, grades="all")
    assert "enclosure" not in found
    assert "GiB" in found.left_out["enclosure"] and "too wide" in found.left_out["enclosure"]
    assert "log_norm" in found

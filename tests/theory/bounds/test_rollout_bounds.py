"""rollout_bounds against measured rollouts, path by path and in the mean."""

import math

import numpy as np
import pytest
import torch

import sdewm
from sdewm.certificates.network_system import NetworkSystem
from sdewm.sde.examples import (
    LinearFlow,
    OrnsteinUhlenbeck,
)
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import CERTIFICATE, ESTIMATE, block_slices
from sdewm.sde.solve import solve_path
from sdewm.theory.bounds import formulas
from sdewm.theory.bounds.bound import GradeBound
from sdewm.theory.bounds.rollout_bounds import rollout_bounds
from sdewm.theory.bounds.tube import exact_reference, sample_tube
from sdewm.theory.curve import Curve
from tests.theory.bounds.rollout_cases import (
    ADDITIVE,
    CIRCLE,
    F64,
    SYSTEMS,
    TANH,
    Expanding,
    assert_holds,
    bound,
    draw,
)


@pytest.mark.parametrize(("t1", "steps", "errors"), [(1.0, 8, "fixed"), (5.0, 5, "sampled")])
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_grade_bounds_the_measured_rollouts(name, t1, steps, errors):
    system = SYSTEMS[name]
    error = torch.full((system.state_size,), 0.1, **F64)
    if errors == "sampled":
        error = 0.05 * draw(40, system.state_size, seed=7).clamp(-2, 2)
    grid = {"t1": t1, "steps": steps}
    found = bound(system, error, paths=400, **grid)
    measured = sdewm.rollout_divergence(
        system, system.x0, error, paths=2000, quantiles=(), seed=5, **grid
    )
    for grade in set(found) - {"double_exponential"}:
        assert_holds(found[grade], measured)
    shared = found["gronwall"]["mean_square"].standard_errors
    assert shared.any() == (errors == "sampled")
    # Power: a bound twice below the measured mean would be noticed.
    half = Curve(measured.times, 0.5 * measured["mean"].values, measured["mean"].standard_errors)
    with pytest.raises(AssertionError):
        assert_holds(GradeBound("half", "estimate", {"mean": half}, {}), measured)


@pytest.mark.parametrize(("t1", "steps"), [(1.0, 8), (5.0, 5)])
@pytest.mark.parametrize("name", ADDITIVE)
def test_certificates_hold_on_every_path(name, t1, steps):
    system, paths = SYSTEMS[name], 50
    errors = 0.05 * draw(paths, system.state_size, seed=7).clamp(-2, 2)
    found = bound(system, errors, t1=t1, steps=steps, paths=paths, kind="certificate")
    noise = GaussianNoise(
        drivers=system.g(torch.zeros(()), system.x0[None]).shape[-1], steps=steps, t1=t1, seed=3
    )
    tube = sample_tube(system, system.x0.expand(paths, -1), errors, noise)
    distance, step_size = tube.difference.norm(dim=2), t1 / steps
    slack = distance.amax(1, keepdim=True) * 1e-12
    whole = formulas.log_norm(found.rates, step_size, "step")["mean"] * errors.norm(dim=1)[:, None]
    assert (distance <= whole + slack).all()
    parts = block_slices(system, None, system.state_size)
    start = torch.stack([errors[:, part].norm(dim=1) for part in parts], dim=1)
    assert (distance <= formulas.block(found.rates, step_size, start, "step")[0] + slack).all()
    reference = exact_reference(system, tube, step_size)
    along, rest = formulas.linearised(reference, found.rates, step_size, "step")
    assert (distance <= along + slack).all()
    assert ((tube.difference - tube.first).norm(dim=2) <= rest + slack).all()
    # Power: with other increments for the second path no bound of the kind holds.
    other = GaussianNoise(drivers=noise.drivers, steps=steps, t1=t1, seed=4)
    times = tube.grid.tolist()
    shifted = solve_path(system, system.x0 + errors, other, times=times)
    apart = (shifted - tube.reference).norm(dim=2)
    assert (apart > along).any() or name == "cubic"  # which has no noise


def test_independent_noise_breaks_the_exact_bound():
    case, e = OrnsteinUhlenbeck(), torch.tensor([0.1], **F64)
    found = bound(case, e, t1=1.5, steps=15)["log_norm"]["mean"].last
    paths = [
        solve_path(case, (case.x0 + shift).expand(2000, 1), noise)
        for shift, noise in (
            (0 * e, GaussianNoise(drivers=1, steps=15, t1=1.5, seed=0)),
            (e, GaussianNoise(drivers=1, steps=15, t1=1.5, seed=1)),
        )
    ]
    assert float((paths[1] - paths[0]).abs().mean()) > 10 * found.value
    same = solve_path(
        case, (case.x0 + e).expand(2000, 1), GaussianNoise(drivers=1, steps=15, t1=1.5)
    )
    assert float((same - paths[0]).abs().mean()) == pytest.approx(found.value, rel=1e-10)


def test_exact_grades_equal_the_measured_curve():
    case, e = OrnsteinUhlenbeck(), torch.tensor([0.1], **F64)
    found = bound(case, e, t1=1.5, steps=15)
    measured = sdewm.rollout_divergence(case, case.x0, e, t1=1.5, steps=15, paths=50)
    for grade in ("log_norm", "block", "linearised"):
        for name, ratio in found[grade].tightness(measured).items():
            np.testing.assert_allclose(ratio.values, 1.0, rtol=1e-10, err_msg=name)
    crude = found["gronwall"].tightness(measured)["mean"]
    assert crude.values[0] == pytest.approx(math.sqrt(3))
    assert crude.values[-1] > 10


@pytest.mark.parametrize("name", ["circle", "tanh", "network", "recurrent", "cubic"])
@pytest.mark.parametrize(("t1", "steps"), [(1.0, 6), (3.0, 3)])
def test_the_prediction_is_good_to_five_percent_in_its_range_and_not_far_beyond(name, t1, steps):
    system = SYSTEMS[name]
    error, grid = 0.1 * draw(system.state_size, seed=6), {"t1": t1, "steps": steps}
    stated = bound(system, error, **grid, kind="estimate")["linearised"].range
    assert 0 < stated < math.inf

    def gap(length):
        e = error * (length / error.norm())
        found = bound(system, e, **grid, kind="estimate", grades=("linearised",))["linearised"]
        measured = sdewm.rollout_divergence(system, system.x0, e, paths=60, quantiles=(), **grid)
        return float(np.abs(found.prediction["mean"].values / measured["mean"].values - 1).max())

    assert gap(stated) < 0.05 + 0.05**2  # up to third order
    assert gap(20 * stated) > 0.05
    assert name != "cubic" or gap(1.3 * stated) > 0.05  # no caution beyond the second order
    assert gap(stated / 10) < 0.1 * 0.05 * 1.2  # the error is of first order in |e|


def test_the_range_of_a_linear_system_is_everything():
    found = bound(LinearFlow())["linearised"]
    assert found.range == math.inf
    assert not found.remainder.values.any()
    assert_holds(found, found.prediction)
    mean_square, drawn = found["mean_square"].last.value, found.prediction["mean_square"].last
    assert drawn.deviation_from(mean_square) < 4  # D = y


def test_the_remainder_bounds_what_the_prediction_leaves():
    for system in (CIRCLE, TANH, SYSTEMS["network"]):
        error = torch.full((system.state_size,), 0.2, **F64)
        found = bound(system, error, paths=200)["linearised"]
        drivers = system.g(torch.zeros(()), system.x0[None]).shape[-1]
        noise = GaussianNoise(drivers=drivers, steps=5, t1=1.0)
        start, e = system.x0.expand(200, -1), error.expand(200, -1)
        tube = sample_tube(system, start, e, noise)
        rest = (tube.difference - tube.first).norm(dim=2).mean(0).numpy()
        assert (rest <= found.remainder.values + 1e-15).all()
        assert rest[-1] > 1e-4
        length = tube.first.norm(dim=2).mean(0).numpy()
        np.testing.assert_allclose(found.prediction["mean"].values, length, rtol=1e-10)


@pytest.mark.parametrize("form", ["step", "sde"])
def test_differences_that_vanish_are_bounded_by_zero_where_the_curvature_is_infinite(form):
    """The linearised bound was nan: ∞ for the curvature of ReLU, times 0 for the difference."""
    layers = torch.nn.Linear(2, 2, **F64), torch.nn.ReLU(), torch.nn.Linear(2, 2, **F64)
    system = NetworkSystem(torch.nn.Sequential(*layers), 0.0, torch.ones(2, **F64))
    found = bound(system, torch.zeros(2, **F64), t1=3.0, steps=3, form=form)["linearised"]
    assert found.kind == (CERTIFICATE if form == "step" else ESTIMATE)
    assert all((found[name].values == 0.0).all() for name in found.curves)
    for layer in (layers[0], layers[2]):
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    one_step = bound(system, t1=3.0, steps=3, form=form)["linearised"]["mean"].values
    assert np.isfinite(one_step).all()
    if form == "step":
        assert (one_step[1:] == 0.0).all()


def rates_of_rows(x0, errors, grade="log_norm"):
    found = rollout_bounds(Expanding(), x0, errors, t1=0.5, steps=5, paths=len(errors), seed=1)
    return found[grade]


@pytest.mark.parametrize("varied", ["starts", "errors"])
def test_the_order_of_the_rows_does_not_decide_the_sampled_rates(varied):
    """Jacobians of the first 256 rows alone gave 0.41 of the mean with small errors first."""
    small, many = torch.full((1500, 1), 0.01, **F64), torch.full((1500, 1), 0.9, **F64)
    rows, same = torch.cat((small, many)), torch.full((3000, 1), 0.3, **F64)
    given = (rows, same) if varied == "starts" else (same, rows)
    measured = sdewm.rollout_divergence(
        Expanding(), given[0], given[1], t1=0.5, steps=5, paths=3000, quantiles=(), seed=1
    )["mean"].last.value
    up, down = (rates_of_rows(*(part.flip(d) for part in given)) for d in ((), (0,)))
    assert up["mean"].last.value == pytest.approx(down["mean"].last.value, rel=0.02)
    assert up["mean"].last.value > measured
    # Control: the rates of the first rows alone, which are the small ones.
    first = rates_of_rows(*(part[:256] for part in given)).constants["step"]
    assert first < 0.8 * up.constants["step"]
    up, down = (
        rates_of_rows(*(part.flip(d) for part in given), grade="linearised") for d in ((), (0,))
    )
    assert up["mean"].last.value == pytest.approx(down["mean"].last.value, rel=0.02)
    assert up.range == pytest.approx(down.range, rel=0.05)


def test_the_largest_error_is_among_the_rows_of_the_sampled_rates():
    errors = torch.full((2000, 1), 0.01, **F64)
    alone = rates_of_rows(torch.zeros(1, **F64), errors)
    errors[1234] = 1.2
    found = rates_of_rows(torch.zeros(1, **F64), errors)
    assert found.constants["step"] > 1.2 * alone.constants["step"]
    # The mean that is added to |y| is that of the other rows, which stand for all.
    rare = rates_of_rows(torch.zeros(1, **F64), errors, "linearised")
    assert rare.range == pytest.approx(
        rates_of_rows(torch.zeros(1, **F64), errors[:1234], "linearised").range, rel=0.05
    )


def test_the_enclosed_paths_are_spread_over_the_rows():
    errors = torch.cat((torch.full((50, 1), 0.01), torch.full((50, 1), 0.1))).double()
    found = rollout_bounds(
        Expanding(), torch.zeros(1, **F64), errors, t1=0.1, steps=1, paths=100, grades=["enclosure"]
    )["enclosure"]
    assert found["mean"].at(0.0).value == pytest.approx(0.055, rel=0.25)  # E|e|, from 8 rows

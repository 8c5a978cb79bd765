"""Bounds in weighted norms: they see that steps of norm above 1 contract together."""

import numpy as np
import pytest
import torch

from sdewm.sde.linear_moments import moment_path
from sdewm.theory.bounds.rollout_bounds import DEFAULT_GRADES, rollout_bounds
from sdewm.theory.bounds.weighted_norms import WeightedNorm

STEP = torch.tensor([[0.5, 8.0], [0.0, 0.5]], dtype=torch.float64)
NOISE = torch.tensor([[0.1, 0.2], [0.0, 0.1]], dtype=torch.float64)
ERRORS = torch.tensor([[0.01, 1.0], [1.0, 0.0], [-0.5, 0.3]], dtype=torch.float64)
GRID = {"t1": 12.0, "steps": 12, "paths": 6}


class Shear:
    """x' = F x + A_1 x ξ, by steps of length 1."""

    noise_type, sde_type = "general", "ito"

    def __init__(self, noise=0.0):
        self.drift, self.columns = STEP - torch.eye(2).double(), noise * NOISE[None]

    def f(self, t, y):
        return y @ self.drift.T

    def g(self, t, y):
        return torch.einsum("kij,bj->bik", self.columns, y)


class ProvenShear(Shear):
    """The same with its Jacobians."""

    def jacobians(self):
        return self.drift, self.columns


def bounds(system, errors=ERRORS, **settings):
    return rollout_bounds(system, torch.zeros(2).double(), errors, **(GRID | settings))


def measured(error, noise=0.0):
    """E|D_n|², exactly."""
    start = torch.outer(error, error)
    system = Shear(noise)
    path = moment_path(system.drift, system.columns, start, 1.0, 12, scheme=True)
    return path.diagonal(dim1=1, dim2=2).sum(1).numpy()


@pytest.mark.parametrize(("system", "kind"), [(Shear, "estimate"), (ProvenShear, "certificate")])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_weighted_bound_holds_and_is_far_below_the_euclidean(system, kind, noise):
    for error in ERRORS:
        found = bounds(system(noise), error, grades=("log_norm", "weighted"))
        lower, upper = (found[grade]["mean_square"].values for grade in ("weighted", "log_norm"))
        exact = measured(error, noise)
        assert (exact <= lower * (1 + 1e-9)).all() and (lower <= upper * (1 + 1e-9)).all()
        assert lower[-1] < 1e-6 * upper[-1] and found["weighted"].kind == kind
        mean, sup = found["weighted"]["mean"].values, found["weighted"]["sup"].values
        assert (mean**2 <= lower * (1 + 1e-9)).all() and (sup >= mean * (1 - 1e-9)).all()


def test_the_way_back_to_the_euclidean_norm_is_paid_for(monkeypatch):
    monkeypatch.setattr(WeightedNorm, "back", 1.0)
    found = bounds(ProvenShear(), ERRORS[1], grades=("weighted",))
    assert (found["weighted"]["mean_square"].values < measured(ERRORS[1])).any()


def test_the_moment_of_the_error_is_taken_in_the_metric():
    whole = bounds(ProvenShear(), grades=("weighted",))["weighted"]["mean"]
    each = [bounds(ProvenShear(), e, grades=("weighted",))["weighted"]["mean"] for e in ERRORS]
    assert (whole.values <= np.mean([one.values for one in each], axis=0) * 2).all()
    assert each[0].standard_errors.max() == 0 and whole.standard_errors.min() > 0
    at_start = ERRORS.norm(dim=1).mean()
    assert whole.values[0] == pytest.approx(float(at_start))  # the Euclidean norm is among them


def test_which_grades_are_computed():
    assert {*bounds(Shear())} == {*DEFAULT_GRADES}
    every = bounds(Shear(1.0), grades="all")
    assert "weighted" in every and "block" in every.left_out
    with pytest.raises(ValueError, match="expected a sequence of names"):
        bounds(Shear(), grades="weighted")


class Large(Shear):
    """65 components that decay."""

    noise_type = "diagonal"

    def f(self, t, y):
        return -0.5 * y

    def g(self, t, y):
        return 0.1 * torch.ones_like(y)


def test_metrics_of_many_components_are_left_out():
    settings = {"t1": 1.0, "steps": 1, "paths": 2}
    x0 = torch.zeros(65).double()
    found = rollout_bounds(Large(), x0, x0 + 0.1, grades="all", **settings)
    assert "there are 65" in found.left_out["weighted"] and "weighted" not in found
    with pytest.raises(ValueError, match="grades contains 'weighted'"):
        rollout_bounds(Large(), x0, x0 + 0.1, grades=("weighted",), **settings)


class Bent(Shear):
    """Steeper away from the reference at 0."""

    def f(self, t, y):
        return super().f(t, y) + 0.4 * y**3 * torch.tensor([0.0, 1.0]).double()


def test_the_rates_are_those_of_the_tube_not_of_the_reference():
    error = torch.tensor([0.0, 1.1], dtype=torch.float64)
    bound = bounds(Bent(), error, grades=("weighted",))["weighted"]["mean"].values
    x, sizes = error[None], [error.norm()]
    for _ in range(12):
        x = x + Bent().f(torch.zeros(()), x)
        sizes.append(x.norm())
    assert (np.array(sizes) <= bound * (1 + 1e-9)).all()
    flat = bounds(Shear(), error, grades=("weighted",))["weighted"]["mean"].values
    assert (np.array(sizes) > flat).any()

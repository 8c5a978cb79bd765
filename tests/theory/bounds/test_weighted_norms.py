"""Rates in weighted norms: extremes over states, and on the safe side of rounding."""

from dataclasses import fields

import torch

from sdewm.sde.examples import LinearFlow
from sdewm.theory.bounds.jacobian_rates import jacobian_rates
from sdewm.theory.bounds.weighted_norms import constant_rates, largest_rates, weighted_norms_for


def test_proven_rates_in_a_weighted_norm_lie_outside_the_computed_ones():
    case = LinearFlow()
    drift, noise = case.jacobians()
    found = constant_rates(drift, noise, 0.1, 2)
    assert len(found) > 3
    for one, rates in found:
        moved = one.transformed(drift)[None], one.transformed(noise)[None]
        computed = jacobian_rates(*moved, 0.1, [slice(0, 2)])
        # Rounding of S A S⁻¹ alone, which the rates computed from it do not know of.
        rounding = torch.finfo(torch.float64).eps * one.condition
        for name in {field.name for field in fields(rates)} - {"curvature", "noise_curvature"}:
            sign = -1.0 if name == "least_log_norm" else 1.0
            value = getattr(rates, name)
            value = value[:, 0] if name == "log_norm" else value[0]
            excess = sign * (value - computed[name].squeeze())
            assert bool((excess >= rounding).all()) and bool((excess < 1e-9).all()), name


def test_the_extremes_of_rates_over_states():
    rates = {
        "drift": torch.tensor([1.0, 2.0]),
        "least_log_norm": torch.tensor([-1.0, -3.0]),
        "log_norm": torch.tensor([[1.0, 4.0], [2.0, 0.0], [3.0, 5.0]]),
    }
    found = {name: value.tolist() for name, value in largest_rates(rates).items()}
    assert found == {"drift": 2.0, "least_log_norm": -3.0, "log_norm": [4.0, 2.0, 5.0]}


def test_the_first_of_the_norms_differ_from_the_last_which_is_euclidean():
    drift, noise = LinearFlow().jacobians()
    *others, last = weighted_norms_for(drift, noise, (0.5, 1.0))
    assert torch.equal(last.root, torch.eye(2, dtype=torch.float64)) and last.start == 2.0
    for one in others:
        assert one.start > 2.0
        values = torch.linalg.eigvalsh(one.root) ** 2
        assert abs(one.start - float(values.sum() / values[0])) < 1e-9 * one.start
        assert abs(one.back - float(values[0]) ** -0.5) < 1e-9 * one.back

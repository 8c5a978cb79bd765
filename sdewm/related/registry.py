"""All measurements of single runs, in the order of tables and figures."""

from sdewm.related import (
    drift_equilibrium,
    equivariance,
    features,
    flatness,
    heavy_tails,
    sample_consistency,
    soft_worst_case,
    solver_order,
    tolerated_strength,
    value_probe,
    weighted_error,
    worst_group,
)
from sdewm.related.quantity import Quantity

OF_RUNS: tuple[Quantity, ...] = (
    *heavy_tails.QUANTITIES,
    *drift_equilibrium.QUANTITIES,
    *sample_consistency.QUANTITIES,
    *soft_worst_case.QUANTITIES,
    *tolerated_strength.QUANTITIES,
    *features.QUANTITIES,
    *equivariance.QUANTITIES,
    *flatness.QUANTITIES,
    *weighted_error.QUANTITIES,
    *value_probe.QUANTITIES,
    *worst_group.QUANTITIES,
    *solver_order.QUANTITIES,
)
# Whose rank correlation with the error under noise over runs is reported.
INDICATORS = tuple(one.name for one in (*features.QUANTITIES, *flatness.QUANTITIES))

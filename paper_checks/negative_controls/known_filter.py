"""Negative controls of the checks on the known filter: each makes one deliberate mistake."""

from __future__ import annotations

from dataclasses import replace

from paper_checks.cases.known_filter import KnownFilter


def trust_observations(case: KnownFilter) -> KnownFilter:
    """The filter weighs observations with 1.5 times Kalman's gain (S35)."""
    return replace(case, gain=1.5)


def forget_less(case: KnownFilter) -> KnownFilter:
    """The model decays by .96 in a step, the system by .95 (S35)."""
    return replace(case, growth=0.96)

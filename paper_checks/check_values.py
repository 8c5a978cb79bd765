"""Bias of a value function under a wrong initial state (S14, S20)."""

from __future__ import annotations

from typing import Any

import torch

import sdewm
from paper_checks.cases.rollouts import tanh_network
from paper_checks.findings import Finding, Mutate, Settings, compare, conclude, order_of
from sdewm.base.stats import Estimate
from sdewm.sde import examples
from sdewm.theory.flow.value_expansion import ValueExpansion
from sdewm.theory.remainder_order import order_outcome
from sdewm.theory.verdict import Verdict

O11 = {"measured": -0.0020861271, "second": -0.0020877583}  # Q = x², e = ±0.1 with probability ½


def _square(y: torch.Tensor) -> torch.Tensor:
    return y[:, 0] ** 2


def _expand_cubic(steps: int, error: torch.Tensor) -> ValueExpansion:
    case = examples.CubicFlow()
    grid = {"t1": case.t1, "steps": steps}
    return sdewm.value_expansion(case, _square, case.x0, error, paths=16, **grid)


def cubic(settings: Settings, mutate: Mutate) -> Finding:
    """O11: bias of the cubic flow and its second order, extrapolated in the step size (S20)."""
    keep = mutate(lambda terms: terms["second_flow"].value + terms["second_curvature"].value)
    error = torch.tensor([[0.1], [-0.1]], dtype=torch.float64)
    values: dict[str, list[float]] = {"measured": [], "second": []}
    for steps in (250, 500, 1000):
        terms = _expand_cubic(steps, error).terms
        values["measured"].append(terms["measured"].value)
        values["second"].append(keep(terms))
    findings = []
    for name, row in values.items():
        halves = [2 * fine - coarse for coarse, fine in zip(row, row[1:], strict=False)]
        limit = (4 * halves[1] - halves[0]) / 3
        findings.append(compare(f"{name} bias", Estimate(limit, 0.0), O11[name], 2e-9))
    return conclude(findings)


def order(settings: Settings, mutate: Mutate, *, law: str, expected: float) -> Finding:
    """Order of E|remainder| in the size of e, for a tanh network and for the cubic flow (S14)."""
    law = mutate(law)
    findings = []
    error = torch.tensor([[0.3, -0.2, 0.1, 0.2]], dtype=torch.float64)
    network = tanh_network()

    def value(y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(y[:, 0]) + 0.5 * (y**2).sum(1)

    results: list[tuple[str, Any]] = [
        (
            "tanh network",
            sdewm.value_expansion(
                network,
                value,
                network.x0,
                error,
                t1=1.0,
                steps=16,
                paths=max(2, settings.paths // 50),
                seed=settings.seed,
            ),
        ),
        ("cubic flow", _expand_cubic(40, torch.tensor([0.1], dtype=torch.float64))),
    ]
    for name, result in results:
        found = result.order((0.1, 0.05, 0.025, 0.0125), law=law)
        slope, (low, high) = found.slope, found.interval
        text = f"slope {slope:.3f} in [{low:.3f}, {high:.3f}] ({name}), claimed {expected:g}"
        verdict = Verdict(order_outcome(found.interval, expected), text)
        estimate, quantity = Estimate(slope, (high - low) / 2), f"order of E|remainder| ({name})"
        findings.append(order_of(quantity, estimate, expected, verdict))
    return conclude(findings)


def unbiased(settings: Settings, mutate: Mutate) -> Finding:
    """If E e = 0, the mean first-order term is 0 and the second-order term is the bias (S20)."""
    case = examples.TanhWorldModel()
    generator = torch.Generator().manual_seed(settings.seed)
    paths = max(2, settings.paths // 2)
    half = 0.05 * torch.randn(min(1000, paths // 2), 4, dtype=torch.float64, generator=generator)
    error = mutate(torch.cat((half, -half)))
    result = sdewm.value_expansion(
        case,
        case.loss,
        case.x0,
        error,
        t1=case.t1,
        steps=16,
        paths=paths // len(error) * len(error),  # each sample as often
        seed=settings.seed,
    )
    terms = result.terms
    zero = compare("first-order term", terms["first"], 0.0)
    allowed = 0.05 * abs(terms["second"].value)
    return conclude([zero, compare("bias − second order", terms["remainder"], 0.0, allowed)])

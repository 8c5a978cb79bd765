"""Certified constants: never below those found by an attack, never above the global ones (S18)."""

from __future__ import annotations

import torch
from torch import nn

import sdewm
from paper_checks.findings import Finding, Mutate, Settings, at_most, conclude, excess_share
from sdewm.base.stats import Estimate
from sdewm.theory.verdict import FAILS, HOLDS, Verdict

NETWORKS = 24  # of each kind; the tests take a thousand
CONSTANTS = ("lipschitz_2", "lipschitz_inf", "curvature_2", "curvature_inf")


def attacked(settings: Settings, mutate: Mutate) -> Finding:
    """Certified constants of random networks, GRU cells and boxes against gradient ascent."""
    generator = torch.Generator().manual_seed(settings.seed)
    findings = []
    for index in range(2 * NETWORKS):
        recurrent = index % 2 == 1
        module, inputs = _cell(generator) if recurrent else _network(index, generator)
        centre = torch.rand(inputs, dtype=torch.float64, generator=generator) - 0.5
        region = None if index % 4 < 2 else (centre - 0.2, centre + 0.2)
        proven = sdewm.certify(mutate(module), region)
        lower = sdewm.certify(module, region).attack(seed=index, starts=8, steps=10)
        for name in CONSTANTS:
            upper, found = getattr(proven, name), getattr(lower, name)
            text = (
                f"{name} of {type(module).__name__} {index}: attack {found:.6g}, bound {upper:.6g}"
            )
            findings.append(at_most(name, Estimate(found, 0.0), upper, text))
        if region is not None:
            everywhere = sdewm.certify(mutate(module))
            for name in CONSTANTS:
                inside, whole = getattr(proven, name), getattr(everywhere, name)
                outcome = HOLDS if inside <= whole else FAILS
                text = f"{name} in a box {inside:.6g}, everywhere {whole:.6g}"
                findings.append(
                    Finding(
                        f"{name} in a box",
                        Estimate(inside, 0.0),
                        whole,
                        Verdict(outcome, text),
                        used=excess_share(inside, whole, 0.0),
                    )
                )
    tightest = max(findings, key=lambda f: f.measured.value / f.predicted if f.predicted else 0.0)
    return conclude(findings, headline=tightest.quantity)


def _network(index: int, generator: torch.Generator) -> tuple[nn.Module, int]:
    activations = (nn.Tanh, nn.Sigmoid, nn.Softplus, nn.SiLU, nn.GELU)
    sizes = [3, 6, 2] if index % 3 else [3, 5, 4, 2]
    layers: list[nn.Module] = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        layers += [_fill(nn.Linear(before, after), generator), activations[index // 2 % 5]()]
    return nn.Sequential(*layers[:-1]).double(), sizes[0]


def _cell(generator: torch.Generator) -> tuple[nn.Module, int]:
    return _fill(nn.GRUCell(2, 3), generator), 5


def _fill(module: nn.Module, generator: torch.Generator) -> nn.Module:
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
    return module

"""Divergence of two rollouts from different initial states: measured, and bounded by each grade."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.certificates.network_system import NetworkSystem
from sdewm.plots.rollout_plots import rollout_bounds as draw
from sdewm.scripts.theory_figure import FigureScript
from sdewm.sde import examples
from sdewm.sde.rates import CERTIFICATE, ESTIMATE
from sdewm.theory.bounds.bound import GradeBound, LinearisedBound, RolloutBounds
from sdewm.theory.bounds.rollout_bounds import rollout_bounds
from sdewm.theory.curve import Curve
from sdewm.theory.flow.rollout_divergence import Divergence, rollout_divergence

DEFAULTS = {"system": "all", "paths": 2000, "steps": 50}
NEEDED = ("f", "g", "x0", "t1")
SIZE = 0.1  # |e|
LOW, HIGH = 0.025, 0.975
DIGITS = 6  # of the numbers kept
WIDTH, WEIGHT_DECAY, EPOCHS, LEARNING_RATE = 64, 1.0, 400, 3e-3


class Case(NamedTuple):
    """A system, its step, and the part of its state that starts wrong."""

    system: Any
    step_size: float
    wrong: slice = slice(None)

    def errors(self, size: float, seed: int) -> torch.Tensor:
        """Of norm `size`, along orthogonal directions of the wrong part, one row for each.

        A few paths cover them evenly, and without ±e the second order in e does not cancel.
        """
        some = torch.eye(len(self.system.x0), dtype=torch.float64)[self.wrong]
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(len(some), len(some), dtype=torch.float64, generator=generator)
        return size * torch.linalg.qr(normal).Q @ some


def cases(options: Any) -> dict[str, Case]:
    """The four systems, or the one chosen."""
    if options.system != "all":
        return {options.system: Case(options.case, options.case.t1 / options.steps)}
    recurrent = RecurrentSystem.like_trained(hidden=20, latent=4, seed=options.seed)
    return {
        "LinearWorldModel": Case(examples.LinearWorldModel(), 0.1),
        "CubicFlow": Case(examples.CubicFlow(), 0.1),
        "tanh network": Case(trained_network(options.seed), 1.0),
        "GRU": Case(recurrent, 1.0, recurrent.blocks["z"]),
    }


def trained_network(seed: int) -> NetworkSystem:
    """x -> V tanh(Wx + b) + c, trained with weight decay on one step of two coupled pendulums.

    The decay decides the certificate: it leaves a Lipschitz constant of 1.2, without it 2 and more.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    inner, outer = nn.Linear(4, WIDTH).double(), nn.Linear(WIDTH, 4).double()
    with torch.no_grad():
        inner.weight.copy_(0.5 * normal(WIDTH, 4))
        inner.bias.copy_(0.5 * normal(WIDTH))
        outer.weight.copy_(0.5 * normal(4, WIDTH) / WIDTH**0.5)
        outer.bias.zero_()
    network, states = nn.Sequential(inner, nn.Tanh(), outer), normal(512, 4)
    targets = pendulums(states)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(EPOCHS):
        optimiser.zero_grad()
        (network(states) - targets).square().mean().backward()
        optimiser.step()
    start = torch.tensor([1.0, 0.5, -0.3, 0.2], dtype=torch.float64)
    return NetworkSystem(network.requires_grad_(False), 0.05, start)


def pendulums(states: torch.Tensor, duration: float = 0.2, substeps: int = 10) -> torch.Tensor:
    """Angles and velocities (B, 2 + 2) of two damped, coupled pendulums after some time."""
    angle, velocity = states.chunk(2, dim=1)
    for _ in range(substeps):
        force = -torch.sin(angle) - 0.5 * velocity + 0.3 * (angle.flip(1) - angle)
        angle = angle + duration / substeps * velocity
        velocity = velocity + duration / substeps * force
    return torch.cat((angle, velocity), dim=1)


def ready_systems() -> ModuleType:
    """The examples, and "all" for the four systems of `cases`."""
    ready = ModuleType("ready")
    every: dict[str, Callable[[], Any]] = {n: getattr(examples, n) for n in examples.__all__}
    vars(ready).update(every, all=lambda: None, __all__=["all", *every])
    return ready


def measure(options: Any) -> list[dict[str, Any]]:
    """What was measured, the bounds and the prediction, of all systems."""
    rows: list[dict[str, Any]] = []
    for name, case in cases(options).items():
        rows += compare(name, case, options)
    return rows


def compare(name: str, case: Case, options: Any) -> Iterator[dict[str, Any]]:
    """What was measured, every bound over it, and the linearised prediction in its range."""
    measured = run(rollout_divergence, case, SIZE, options)
    yield from records(name, "measured", "", SIZE, measured, measured)
    bounds: RolloutBounds = run(rollout_bounds, case, SIZE, options)
    for bound in bounds.values():
        if bound.grade != "block" or several_blocks(bounds):
            yield from records(name, bound.grade, bound.kind, SIZE, bound.curves, measured)
    curved = bool(bounds.rates.curvature.any() or bounds.rates.noise_curvature.any())
    if bounds["gronwall"].kind == CERTIFICATE and curved:  # else the samples say the same
        for bound in run(rollout_bounds, case, SIZE, options, kind=ESTIMATE).values():
            if bounds[bound.grade].kind == CERTIFICATE and (
                bound.grade != "block" or several_blocks(bounds)
            ):
                yield from records(name, bound.grade, bound.kind, SIZE, bound.curves, measured)
    yield from prediction(name, case, options, bounds["linearised"], measured)


def prediction(
    name: str, case: Case, options: Any, bound: GradeBound, measured: Divergence
) -> Iterator[dict[str, Any]]:
    """E|y| against E|D| at the largest |e| of its stated range; y is linear in e."""
    assert isinstance(bound, LinearisedBound)
    size = bound.range if np.isfinite(bound.range) else SIZE
    if size != SIZE:
        measured = run(rollout_divergence, case, size, options)
    scaled = {
        quantity: Curve(
            curve.times, *(size / SIZE * x for x in (curve.values, curve.standard_errors))
        )
        for quantity, curve in bound.prediction.items()
        if quantity in ("mean", "sup")
    }
    yield from records(name, "prediction", ESTIMATE, size, scaled, measured)


def run(function: Callable[..., Any], case: Case, size: float, options: Any, **more: Any) -> Any:
    """`function` on the case, with errors of size |e| and the same paths each time."""
    return function(
        case.system,
        case.system.x0,
        case.errors(size, options.seed),
        t1=case.step_size * options.steps,
        steps=options.steps,
        paths=options.paths,
        seed=options.seed,
        device=options.device,
        **more,
    )


def several_blocks(bounds: RolloutBounds) -> bool:
    """Whether grade "block" differs from "log_norm"."""
    return bounds.rates.step_blocks.shape[-1] > 1


def records(
    panel: str, series: str, kind: str, size: float, curves: Any, measured: Divergence
) -> Iterator[dict[str, Any]]:
    """One row per grid time: E|D| and E sup|D| of a bound, and their ratios to the measured."""
    ratios = GradeBound(series, kind, curves, {}).tightness(measured)
    for n, time in enumerate(measured.times):
        row: dict[str, Any] = {"panel": panel, "series": series, "kind": kind, "size": size}
        row |= {"step": n, "time": time}
        for quantity in ("mean", "sup"):
            for key, of in ((quantity, curves), (f"{quantity}_ratio", ratios)):
                curve = of[quantity]
                row[key], row[f"{key}_error"] = curve.values[n], curve.standard_errors[n]
        band = measured.quantiles if series == "measured" else {}
        row["low"] = band[LOW].values[n] if band else None
        row["high"] = band[HIGH].values[n] if band else None
        yield {
            key: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
            for key, value in row.items()
        }


SCRIPT = FigureScript(
    "fig_rollout_bounds",
    ready_systems(),
    DEFAULTS,
    measure,
    draw,
    panels=lambda options: 12 if options.system == "all" else 3,
    needed=NEEDED,
)
main = partial(SCRIPT.run, __doc__ or "")

if __name__ == "__main__":
    main()

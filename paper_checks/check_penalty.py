"""The Jacobian penalty: roots, rates, samples without a derivative, memory (S23–S25, S29)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from paper_checks.findings import (
    THRESHOLD,
    Finding,
    Mutate,
    Settings,
    at_most,
    compare,
    conclude,
    false_alarm,
)
from sdewm.base.stats import BatchSums, Estimate
from sdewm.jacobian.penalty import InputProjection, gaussian_probes
from sdewm.jacobian.products import row_jacobians, step_log_norms
from sdewm.model.distributions import sample_one_hot, straight_through
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict

PROBES, LEAST_ROWS = 16, 4096
ONE_PROBE, SIXTEEN_PROBES = 0.797885, 0.984496  # means of the root over the norm, at rank one
STEPS, STEP_SIZE, DIFFERENCE = 24, 0.5, 1e-5
MODELS, PATH = 24, 12


def _draw(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def _root(step: Callable, x: torch.Tensor, probes: torch.Tensor) -> torch.Tensor:
    """Root of the average over the probes, for each row `(B,)`, as in `jacobian_penalty`."""
    return InputProjection(probes)(step, x).sqrt()


def root(settings: Settings, mutate: Mutate) -> Finding:
    """Mean of the estimated over the true norm, at rank one and at full rank (S23)."""
    estimate, rows = mutate(_root), max(LEAST_ROWS, settings.paths // 20)
    ones = {"rank one": _draw(3, 1, seed=1) @ _draw(1, 4, seed=2), "rank 3": _draw(3, 4, seed=3)}
    found = {}
    for name, jacobian in ones.items():
        x = torch.zeros(rows, 4, dtype=torch.float64)
        generator = torch.Generator().manual_seed(settings.seed)
        probes = gaussian_probes(PROBES, x, generator)
        for count in (1, PROBES):
            sums = BatchSums(rows, 1)
            values = estimate(lambda y, j=jacobian: y @ j.T, x, probes[:count])
            sums.add(0, values[:, None] / jacobian.norm())
            found[name, count] = sums.estimate(torch.ones(1))
    many, single = found["rank one", PROBES], found["rank one", 1]
    findings = [
        compare(f"mean root of {PROBES} probes / ‖J‖_F, rank one", many, SIXTEEN_PROBES, 5e-7),
        compare("mean root of one probe / ‖J‖_F, rank one", single, ONE_PROBE, 5e-7),
    ]
    between = found["rank 3", 1]
    low, high = (between.value + s * THRESHOLD * between.standard_error for s in (-1, 1))
    outcome = FAILS if high < ONE_PROBE or low > 1.0 else UNDECIDED
    if ONE_PROBE < low and high < 1.0:
        outcome = HOLDS
    text = f"mean root of one probe / ‖J‖_F = {between}, between {ONE_PROBE} and 1"
    room = (1.0 - ONE_PROBE) / 2 - THRESHOLD * between.standard_error
    findings.append(
        Finding(
            "mean root, rank 3",
            between,
            1.0,
            Verdict(outcome, text),
            used=abs(between.value - (1.0 + ONE_PROBE) / 2) / room if room > 0 else math.inf,
            false_alarm=false_alarm(THRESHOLD * between.standard_error, between),
        )
    )
    return conclude(findings)


def rate(settings: Settings, mutate: Mutate) -> Finding:
    """λ of a step, and the growth of the mean square in one step, for random networks (S24)."""
    findings = []
    for index in range(STEPS):
        weights = [_draw(3, 3, seed=1000 * settings.seed + 4 * index + k) for k in range(4)]

        def step(x: torch.Tensor, w: list[torch.Tensor] = weights) -> tuple:
            mean = 0.7 * x + 0.4 * torch.tanh(x @ w[0]) @ w[1]
            return mean, 0.3 + 0.3 * torch.tanh(x @ w[2]) @ w[3]

        x = _draw(1, 3, seed=index)
        measured = float(step_log_norms(mutate(step), x)) / STEP_SIZE
        mean, deviation = (row_jacobians(lambda y, k=k: step(y)[k], x)[0] for k in (0, 1))
        eye = torch.eye(3, dtype=torch.float64)
        drift, noise = (mean - eye) / STEP_SIZE, deviation / math.sqrt(STEP_SIZE)
        symmetric = 0.5 * (drift + drift.T + noise.T @ noise)
        by_hand = float(torch.linalg.eigvalsh(symmetric)[-1])
        signs = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0], dtype=torch.float64)])
        moved = mean + signs[:, :, None] * deviation  # (8, 3, 3), one for each ξ
        factor = float(torch.linalg.eigvalsh((moved.mT @ moved).mean(0))[-1])
        linear = 1.0 + 2.0 * STEP_SIZE * measured
        upper = linear + (STEP_SIZE * float(torch.linalg.matrix_norm(drift, 2))) ** 2
        findings += [
            compare(f"λ of step {index}", Estimate(measured, 0.0), by_hand, 1e-10),
            at_most("1 + 2Δλ", Estimate(linear, 0.0), factor, f"{linear:.6g} and a² {factor:.6g}"),
            at_most("a²", Estimate(factor, 0.0), upper, f"a² {factor:.6g}, bound {upper:.6g}"),
        ]
    return conclude(findings)


def samples(settings: Settings, mutate: Mutate) -> Finding:
    """Samples are constant between jumps; straight-through has softmax's derivative (S25)."""
    rows, classes = 200, 5
    logits = _draw(rows, classes, seed=settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    uniforms = torch.rand(rows, dtype=torch.float64, generator=generator)

    def probabilities(y: torch.Tensor) -> torch.Tensor:
        return torch.softmax(y, dim=1)

    def sample(y: torch.Tensor) -> torch.Tensor:
        return sample_one_hot(probabilities(y), uniforms)

    def through(y: torch.Tensor) -> torch.Tensor:
        return straight_through(sample(y), probabilities(y))

    def squares(function: Callable) -> torch.Tensor:
        """‖J‖_F² of each row by central differences."""
        total = logits.new_zeros(rows)
        for unit in torch.eye(classes, dtype=torch.float64):
            ends = [function(logits + s * DIFFERENCE * unit) for s in (1.0, -1.0)]
            total += ((ends[0] - ends[1]) / (2.0 * DIFFERENCE)).square().sum(1)
        return total

    # A jump lies within the difference if a uniform is that near to a cumulative probability.
    apart = probabilities(logits).cumsum(1)[:, :-1] - uniforms[:, None]
    calm = (apart.abs() > 10 * DIFFERENCE).all(1)
    auto = row_jacobians_of(through, logits).square().sum((1, 2))
    own = float(auto.mean())
    smooth = float(squares(mutate(probabilities)).mean())
    still = float(squares(sample)[calm].max())
    return conclude(
        [
            compare("mean ‖J‖_F² of a straight-through sample", Estimate(own, 0.0), smooth, 1e-8),
            compare("largest ‖J‖_F² of a sample", Estimate(still, 0.0), 0.0),
        ]
    )


class ExactModel:
    """A latent model that predicts a system in the plane exactly (S29).

    The physical state s = (a, b) moves by P(s) = A s + B tanh(C s), and its latent is
    φ(s) = O (s, bend · sin(W s)) with a rotation O. The model reads s off the latent, moves it, and
    maps it back; what is off the image of φ is multiplied by `rest`.
    """

    def __init__(self, seed: int, size: int = 5, bend: float = 0.5, rest: float = 0.3) -> None:
        self.rotation = torch.linalg.qr(_draw(size, size, seed=seed))[0]
        self.waves = _draw(size - 2, 2, seed=seed + 1)
        self.matrix = torch.eye(2, dtype=torch.float64) + 0.2 * _draw(2, 2, seed=seed + 2)
        self.inner, self.outer = (0.3 * _draw(2, 2, seed=seed + k) for k in (3, 4))
        self.bend, self.rest = bend, rest

    def physical(self, s: torch.Tensor) -> torch.Tensor:
        """P, row by row."""
        return s @ self.matrix.T + torch.tanh(s @ self.inner.T) @ self.outer.T

    def latent(self, s: torch.Tensor) -> torch.Tensor:
        """φ, row by row."""
        return torch.cat([s, self.bend * torch.sin(s @ self.waves.T)], 1) @ self.rotation.T

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """F, row by row."""
        s = (x @ self.rotation)[:, :2]
        return self.latent(self.physical(s)) + self.rest * (x - self.latent(s))


def _volume(jacobian: torch.Tensor) -> float:
    return 0.5 * float(torch.logdet(jacobian.T @ jacobian))


def memory_floor(settings: Settings, mutate: Mutate) -> Finding:
    """Mean ln ‖J‖_F² along a path of exact models, against the floor (S29)."""
    findings, gap = [], 0.0
    for index in range(MODELS):
        model = ExactModel(10 * (index + 100 * settings.seed))
        if index == 0:  # the case of equality
            model = ExactModel(0, bend=0.0, rest=0.0)
            turn = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]])
            model.matrix, model.outer = 0.95 * turn.double(), torch.zeros_like(model.outer)
        step, s = mutate(model), _draw(1, 2, seed=index)
        start, norms, volumes = s, [], []
        for _ in range(PATH):
            moved = model.physical(s)
            predicted = step(model.latent(s))
            gap = max(gap, float((predicted - model.latent(moved)).abs().max()))
            jacobian = row_jacobians(step, model.latent(s))[0]
            norms.append(float(jacobian.square().sum().log()))
            volumes.append(float(torch.linalg.det(row_jacobians(model.physical, s)[0]).abs().log()))
            s = moved
        ends = [_volume(row_jacobians(model.latent, at)[0]) for at in (s, start)]
        floor = math.log(2) + (sum(volumes) + ends[0] - ends[1]) / PATH  # 2/d = 1
        mean = Estimate(sum(norms) / PATH, 0.0)
        if index == 0:
            findings.append(compare("mean ln ‖J‖_F², isometric", mean, floor, 1e-10))
        text = f"mean ln ‖J‖_F² {mean.value:.6g}, floor {floor:.6g}"
        findings.append(at_most("floor", Estimate(floor, 0.0), mean.value + 1e-12, text))
    findings.append(compare("largest F(φ(s)) − φ(P(s))", Estimate(gap, 0.0), 0.0, 1e-10))
    return conclude(findings)


def row_jacobians_of(function: Callable, y: torch.Tensor) -> torch.Tensor:
    """Jacobians `(B, C, n)` by reverse mode, which straight-through samples are written for."""
    y = y.detach().requires_grad_()
    out = function(y)
    rows = [torch.autograd.grad(part.sum(), y, retain_graph=True)[0] for part in out.unbind(1)]
    return torch.stack(rows, dim=1)

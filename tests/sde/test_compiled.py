"""The compiled path gives the numbers of torchsde to rounding."""

import pytest
import torch

from sdewm.base import compiling
from sdewm.sde.compiled import CompiledEuler
from sdewm.sde.examples import EnumerationWorldModel, OrnsteinUhlenbeck, PearsonDiffusion
from sdewm.sde.noise import EnumeratedNoise, GaussianNoise, TwoPointNoise
from sdewm.sde.solve import solve_path


@pytest.mark.parametrize(
    ("system", "law", "dtype"),  # each pair of two of them once: every case is compiled anew
    [
        (OrnsteinUhlenbeck(), GaussianNoise, torch.float64),
        (OrnsteinUhlenbeck(), TwoPointNoise, torch.float32),
        (PearsonDiffusion(), GaussianNoise, torch.float32),
        (PearsonDiffusion(), TwoPointNoise, torch.float64),
    ],
)
def test_it_gives_the_numbers_of_torchsde_to_rounding(system, law, dtype):
    start = system.x0.to(dtype).expand(1500, -1)
    plain, fast = (law(drivers=1, steps=20, t1=1.0, seed=9, compiled=c) for c in (False, True))
    solver = CompiledEuler(system)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    for first in (0, 700):
        expected = solve_path(system, start, plain, first=first)[:, 0]
        torch.testing.assert_close(
            solver.solve(start, fast, first=first), expected, rtol=tolerance, atol=tolerance
        )
    coarse = solve_path(system, start, plain.coarsen(4))[:, 0]
    torch.testing.assert_close(
        solver.solve(start, fast.coarsen(4)), coarse, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("law", [GaussianNoise, TwoPointNoise])
def test_large_batches_that_start_within_a_block_give_the_same_numbers(law, antithetic):
    system, solver = OrnsteinUhlenbeck(), CompiledEuler(OrnsteinUhlenbeck())
    start = system.x0.expand(66_000, -1)
    for seed in (1, 2):
        options = {"drivers": 1, "steps": 3, "t1": 1.0, "seed": seed, "antithetic": antithetic}
        expected = solve_path(system, start, law(**options), first=100)[:, 0]
        found = solver.solve(start, law(**options, compiled=True), first=100)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_general_noise_and_enumeration_too():
    system = EnumerationWorldModel()
    noise = EnumeratedNoise(drivers=3, steps=3, t1=1.2)
    start = system.x0.expand(512, -1)
    expected = solve_path(system, start, noise)[:, 0]
    torch.testing.assert_close(
        CompiledEuler(system).solve(start, noise), expected, rtol=1e-13, atol=1e-14
    )


def test_a_system_that_has_changed_is_compiled_anew(monkeypatch):
    class Relaxing:
        noise_type, sde_type, rate = "diagonal", "ito", 1.0
        weight = torch.eye(2, dtype=torch.float64)

        def f(self, t, y):
            return -self.rate * y @ self.weight

        def g(self, t, y):
            return torch.full_like(y, 0.3)

    # Recorded, but not compiled: the record is what grows old.
    monkeypatch.delenv("TORCH_COMPILE_DISABLE", raising=False)
    monkeypatch.setattr(compiling, "_compile_graph", lambda graph, arguments: graph)
    system, noise = Relaxing(), GaussianNoise(drivers=2, steps=4, t1=1.0)
    start = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)
    solver = CompiledEuler(system)
    for name, value in (("rate", 1.0), ("rate", 2.0), ("weight", 3 * system.weight)):
        setattr(system, name, value)
        for _ in range(2):
            expected = solve_path(system, start, noise)[:, 0]
            torch.testing.assert_close(solver.solve(start, noise), expected)
        (step,) = solver._steps.values()
        assert isinstance(step, compiling.Compiled) and step.active


def test_a_drift_that_branches_on_time_runs_uncompiled():
    class Branching(OrnsteinUhlenbeck):
        def f(self, t, y):
            return -y if float(t) < 0.5 else y

    system, noise = Branching(), GaussianNoise(drivers=1, steps=10, t1=1.0)
    start = system.x0.expand(64, -1)
    expected = solve_path(system, start, noise)[:, 0]
    torch.testing.assert_close(
        CompiledEuler(system).solve(start, noise), expected, rtol=1e-13, atol=1e-14
    )


def test_wrong_drivers_and_explosions_are_refused():
    solver = CompiledEuler(OrnsteinUhlenbeck())
    with pytest.raises(ValueError, match="noise has 2 drivers"):
        solver.solve(
            torch.ones(2, 1, dtype=torch.float64), GaussianNoise(drivers=2, steps=2, t1=1.0)
        )
    with pytest.raises(FloatingPointError, match="not finite"):
        solver.solve(
            torch.full((2, 1), 1e308, dtype=torch.float64) * 10,
            GaussianNoise(drivers=1, steps=2, t1=1.0),
        )

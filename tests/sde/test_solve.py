"""The solver: exact steps, output on the grid, orders as torchsde declares them, refusals."""

import math
from types import SimpleNamespace

import pytest
import torch
from torchsde import sdeint
from torchsde._core.methods import select

import sdewm
from sdewm.sde.examples import (
    ClosedLoop,
    EnumerationWorldModel,
    GeometricBrownianMotion,
    OrnsteinUhlenbeck,
    PearsonDiffusion,
    TanhWorldModel,
)
from sdewm.sde.noise import EnumeratedNoise, GaussianNoise, TwoPointNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import check_protocol
from tests.reference import euler_path


class Free:
    """A system from two functions."""

    def __init__(self, f, g, noise_type="diagonal", sde_type="ito"):
        self.f, self.g, self.noise_type, self.sde_type = f, g, noise_type, sde_type


class Shrunk:
    """A step of one row, which would be broadcast over the batch."""

    noise_type, sde_type, drivers = "general", "ito", 1

    def f_and_g_prod(self, t, y, v):
        """Drift and noise."""
        return -y[:1], v


MOTION = Free(lambda t, y: 0 * y, lambda t, y: torch.ones_like(y))
SYSTEMS = [
    OrnsteinUhlenbeck(),
    PearsonDiffusion(),
    GeometricBrownianMotion(),
    ClosedLoop(),
    EnumerationWorldModel(),
    TanhWorldModel(state_size=3, width=8, drivers=2, seed=0),
]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: f"{type(s).__name__}-{s.noise_type}")
@pytest.mark.parametrize("law", [GaussianNoise, TwoPointNoise])
def test_the_path_is_that_of_the_scheme(system, law):
    x0 = system.x0.expand(5, -1)
    drivers = check_protocol(system, torch.zeros((), dtype=torch.float64), x0)
    noise = law(drivers=drivers, steps=6, t1=1.2, seed=3)
    times = [0.0, 0.4, 1.2]
    path = solve_path(system, x0, noise, times=times, first=1022)
    expected = euler_path(system, x0, noise, first=1022)[[0, 2, 6]]
    torch.testing.assert_close(path, expected.transpose(0, 1), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_the_number_of_steps_is_the_one_asked_for(dtype, steps):
    """torchsde's own time loop takes 11 steps of 0.1, and 1001 of 0.001 in float32."""
    seen = []
    system = Free(lambda t, y: seen.append(float(t)) or 0 * y, lambda t, y: 0 * y)
    solve_path(
        system, torch.zeros(1, 1, dtype=dtype), GaussianNoise(drivers=1, steps=steps, t1=1.0)
    )
    assert sorted(set(seen)) == pytest.approx([n / steps for n in range(steps)], abs=1e-6)
    assert len(seen) == steps + 1  # one more at t0: the check of the contract


def test_variance_of_brownian_motion_at_every_output_time():
    noise = GaussianNoise(drivers=1, steps=8, t1=1.0, seed=1)
    path = solve_path(
        MOTION, torch.zeros(20_000, 1, dtype=torch.float64), noise, times=[0.25, 0.625, 1.0]
    )
    for column, time in enumerate((0.25, 0.625, 1.0)):
        assert float(path[:, column].var()) == pytest.approx(time, rel=4.5 * math.sqrt(2 / 20_000))


def test_torchsde_alone_interpolates_so_that_the_refusal_is_needed():
    start = torch.zeros(20_000, 1, dtype=torch.float64)
    with torch.random.fork_rng():
        out = sdeint(
            MOTION,
            start,
            torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64),
            dt=0.1,
            method="euler",
        )
    assert float(out[1].var()) < 0.24  # 10 % too small


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    solve_path(MOTION, torch.zeros(2, 1), GaussianNoise(drivers=1, steps=2, t1=1.0))
    assert torch.equal(torch.rand(3), expected)


def declared_strong_order(method, system):
    """What torchsde says of its solver."""
    solver = select(method, "ito")
    if method != "euler":
        return solver.strong_order
    bm = SimpleNamespace(levy_area_approximation="none", shape=(1, 1))
    numbers = dict.fromkeys(("dt", "rtol", "atol", "dt_min"), 1.0)
    return solver(sde=system, bm=bm, adaptive=False, options={}, **numbers).strong_order


@torch.no_grad()
@pytest.mark.parametrize("case", [GeometricBrownianMotion, PearsonDiffusion, OrnsteinUhlenbeck])
@pytest.mark.parametrize("method", ["euler", "milstein", "srk"])
def test_strong_order_is_the_declared_one_on_nested_grids(method, case):
    """Root mean square error against srk on a grid 16 times finer, on the same Brownian paths."""
    system = case()
    finest = GaussianNoise(drivers=1, steps=1024, t1=1.0, seed=7)
    start = system.x0.expand(1024, -1)
    reference = solve_path(system, start, finest, method="srk")
    errors = []
    for factor in (128, 64, 32, 16):
        rough = solve_path(system, start, finest.coarsen(factor), method=method)
        errors.append(float(((rough - reference) ** 2).mean().sqrt()))
    slope = math.log2(errors[0] / errors[-1]) / 3
    declared = declared_strong_order(method, system)
    additive = case is OrnsteinUhlenbeck
    # Linear drift with additive noise: srk gains half an order on what it declares.
    assert declared - 0.2 < slope < declared + (0.7 if additive and method == "srk" else 0.3)


@pytest.mark.parametrize("method", ["euler", "milstein", "srk"])
def test_methods_agree_with_torchsde_called_by_hand(method):
    """In real time with a step that floating point adds up exactly."""
    system = PearsonDiffusion()
    noise = GaussianNoise(drivers=1, steps=8, t1=1.0, seed=2)
    start = system.x0.expand(50, -1)

    class Hand:
        shape, levy_area_approximation = (50, 1), "space-time"
        dtype, device = torch.float64, torch.device("cpu")
        drawn = list(noise.stream_with_area(0, 50))

        def __call__(self, ta, tb, return_U=False, return_A=False):
            walk, area = self.drawn[round(float(ta) * 8)]
            return (walk, area) if return_U else walk

    with torch.random.fork_rng():
        expected = sdeint(
            system,
            start,
            torch.tensor([0.0, 1.0], dtype=torch.float64),
            bm=Hand(),
            method=method,
            dt=0.125,
        )
    found = solve_path(system, start, noise, method=method)[:, 0]
    if method == "euler":  # the steps are ours
        assert torch.equal(found, expected[1])
    torch.testing.assert_close(found, expected[1], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("method", ["euler", "milstein", "srk"])
def test_the_path_at_the_start_alone_is_the_start(method):
    system, noise = PearsonDiffusion(), GaussianNoise(drivers=1, steps=4, t1=1.0)
    start = system.x0.expand(3, -1)
    assert torch.equal(solve_path(system, start, noise, times=[0.0], method=method)[:, 0], start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: f"{type(s).__name__}-{s.noise_type}")
def test_euler_steps_are_those_of_torchsde_to_the_bit(system, dtype):
    """At several output times, the first among them, and their gradients with respect to x0."""
    drivers = check_protocol(system, torch.zeros((), dtype=dtype), system.x0.to(dtype)[None])
    noise = GaussianNoise(drivers=drivers, steps=8, t1=1.0, seed=2)

    class Hand:
        shape, levy_area_approximation = (50, drivers), "none"
        device = torch.device("cpu")
        drawn = list(noise.stream(0, 50, dtype))

        def __init__(self):
            self.dtype = dtype

        def __call__(self, ta, tb, return_U=False, return_A=False):
            return self.drawn[round(float(ta) * 8)]

    times = [0.0, 0.25, 1.0]
    found, expected = (system.x0.to(dtype).repeat(50, 1).requires_grad_() for _ in range(2))
    path = solve_path(system, found, noise, times=times)
    with torch.random.fork_rng():
        by_hand = sdeint(
            system, expected, torch.tensor(times, dtype=dtype), bm=Hand(), method="euler", dt=0.125
        ).transpose(0, 1)
    assert torch.equal(path, by_hand)
    assert path[:, 1].ne(path[:, 2]).any()
    path.square().sum().backward()
    by_hand.square().sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-6)


GOOD = {"noise": GaussianNoise(drivers=1, steps=4, t1=1.0)}
START = torch.zeros(3, 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: solve_path(MOTION, START, GOOD["noise"], times=[0.3]),
            ["0.3", "not on the grid", "0.25"],
        ),
        (
            lambda: solve_path(MOTION, START, GOOD["noise"], times=[0.5, 0.25]),
            ["strictly increasing"],
        ),
        (
            lambda: solve_path(MOTION, START, GOOD["noise"], times=[1.25]),
            ["1.25", "not on the grid"],
        ),
        (
            lambda: solve_path(MOTION, START, GOOD["noise"], method="eular"),
            ["did you mean 'euler'"],
        ),
        (
            lambda: solve_path(Shrunk(), START, GOOD["noise"]),
            ["system.f_and_g_prod (drift)", "(1, 1)", "(3, 1)"],
        ),
        (
            lambda: solve_path(
                MOTION, START, EnumeratedNoise(drivers=1, steps=4, t1=1.0), method="srk"
            ),
            ["EnumeratedNoise", "GaussianNoise"],
        ),
        (lambda: solve_path(MOTION, START[0], GOOD["noise"]), ["x0", "(B, D)"]),
        (
            lambda: solve_path(MOTION, torch.zeros(3, 1, dtype=torch.int64), GOOD["noise"]),
            ["int64", "floating point"],
        ),
        (
            lambda: solve_path(MOTION, torch.zeros(3, 2), GOOD["noise"]),
            ["noise has 1 drivers, system.g has 2"],
        ),
        (
            lambda: solve_path(
                Free(MOTION.f, MOTION.g, sde_type="stratonovich"), START, GOOD["noise"]
            ),
            ["'stratonovich'", "only 'ito'"],
        ),
        (
            lambda: solve_path(Free(MOTION.f, MOTION.g, "diaggonal"), START, GOOD["noise"]),
            ["did you mean 'diagonal'"],
        ),
        (
            lambda: solve_path(Free(MOTION.f, MOTION.g, "general"), START, GOOD["noise"]),
            ["system.g returned (3, 1)", "(B, D, M)"],
        ),
        (
            lambda: solve_path(Free(lambda t, y: y[:, 0], MOTION.g), START, GOOD["noise"]),
            ["system.f returned shape (3,)", "(3, 1)"],
        ),
        (
            lambda: solve_path(Free(lambda t, y: y.float(), MOTION.g), START, GOOD["noise"]),
            ["system.f returned torch.float32", "torch.float64"],
        ),
        (lambda: solve_path(Free(MOTION.f, None), START, GOOD["noise"]), ["has no 'g'"]),
        (
            lambda: solve_path(
                Free(MOTION.f, lambda t, y: torch.ones(3, 1, 2, dtype=y.dtype), "scalar"),
                START,
                GOOD["noise"],
            ),
            ["2 drivers", "(B, D, 1)"],
        ),
        (
            lambda: solve_path(Free(MOTION.f, MOTION.g, "scalar"), START, GOOD["noise"]),
            ["system.g returned (3, 1)", "scalar noise expects (B, D, 1) = (3, 1, 1)"],
        ),
    ],
)
def test_bad_input_is_refused_with_what_was_given_and_what_is_allowed(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (lambda y: y[:, 0], r"\(3,\); expected \(3, 3\)"),
        (lambda y: y[:, :1], r"\(3, 1\); expected \(3, 3\)"),
        (lambda y: y.float(), "float32"),
    ],
)
def test_a_shape_that_changes_after_the_first_step_is_refused(late, words):
    system = Free(lambda t, y: -y if t < 0.5 else late(y), lambda t, y: 0 * y)
    noise = GaussianNoise(drivers=3, steps=4, t1=1.0)
    start = torch.arange(9, dtype=torch.float64).reshape(3, 3)
    with pytest.raises(ValueError, match=f"drift.* at t = 0.5 returned .*{words}"):
        solve_path(system, start, noise)
    for entry in (
        lambda: sdewm.check_system(system, start, t1=1.0, steps=4),
        lambda: sdewm.rollout_divergence(system, start[0], start[1], t1=1.0, steps=4, paths=4),
    ):
        with pytest.raises(ValueError, match="drift of system at t = 0.5 returned"):
            entry()


def test_one_driver_is_not_broadcast_to_those_of_a_step():
    class Step:
        noise_type, sde_type, drivers = "general", "ito", 2

        def f_and_g_prod(self, t, y, v):
            return -y, 0.3 * y * v

    start = torch.ones(3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="noise has 1 drivers, system.f_and_g_prod has 2"):
        solve_path(Step(), start, GaussianNoise(drivers=1, steps=4, t1=1.0))
    solve_path(Step(), start, GaussianNoise(drivers=2, steps=4, t1=1.0))


def test_an_unknown_keyword_is_an_error_and_not_a_warning():
    with pytest.raises(TypeError, match="mehtod"):
        solve_path(MOTION, START, GOOD["noise"], mehtod="euler")


def test_an_explosion_names_time_path_and_component():
    def drift(t, y):
        return torch.where(torch.arange(2) == 1, y**3, -y)

    system = Free(drift, lambda t, y: 0 * y)
    start = torch.zeros(4, 2, dtype=torch.float64)
    start[2, 1] = 50.0
    with pytest.raises(FloatingPointError) as caught:
        solve_path(system, start, GaussianNoise(drivers=2, steps=20, t1=2.0), first=100)
    for word in ("drift", "path 102", "component 1", "t = 0.", "more steps than 20"):
        assert word in str(caught.value)


def test_a_coefficient_that_is_not_a_number_is_named():
    system = Free(MOTION.f, lambda t, y: y / (t - 0.5) if float(t) != 0.5 else y * math.nan)
    with pytest.raises(
        FloatingPointError, match=r"diffusion is nan at t = 0.5, path 0, component 0"
    ):
        solve_path(system, START + 1, GOOD["noise"])


def test_stages_within_a_step_are_evaluated_at_their_own_times():
    """dx = t dt + ½ dB: the stages of "srk" integrate a linear function of time exactly."""

    class Clock:
        noise_type, sde_type = "additive", "ito"

        def f(self, t, y):
            return t.expand_as(y)

        def g(self, t, y):
            return torch.full((*y.shape, 1), 0.5, dtype=y.dtype)

    noise = GaussianNoise(drivers=1, steps=4, t0=1.0, t1=3.0)
    start = torch.zeros(3, 1, dtype=torch.float64)
    found = solve_path(Clock(), start, noise, method="srk")[:, 0]
    walk = 0.5 * noise.increments(0, 3).sum(0)
    torch.testing.assert_close(found, walk + (3.0**2 - 1.0**2) / 2, rtol=1e-12, atol=1e-12)


class Labelled:
    """Three components, whose noise has a type by name and a diffusion."""

    sde_type = "ito"

    def __init__(self, noise_type, g):
        self.noise_type, self.diffusion = noise_type, g

    def f(self, t, y):
        return -y

    def g(self, t, y):
        return self.diffusion(y)


@pytest.mark.parametrize("method", ["milstein", "srk"])
@pytest.mark.parametrize(
    ("noise_type", "false", "true"),
    [
        ("additive", lambda y: 0.5 * y[:, :, None], lambda y: torch.full_like(y, 0.5)[:, :, None]),
        ("diagonal", lambda y: 0.5 * y.roll(1, 1), lambda y: 0.5 * y.sin()),
        ("diagonal", lambda y: 0.3 + 0.1 * y[:, 2:] + 0 * y, lambda y: 0.3 + 0 * y),
    ],
)
def test_methods_of_higher_order_refuse_noise_of_another_type(method, noise_type, false, true):
    """With noise that is not diagonal as it says they err more than Euler, at the same order."""
    drivers = 1 if noise_type == "additive" else 3
    noise = GaussianNoise(drivers=drivers, steps=4, t1=1.0)
    x0 = torch.tensor([[1.0, 0.5, -0.2]], dtype=torch.float64)
    with pytest.raises(ValueError, match=f"noise_type='{noise_type}', but .* depends on"):
        solve_path(Labelled(noise_type, false), x0, noise, method=method)
    with torch.no_grad():
        solve_path(Labelled(noise_type, true), x0, noise, method=method)
        solve_path(Labelled(noise_type, false), x0, noise)

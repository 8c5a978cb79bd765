"""Bad input to the theory floor: each gets an error that names it, before any work."""

import math

import pytest
import torch

import sdewm
from sdewm.sde.examples import OrnsteinUhlenbeck

CASE = OrnsteinUhlenbeck()
ERROR = sdewm.Perturbation(CASE.error_drift, CASE.error_diffusion)


def run(**changes):
    arguments = {
        "system": CASE,
        "error": ERROR,
        "loss": CASE.loss,
        "x0": CASE.x0,
        "t1": 1.0,
        "steps": 3,
        "paths": 10,
    }
    return sdewm.expand(**(arguments | changes))


class Stratonovich(OrnsteinUhlenbeck):
    sde_type = "stratonovich"


class Exploding(OrnsteinUhlenbeck):
    def f(self, t, y):
        return 1e3 * y**5


class SinglePrecision(OrnsteinUhlenbeck):
    def f(self, t, y):
        return super().f(t, y).float()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, ["steps=0", "at least 1"]),
        ({"steps": 2.5}, ["steps=2.5"]),
        ({"paths": -5}, ["paths=-5"]),
        ({"paths": 0}, ["paths=0"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"t1": 0.0}, ["t1=0.0", "t0=0.0"]),
        ({"t1": float("inf")}, ["t1=inf"]),
        ({"t1": "1"}, ["t1='1'"]),
        ({"chunk": 0}, ["chunk=0"]),
        ({"dtype": torch.float16}, ["dtype=torch.float16", "float64"]),
        ({"device": "gpu"}, ["device='gpu'"]),
        ({"increments": "gausian"}, ["increments='gausian'", "did you mean 'gaussian'"]),
        ({"increments": "enumerate", "steps": 40}, ["enumerate", "2^40", "fewer steps"]),
        ({"x0": 1.0}, ["x0=float"]),
        ({"x0": torch.zeros(3, 1)}, ["x0 has shape (3, 1)", "(10, D)"]),
        ({"x0": torch.zeros(0)}, ["x0 has shape (0,)"]),
        ({"x0": torch.zeros(1, 1, 1)}, ["x0 has shape (1, 1, 1)"]),
        ({"x0": torch.tensor([1])}, ["x0", "floating point"]),
        ({"x0": torch.tensor([float("nan")])}, ["x0", "not finite"]),
        ({"x0": torch.zeros(10, 1), "increments": "enumerate"}, ["x0", "enumerate"]),
        ({"loss": None}, ["loss=None"]),
        ({"loss": lambda y: y.mean()}, ["loss returned shape ()", "(1,)"]),
        ({"loss": lambda y: y}, ["loss returned shape (1, 1)", "expected (1,)"]),
        ({"loss": lambda y: y[:, 0] / 0}, ["loss returned inf", "finite"]),
        ({"loss": lambda y: torch.log(-(y[:, 0] ** 2))}, ["loss returned nan"]),
        ({"loss": lambda y: y[:, 0].float()}, ["loss returned torch.float32"]),
        ({"error": CASE}, ["error=OrnsteinUhlenbeck", "Perturbation"]),
        (
            {"error": sdewm.Perturbation(drift=lambda t, y: y[:, 0])},
            ["error.drift", "shape (1,)", "(1, 1)"],
        ),
        (
            {"error": sdewm.Perturbation(diffusion=lambda t, y: y.unsqueeze(2).repeat(1, 1, 2))},
            ["error.diffusion", "shape of system.g"],
        ),
        (
            {"error": sdewm.Perturbation(None, lambda t, y: y[:, 0], "independent")},
            ["error.diffusion", "(B, D, M')"],
        ),
        ({"system": object()}, ["object has no 'noise_type'"]),
        ({"system": Stratonovich()}, ["'stratonovich'", "only 'ito'"]),
        (
            {"system": SinglePrecision()},
            ["system.f returned torch.float32", "module.to(torch.float64)"],
        ),
    ],
)
def test_expand_refuses(changes, words):
    with pytest.raises(ValueError) as caught:
        run(**changes)
    for word in words:
        assert word in str(caught.value)


def test_an_exploding_system_is_named_with_time_and_path():
    with pytest.raises(FloatingPointError, match=r"system: the .* path \d+, component 0"):
        run(system=Exploding(), steps=60)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"drift": None, "diffusion": None}, "at least one"),
        ({"drift": 0.4}, "drift=0.4"),
        (
            {"diffusion": CASE.error_diffusion, "driver": "independant"},
            "did you mean 'independent'",
        ),
    ],
)
def test_perturbation_refuses(arguments, word):
    with pytest.raises(ValueError, match=word):
        sdewm.Perturbation(**arguments)


@pytest.mark.parametrize(
    ("dtype", "epsilons", "word"),
    [
        (torch.float32, [0.01], "float32 rounding errors exceed"),
        (torch.float64, [1e-6], "float64 rounding errors exceed"),
        (torch.float64, [float("nan")], "finite"),
        (torch.float64, [], "at least one"),
        (torch.float64, 0.1, "epsilons=0.1: expected a sequence"),
        (torch.float64, ["a"], "epsilons contains 'a': expected a number"),
        (torch.float64, [(0.1,)], r"epsilons contains \(0.1,\): .* a pair"),
    ],
)
def test_sizes_that_rounding_would_drown_are_refused(dtype, epsilons, word):
    result = run(dtype=dtype)
    with pytest.raises(ValueError, match=word):
        result.measure(epsilons)


@pytest.mark.parametrize("epsilon", [math.nan, -math.inf, (0.1, math.nan)])
def test_a_prediction_is_made_at_finite_sizes_only(epsilon):
    with pytest.raises(ValueError, match="expected finite sizes"):
        run().predict(epsilon)


@pytest.mark.parametrize(
    "epsilons", [(0.2, 0.1), (0.1, 0.2, 0.3), (0.2, 0.1, -0.1), (0.3, (0.2, 0.1), 0.1)]
)
def test_an_order_needs_three_decreasing_sizes(epsilons):
    with pytest.raises(ValueError, match="three positive sizes"):
        run().order(epsilons)


def test_an_operation_with_a_wrong_second_derivative_is_refused():
    class Determinant(OrnsteinUhlenbeck):
        def f(self, t, y):
            eye = torch.eye(2, dtype=y.dtype)
            matrix = eye * (1 + y[:, :, None]) + 0.3 * y[:, :, None] ** 2
            return torch.linalg.det(matrix)[:, None]

    with pytest.raises(ValueError, match=r"second derivative of system\.f"):
        run(system=Determinant(), x0=torch.tensor([0.7], dtype=torch.float64))


def feedback(t, y, detach):
    return -y + torch.sin(y.detach() if detach else y)


@pytest.mark.parametrize("branch", [False, True])
def test_a_stop_gradient_never_changes_the_terms_silently(branch):
    """Rule 11: it is removed in a recorded graph, and refused where none can be recorded."""

    class Detached(OrnsteinUhlenbeck):
        def f(self, t, y):
            return feedback(t, y, detach=True) + (0.0 if not branch or float(t) < 9 else 1.0)

    class Plain(OrnsteinUhlenbeck):
        def f(self, t, y):
            return feedback(t, y, detach=False)

    x0 = torch.tensor([0.7], dtype=torch.float64)
    if branch:
        with pytest.raises(ValueError, match=r"first derivative of system\.f"):
            run(system=Detached(), x0=x0)
    else:
        assert run(system=Detached(), x0=x0).terms == run(system=Plain(), x0=x0).terms


def test_an_interrupted_expansion_says_how_to_go_on(tmp_path):
    calls = []

    def loss(y):
        if len(y) >= 4096:  # a tile of paths; the checks before look at few
            calls.append(len(y))
            if len(calls) == 12:
                raise KeyboardInterrupt
        return y[:, 0] ** 2

    with pytest.raises(KeyboardInterrupt, match="of 40000 paths; sums saved in .*to resume"):
        run(loss=loss, paths=40_000, checkpoint=tmp_path)
    kept = run(loss=loss, paths=40_000, checkpoint=tmp_path)
    assert kept.terms == run(loss=lambda y: y[:, 0] ** 2, paths=40_000).terms

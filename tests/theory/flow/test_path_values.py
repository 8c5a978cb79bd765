"""Value expansions are a function of their arguments and seed; bad arguments are named."""

import pytest
import torch

import sdewm
from sdewm.sde.examples import CubicFlow, TanhWorldModel
from sdewm.theory.flow import path_values
from tests.recurrent_step import RecurrentStep

SMALL = TanhWorldModel(seed=3, state_size=3, width=6, drivers=2)
VECTOR = torch.tensor([0.4, -0.3, 0.5], dtype=torch.float64)


def squares(y):
    return (y**2).sum(dim=1) + torch.sin(y[:, 0])


def draw(count, generator):
    return 0.3 * torch.randn(count, 3, dtype=torch.float64, generator=generator)


def sampled(**options):
    arguments = {"error": draw, "t1": 1.0, "steps": 4, "paths": 600, "seed": 1} | options
    return sdewm.value_expansion(SMALL, squares, arguments.pop("x0", SMALL.x0), **arguments)


@pytest.mark.parametrize("chunk", [1, 5000, 1e5])
def test_chunk_size_changes_no_bit(chunk):
    options = {"paths": 9000}
    assert sampled(chunk=chunk, **options).terms == sampled(**options).terms


def test_tile_size_and_the_scales_beside_it_change_nothing_beyond_rounding(monkeypatch):
    result = sampled(paths=3000)
    alone, among = result.measure([0.5])[0], result.measure([1.0, 0.5, -0.5])[1]
    monkeypatch.setattr(path_values, "tile_size", lambda device, size: 700)
    tiled = sampled(paths=3000)
    for name, estimate in result.terms.items():
        assert tiled.terms[name].value == pytest.approx(estimate.value, rel=1e-9, abs=1e-15)
    assert among.measured.value == pytest.approx(alone.measured.value, rel=1e-12)
    assert tiled.measure([0.5])[0].remainder.value == pytest.approx(alone.remainder.value, rel=1e-9)


def test_the_seed_decides_and_a_fixed_error_may_be_given_in_any_form():
    reference = sampled(error=VECTOR).terms
    assert sampled(error=VECTOR).terms == reference
    assert sampled(error=VECTOR, seed=2).terms != reference
    for same in (VECTOR[None], VECTOR.expand(600, -1), lambda n, g: VECTOR.expand(n, -1)):
        assert sampled(error=same).terms == reference
    assert sampled(error=VECTOR, x0=SMALL.x0.expand(600, -1).clone()).terms == reference


def test_float32_gives_the_terms_to_its_precision():
    options = {"error": VECTOR, "paths": 20_000}
    single = sampled(dtype=torch.float32, **options).terms
    double = sampled(**options).terms
    for name, estimate in single.items():
        both = (estimate.standard_error**2 + double[name].standard_error ** 2) ** 0.5
        assert abs(estimate.value - double[name].value) < 5 * both + 1e-5, name


def test_an_interrupted_expansion_says_how_to_go_on(tmp_path):
    calls = []

    def interrupted(y):
        if len(y) >= 4096:  # a tile of paths; the checks before look at few
            calls.append(len(y))
            if len(calls) == 14:
                raise KeyboardInterrupt
        return squares(y)

    def run(q_function, **options):
        return sdewm.value_expansion(
            SMALL, q_function, SMALL.x0, VECTOR, t1=1.0, steps=2, paths=40_000, **options
        ).terms

    with pytest.raises(KeyboardInterrupt, match="of 40000 paths; sums saved in .*to resume"):
        run(interrupted, checkpoint=tmp_path)
    assert run(interrupted, checkpoint=tmp_path) == run(squares)


class NoDrivers(RecurrentStep):
    def __init__(self):
        super().__init__()
        del self.drivers


def refused(**changes):
    arguments = {
        "system": SMALL,
        "q_function": squares,
        "x0": SMALL.x0,
        "error": VECTOR,
        "t1": 1.0,
        "steps": 2,
        "paths": 10,
    }
    return sdewm.value_expansion(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, ["steps=0", "at least 1"]),
        ({"paths": -5}, ["paths=-5"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"t1": 0.0}, ["t1=0.0", "t0=0.0"]),
        ({"chunk": 0}, ["chunk=0"]),
        ({"dtype": torch.float16}, ["dtype=torch.float16"]),
        ({"device": "gpu"}, ["device='gpu'"]),
        ({"increments": "gausian"}, ["did you mean 'gaussian'"]),
        ({"increments": "enumerate", "steps": 40}, ["enumerate", "fewer steps"]),
        ({"increments": "enumerate", "error": draw}, ["error is a sampler"]),
        ({"increments": "enumerate", "x0": torch.zeros(10, 3)}, ["x0 has one row per path"]),
        ({"x0": 1.0}, ["x0=float"]),
        ({"x0": torch.zeros(4, 3)}, ["x0 has shape (4, 3)", "(10, D)"]),
        ({"error": 0.1}, ["error=float", "a vector (D,) = (3,)"]),
        ({"error": torch.zeros(2)}, ["error has shape (2,)"]),
        ({"error": torch.zeros(0, 3)}, ["error has shape (0, 3)"]),
        ({"error": VECTOR / 0}, ["error contains values that are not finite"]),
        ({"error": lambda n, g: torch.zeros(n)}, ["error(count, generator) returned shape (10,)"]),
        ({"q_function": None}, ["q_function=None"]),
        ({"q_function": lambda y: y}, ["q_function returned shape (1, 3)", "expected (1,)"]),
        ({"q_function": lambda y: y[:, 0] / 0}, ["q_function returned", "finite"]),
        ({"q_function": lambda y: y[:, 0].float()}, ["q_function returned torch.float32"]),
        ({"system": object()}, ["object has no 'noise_type'"]),
        ({"system": NoDrivers(), "x0": torch.zeros(8)}, ["has no 'drivers'"]),
    ],
)
def test_bad_arguments_are_refused_by_name(changes, words):
    with pytest.raises(ValueError) as caught:
        refused(**changes)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("scales", "law", "word"),
    [
        (0.1, "scaled", "scales=0.1: expected a sequence"),
        ([], "scaled", "at least one scale"),
        (["a"], "scaled", "scales contains a value='a'"),
        ([float("nan")], "scaled", "finite"),
        ([0.5, 2.0], "rare", "probabilities"),
        ([0.5], "rear", "did you mean 'rare'"),
    ],
)
def test_bad_scales_are_refused(scales, law, word):
    with pytest.raises(ValueError, match=word):
        refused().measure(scales, law)


@pytest.mark.parametrize("scales", [(0.2, 0.1), (0.1, 0.2, 0.3), (0.2, 0.1, -0.1)])
def test_an_order_needs_three_decreasing_scales(scales):
    with pytest.raises(ValueError, match="at least three positive scales, decreasing"):
        refused().order(scales)


def test_a_wrong_second_derivative_of_q_is_refused():
    def determinant(y):
        eye = torch.eye(2, dtype=y.dtype)
        return torch.linalg.det(eye * (1 + y[:, :1, None]) + 0.3 * y[:, :1, None] ** 2)

    with pytest.raises(ValueError, match="second derivative of q_function"):
        refused(q_function=determinant)


def test_an_explosion_from_the_wrong_start_names_the_component():
    error = torch.tensor([30.0], dtype=torch.float64)
    case = CubicFlow()
    with pytest.raises(FloatingPointError, match=r"system: the .* path 0, component 0"):
        sdewm.value_expansion(case, case.loss, case.x0, error, t1=1.0, steps=9, paths=2)


class Changing:
    """dx = −θ x³ dt + ½ dB."""

    noise_type, sde_type = "diagonal", "ito"
    rate = 1.0

    def __init__(self):
        self.weight = torch.ones((), dtype=torch.float64)

    def f(self, t, y):
        return -self.rate * self.weight * y**3

    def g(self, t, y):
        return torch.full_like(y, 0.5)


@pytest.mark.parametrize("steps", [4, 60])  # evaluated and recorded
@pytest.mark.parametrize("what", ["rate", "weight", "value"])
def test_what_changed_since_is_not_measured_with_the_old_terms(what, steps):
    """A remainder of −0.04 was reported for one of 6.5e-8."""
    system, power = Changing(), [2.0]
    x0, e = torch.tensor([0.6], dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)
    found = sdewm.value_expansion(
        system, lambda y: y[:, 0] ** power[0], x0, e, t1=1.0, steps=steps, paths=64
    )
    assert abs(found.measure([0.1])[0].remainder.value) < 1e-4
    if what == "rate":
        system.rate = 2.0
    elif what == "weight":
        system.weight.fill_(2.0)
    else:
        power[0] = 4.0
    for again in (lambda: found.measure([0.1]), found.order):
        with pytest.raises(ValueError, match="other numbers .*: call value_expansion again"):
            again()

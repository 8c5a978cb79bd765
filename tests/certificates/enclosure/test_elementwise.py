"""Scalar functions of sets: no member escapes, and each part of the remainder is needed."""

import mpmath
import pytest
import torch
from torch import Tensor, nn

from sdewm.certificates.activations import GELU, MISH, SIGMOID, SILU, TANH
from sdewm.certificates.enclosure.elementwise import ABSOLUTE, Power, apply, clamp
from sdewm.certificates.enclosure.execution import SetExecution, enclosed
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet
from sdewm.model.distributions import symexp, symlog
from tests.certificates.enclosure.members import Draw, outside, random_set

MODULES = {
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(),
    "softplus 3": nn.Softplus(3.0),
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU(approximate="tanh"),
    "mish": nn.Mish(),
    "elu": nn.ELU(),
    "elu 2.5": nn.ELU(2.5),
    "relu": nn.ReLU(),
}
KINKED = ("elu", "elu 2.5", "relu")
FUNCTIONS = {
    **MODULES,
    "abs": torch.abs,
    "clamp": lambda x: torch.clamp(x, -0.5, 1.0),
    "square": torch.square,
    "sign": torch.sign,
    "power 2": lambda x: x**2,
    "power 3": lambda x: x**3,
    "power 5": lambda x: x**5,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log softmax": lambda x: torch.log_softmax(x, -1),
    "softmax": lambda x: nn.functional.softmax(x, -1),
    "method softmax": lambda x: x.softmax(-1),
    "symexp": symexp,
}
FORMULAS = {"tanh": TANH, "sigmoid": SIGMOID, "silu": SILU, "gelu": GELU, "mish": MISH}
POSITIVE = {
    "log1p": torch.log1p,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "power -2": lambda x: x**-2.0,
}


def sizes(draw: Draw, count: int) -> Tensor:
    """Radii between 1e-9 and 1, one for each instance."""
    return 10.0 ** (-9.0 * torch.rand(count, 1, dtype=torch.float64, generator=draw.generator))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_member_of_a_thousand_sets_escapes(name, kept):
    draw = Draw(0)
    values = random_set(draw, (1000, 2), sizes(draw, 1000), kept, parts=(2.0, 1.0, 0.5, 0.3, 0.2))
    assert outside(FUNCTIONS[name], values).max() <= 1.0


@pytest.mark.parametrize("name", POSITIVE)
def test_no_member_escapes_from_a_function_of_positive_numbers(name):
    draw = Draw(1)
    values = random_set(draw, (1000, 2), 0.1 * sizes(draw, 1000), parts=(0.0, 1.0, 0.5, 0.3, 0.2))
    shifted = TaylorSet.of(
        (values.reach + 10.0 ** draw.normal(1000, 2), *values.parts[1:4]), values.box
    )
    assert outside(POSITIVE[name], shifted).max() <= 1.0


def test_no_member_escapes_from_symlog_also_around_zero():
    draw = Draw(3)
    values = random_set(draw, (1000, 2), 0.1 * sizes(draw, 1000), parts=(0.3, 1.0, 0.5, 0.3, 0.2))
    assert outside(symlog, values).max() <= 1.0


def on_a_line(centre: Tensor, linear: float, box: float = 0.0, kept: bool = True) -> TaylorSet:
    """Sets c + (linear, 0, 0) e ± box."""
    zeros = torch.zeros(*centre.shape, 3, dtype=torch.float64)
    first = zeros.clone()
    first[..., 0] = linear
    form = torch.zeros(*centre.shape, 3 * kept, 3 * kept, dtype=torch.float64)
    rest = torch.zeros(*centre.shape, 4, dtype=torch.float64)
    return TaylorSet(centre, first, form, rest, torch.full_like(centre, box))


@pytest.mark.parametrize("name", [*(one for one in MODULES if one not in KINKED), "exp"])
def test_the_third_order_is_attained(name):
    """At most centres: where φ is almost quadratic, rounding is a part of the remainder."""
    centre = torch.linspace(-3.0, 3.0, 601, dtype=torch.float64)[:, None]
    worst = outside(FUNCTIONS[name], on_a_line(centre, 0.03 if "softplus" in name else 0.003))
    assert worst.max() <= 1.0
    assert worst.median() > (0.9 if "softplus" in name else 0.98)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_square_of_a_box_is_a_remainder(name):
    """φ' ρ + ½ |φ''| ρ² to leading order."""
    centre, formula = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)[:, None], FORMULAS[name]
    image = apply(formula, on_a_line(centre, 0.0, 1e-3))
    expected = formula.slope(centre).abs() * 1e-3 + 0.5 * formula.bend(centre).abs() * 1e-6
    assert torch.allclose(image.box, expected, rtol=2e-6, atol=3e-10)


def test_a_small_rest_times_a_large_slope_is_a_remainder():
    """φ'' L w at an end of both, far above the other terms: 2 · 0.01 · 1e-5 of sigmoid at 1."""
    values = on_a_line(torch.ones(1, 1).double(), 0.01, 1e-5)
    image = apply(SIGMOID, values)
    slope, bend = SIGMOID.slope(values.centre), SIGMOID.bend(values.centre).abs()
    third = SIGMOID.third_bound(values.interval)
    expected = slope * 1e-5 + bend * 1e-7 + 0.5 * bend * 1e-10 + third * values.reach**3 / 6
    assert torch.allclose(image.box, expected, rtol=1e-6, atol=0.0)


def test_the_third_order_of_a_power_is_that_of_its_lower_end():
    values = on_a_line(torch.full((1, 1), 0.6).double(), 0.1)
    image = apply(Power(-0.5, 1e-3), values)
    assert image.box.item() == pytest.approx(15 / 8 * 0.5**-3.5 * 0.1**3 / 6, rel=1e-6)


def test_a_kink_costs_half_of_the_jump_of_the_slope():
    centre = torch.zeros(1, 1, dtype=torch.float64)
    for function, jump in ((ABSOLUTE, 2.0), (clamp(0.0, 5.0), 1.0)):
        image = apply(function, on_a_line(centre, 0.1))
        assert image.box.item() == pytest.approx(0.1 * jump / 2)
        away = apply(function, on_a_line(centre + 1.0, 0.1))
        assert away.box.item() < 1e-11
        assert away.linear[0, 0, 0] == pytest.approx(0.1)


def test_a_power_of_what_may_vanish_is_unbounded():
    image = apply(Power(-0.5, 0.0), on_a_line(torch.ones(1, 1).double(), 1.1))
    assert not torch.isfinite(image.reach).all()
    known = apply(Power(-0.5, 1e-3), on_a_line(torch.ones(1, 1).double(), 1.1))
    assert torch.isfinite(known.reach).all()


def test_a_softmax_knows_that_its_logits_add_up():
    """A common shift of all logits, however large, changes nothing."""
    values = on_a_line(torch.tensor([[0.5, -1.0, 2.0]]).double(), 3.0)
    image = shares(values)
    exact = values.centre.softmax(-1)
    assert torch.allclose(image.centre, exact, rtol=0.0, atol=1e-12)
    assert image.linear.abs().max() < 1e-12
    far = shares(on_a_line(torch.tensor([[0.5, -1.0, 2.0]]).double() - 800.0, 3.0))
    assert torch.allclose(far.centre, exact, rtol=0.0, atol=1e-12)


def shares(values: TaylorSet) -> TaylorSet:
    """The softmax over the last axis."""
    with SetExecution(Symbols(4), values):
        return torch.softmax(enclosed(values), -1).taylor


def test_refused_softmaxes_say_what_is_allowed():
    values = on_a_line(torch.zeros(1, 2).double(), 0.1)
    with SetExecution(Symbols(4), values), pytest.raises(ValueError, match="float64"):
        nn.functional.softmax(enclosed(values), -1, dtype=torch.float32)
    wide = on_a_line(torch.zeros(1, 1001).double(), 0.1)
    with SetExecution(Symbols(4), wide), pytest.raises(ValueError, match="1001 classes"):
        torch.log_softmax(enclosed(wide), -1)


EXACT = {
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "gelu": lambda x: x * (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2,
    "mish": lambda x: x * mpmath.tanh(mpmath.log(1 + mpmath.exp(x))),
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
}


@pytest.mark.parametrize("name", EXACT)
def test_tiny_sets_contain_the_exact_values(name):
    """At 50 digits, with sets of the size of rounding errors."""
    centre = 2.0 * Draw(2).normal(40, 1)
    values = on_a_line(centre, 1e-15)
    with SetExecution(Symbols(4), values):
        image = FUNCTIONS[name](enclosed(values)).taylor
    errors = []
    with mpmath.workdps(50):
        for i, c in enumerate(centre[:, 0].tolist()):
            for e in (-1.0, 0.0, 1.0):
                exact = EXACT[name](mpmath.mpf(c) + mpmath.mpf(1e-15) * e)
                first = mpmath.mpf(float(image.linear[i, 0, 0])) * e
                gap = abs(exact - mpmath.mpf(float(image.centre[i, 0])) - first)
                assert gap <= float(image.box[i, 0])
                errors.append(float(gap))
    assert max(errors) > 1e-17  # without the margin, the set would miss the value

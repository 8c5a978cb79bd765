"""Functions with unusual arguments: enclosed as torch computes them, or refused with a reason."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import wrap_torch_function

import sdewm
from sdewm.theory.flow.rollout_enclosure import enclose_rollouts

START = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
GAIN = torch.tensor([0.5, 0.2, -0.3], dtype=torch.float64)
SINGLE = torch.tensor([0.05, 0.3, 0.1])  # float32
HALF, COMPLEX = SINGLE.half(), torch.complex(SINGLE, 2 * SINGLE)
SPARSE = torch.eye(3).double().to_sparse()
MATRIX = torch.tensor([[0.4, -0.3, 0.2], [0.1, 0.5, -0.6], [0.3, 0.2, 0.7]], dtype=torch.float64)
COUNTER = torch.zeros(1, dtype=torch.int64)
BYTES, FLAGS = torch.tensor([128, 2, 3], dtype=torch.uint8), torch.tensor([True, False, True])


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Steps:
    """The system whose Euler–Maruyama step of size 1 is a function, without noise."""

    noise_type, sde_type = "additive", "ito"

    def __init__(self, function):
        self.function = function

    def f(self, t, y):
        return self.function(y) - y

    def g(self, t, y):
        return y.new_zeros(*y.shape, 1)


def enclosed(function, x0=START, radius=0.1, **settings):
    settings = {"steps": 1, "paths": 1} | settings
    return enclose_rollouts(Steps(function), x0, radius, **settings)


with torch.inference_mode():
    INFERRED = GAIN.clone()


GATES = torch.linspace(-1, 1, 27, dtype=torch.float64).reshape(9, 3)


def masked_gru(x):
    lower = torch.ones(9, 3).double().tril()
    return torch.gru_cell(x, x.tanh(), GATES * lower, GATES.flip(0) * lower, GATES[:, 0] * 2)


AS_TORCH = {
    "bytes in the precision of the state": lambda x: x * (BYTES.to(x) * 2),
    "flags in the precision of the state": lambda x: x * (FLAGS.type_as(x) + FLAGS.to(x)),
    "constants in the precision of the state": lambda x: x * (SINGLE.to(x).clamp(min=0.7) ** 3),
    "a float32 constant": lambda x: x * SINGLE,
    "a sum over no axes is one over all": lambda x: torch.stack([r - r.sum(dim=()) for r in x]),
    "a mean over no axes is one over all": lambda x: torch.stack([r - r.mean(dim=[]) for r in x]),
    "a normalisation with a computed gain": lambda x: functional.rms_norm(x, (3,), 1 + GAIN),
    "computed gain and bias": lambda x: functional.layer_norm(x, (3,), 1 + GAIN, 2 * GAIN),
    "a computed bias": lambda x: functional.layer_norm(x, (3,), GAIN, 2 * GAIN),
    "an empty part of a concatenation": lambda x: torch.cat([x.new_zeros(0), x], -1),
    "a constant of the shape of the state": lambda x: GAIN.expand_as(x) * x,
    "a softplus with a far threshold": lambda x: functional.softplus(x, 1.0, 700.0),
    "axes as numpy's numbers": lambda x: x - x.mean(np.int64(1), True),
    "a named tuple": lambda x: torch.stack(Pair(x, 2 * x), 2).sum(2),
    "weights that are computed": lambda x: functional.linear(x, MATRIX * MATRIX.tril(), GAIN * 2),
    "a matrix that is computed": lambda x: ((MATRIX / 3.0) @ x[..., None])[..., 0],
    "their product with a state": lambda x: torch.matmul(x, MATRIX * 0.3).square(),
    "flags as float32": lambda x: x * FLAGS.float(),
    "a negative divisor": lambda x: (1 / (-x - 1)) ** 3 + x / (-1.0 - x * x),
    "a negative number to a power": lambda x: (-x) ** -2 + (-x).reciprocal() + (x - 5) ** -1,
    "arguments by name": lambda x: torch.mul(
        input=torch.sum(input=x, dim=1, keepdim=True), other=x
    ),
    "dropout that is off": nn.Dropout(0.5).eval(),
    "a real matrix's adjoint": lambda x: x @ MATRIX.mH,
    "a masked GRU": lambda x: functional.linear(masked_gru(x), torch.eye(3, dtype=torch.float64)),
    "a linear map by names": lambda x: functional.linear(input=x, weight=MATRIX, bias=GAIN),
    "a number times a product": lambda x: torch.addmm(GAIN[0], x, MATRIX),
    "a float32 number": lambda x: torch.stack([r[0] * SINGLE[0] * r for r in x]),
    "a number without axes": lambda x: torch.stack([r * r.sum().reshape(()) for r in x]),
}


@pytest.mark.parametrize("name", AS_TORCH)
def test_bounds_are_at_least_what_torch_computes_and_close_to_it(name):
    tube = enclosed(AS_TORCH[name], radius=0.01)
    attacked = tube.attack()[0, 1]
    assert attacked <= tube.bounds[0, 1] <= 1.05 * attacked


class Cut(torch.Tensor):
    """A tensor whose products are at most 0.95."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {})).clamp(max=0.95)


@wrap_torch_function(lambda x: (x,))
def namesake(x):
    return torch.tanh(x).clamp(max=0.95)


namesake.__name__ = "tanh"
CUT = torch.ones(3).double().as_subclass(Cut)
LARGE = torch.tensor([2**24 + 1, 1, 1])
REFUSED = {
    "rounded constants": (lambda x: x * torch.sqrt(SINGLE), "sqrt is computed in torch.float32"),
    "their product": (lambda x: x * (SINGLE * SINGLE), "mul is computed in torch.float32"),
    "a number of the state": (
        lambda x: torch.stack([r[0] * SINGLE for r in x]),
        "mul is computed in torch.float32",
    ),
    "a computed number": (
        lambda x: x * (GAIN.sum().exp() * SINGLE),
        "mul is computed in torch.float32",
    ),
    "half of them": (
        lambda x: torch.stack([HALF - r.sum() for r in x]),
        "sub.* is computed in torch.float16",
    ),
    "complex constants": (lambda x: (x * COMPLEX).abs(), "complex"),
    "a complex number": (lambda x: (x * (3 + 4j)).abs(), "complex"),
    "a threshold that overflows": (lambda x: functional.softplus(x, 1.0, 1000.0), "<= 700"),
    "random whole numbers": (
        lambda x: x * torch.randint_like(BYTES, 1, 5).to(x),
        "depends on its arguments alone",
    ),
    "a counter": (lambda x: x * COUNTER.add_(1), "depends on its arguments alone"),
    "another branch for sets": (
        lambda x: x * (1.0 if type(x) is torch.Tensor else 1.0 + 1e-12),
        "out of its enclosure, by",
    ),
    "a sparse matrix": (lambda x: x @ SPARSE, "matmul.* is not supp"),
    "a filling by the state": (lambda x: x.new_full((3,), x.sum()) + x, "new_full is not supp"),
    "a scale of the state": (lambda x: functional.elu(x, x.sum()), "elu is not supported with"),
    "a namesake of torch's": (lambda x: namesake(x), "tanh is not supported: it is no function"),
    "a tensor with arithmetic of its own": (lambda x: x * CUT, "of a Cut is not supported"),
    "another result with gradients": (
        lambda x: 3 * x if torch.is_grad_enabled() else x,
        "depends on its arguments alone",
    ),
    "another result for what has gradients": (
        lambda x: 3 * x if x.requires_grad else x,
        "depends on its arguments alone",
    ),
    "the size of the batch": (lambda x: torch.tanh(x * len(x)), "no mixed rows"),
    "a mean over the batch": (lambda x: x - x.mean(0), "no mixed rows"),
    "a batch of matrices for one row": (
        lambda x: (x[0] @ torch.ones(2, 3, 3).double()).sum(0, keepdim=True),
        "a batch axis for more of them",
    ),
    "dropout": (nn.Dropout(0.5).train(), "two values at one state|dropout is not supported"),
    "float32 weights": (nn.Linear(3, 3), "same dtype"),
    "weights of the state": (
        lambda x: functional.linear(x, torch.stack([x[0]] * 3)),
        "does not depend on the state",
    ),
    "whole numbers beyond float32": (lambda x: x * LARGE.float(), "whole numbers is rounded"),
    "a place in memory": (lambda x: x * (1.0 if x.is_contiguous() else 3.0), "is_contiguous is"),
    "softmax in float32": (lambda x: torch.softmax(x, 1, torch.float32).double(), "would round"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_enclosure_is_refused(name):
    function, said = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        enclosed(function)


def scripted(x):
    return torch.tanh(x) * 2.0


def test_torchscript_is_refused():
    with pytest.warns(DeprecationWarning):
        function = torch.jit.script(scripted)
    with pytest.raises(ValueError, match="(?s)fails for sets of states .* not from TorchScript"):
        enclosed(function)


WEIGHT = torch.tensor([[1.0, 0.0, 0.0], [10.0, 3.0, 0.0]], dtype=torch.float64)
READOUTS = {
    "a lost axis": lambda x: (x @ WEIGHT.T).squeeze(0),
    "turned axes": lambda x: (x @ WEIGHT.T).T,
    "flat": lambda x: (x @ WEIGHT.T).flatten(),
    "a mean over the batch": lambda x: (x @ WEIGHT.T).mean(0),
    "a sum over all": lambda x: x.sum(),
}


@pytest.mark.parametrize("paths", [1, 2])
@pytest.mark.parametrize("name", READOUTS)
def test_a_readout_keeps_the_batch_axis(name, paths):
    if (name, paths) == ("a lost axis", 2):  # there is none to lose
        tube = enclosed(torch.tanh, readout=READOUTS[name], paths=2)
        kept = enclosed(torch.tanh, readout=lambda x: x @ WEIGHT.T, paths=2)
        assert torch.equal(tube.readout, kept.readout)
        return
    with pytest.raises(ValueError, match=r"the readout makes .* of states .*; expected the same"):
        enclosed(torch.tanh, readout=READOUTS[name], paths=paths)


class Squeezed(Steps):
    """Steps of its own that lose the first axis of a single row."""

    def path_steps(self, states, increments, t0, step_size):
        return states, lambda n, x: (x * torch.tensor([0.1, 3.0, 2.0]).double()).squeeze()


@pytest.mark.parametrize("paths", [1, 5])
def test_a_step_keeps_the_batch_axis(paths):
    with pytest.raises(ValueError, match=r"the step makes \(3,\) of states \(1, 3\); expected"):
        enclose_rollouts(Squeezed(torch.tanh), START, 0.1, steps=2, paths=paths, order="first")


def test_a_step_keeps_both_axes():
    with pytest.raises(ValueError, match=r"the step makes \(1, 3, 1\) of states \(1, 3\)"):
        enclosed_map(lambda n, x: x[..., None])


def enclosed_map(step):
    """One step of a system with steps of its own."""
    system = Steps(torch.tanh)
    system.path_steps = lambda states, increments, t0, step_size: (states, step)
    return enclose_rollouts(system, START, 0.1, steps=1, paths=1)


def test_a_readout_without_length_counts():
    kept = enclosed(torch.tanh, readout=lambda x: x)
    assert torch.equal(enclosed(torch.tanh, readout=torch.nn.Sequential()).readout, kept.readout)


class Cached(torch.nn.Module):
    """Keeps a table for the last shape of its batch."""

    table = None

    def forward(self, x):
        if self.table is None or self.table.shape != x.shape:
            self.table = (GAIN * 0.1).expand(x.shape)
        return torch.tanh(x + self.table)


@pytest.mark.parametrize("paths", [1, 3])
def test_a_table_that_the_model_keeps_consists_of_numbers(paths):
    model = Cached()
    tube = enclosed(model, paths=paths)
    assert type(model.table) is torch.Tensor
    kept = enclosed(lambda x: torch.tanh(x + GAIN * 0.1), paths=paths)
    assert torch.allclose(tube.bounds, kept.bounds, rtol=1e-9)


def test_the_times_are_those_of_the_noise():
    """For N = 3 and h = 0.1 the second time is 0.10000000000000002, as `rollout_divergence` has."""

    class Late(Steps):
        def f(self, t, y):
            return 5.0 * y if float(t) > 0.1 else 0.0 * y

    settings = {"steps": 3, "paths": 2}
    tube = enclose_rollouts(Late(None), START, 0.1, step_size=0.1, **settings)
    measured = sdewm.rollout_divergence(
        Late(None), START, 0.1 * START / START.norm(), t1=3 * 0.1, **settings
    )
    assert measured["mean"].values == pytest.approx(tube["mean"].values, rel=1e-9)
    assert measured["mean"].values[2] == pytest.approx(0.15)
    assert np.array_equal(tube["mean"].times, measured["mean"].times)


def test_a_readout_has_one_shape():
    with pytest.raises(ValueError, match=r"makes \(7, 3\) of 7 states; expected \(7, 6\)"):
        enclosed(
            torch.tanh,
            readout=lambda x: x if type(x) is torch.Tensor else torch.cat([x, x], 1),
        )


@pytest.mark.parametrize("found", [None, (START, START), torch.zeros(1)])
def test_a_readout_is_one_tensor_of_the_state(found):
    with pytest.raises(ValueError, match=f"returns {type(found).__name__}: expected one"):
        enclosed(torch.tanh, readout=lambda x: found)


def test_the_end_of_the_reference_is_an_abstention_of_all_slabs():
    """The rollout from x0 itself is unbounded from step 3 on; slabs come in several groups."""

    class Late(Steps):
        def f(self, t, y):
            return ((10 * y).tanh() if float(t) < 1.5 else 1 / y) - y

    start = torch.zeros(1, dtype=torch.float64)
    tube = enclose_rollouts(Late(None), start, 1.0, steps=4, paths=1, slabs=32)
    (one,) = tube.abstains
    assert torch.isfinite(tube.bounds[0]).tolist() == [k < one.step for k in range(5)]


@pytest.mark.parametrize("radius", [1e-6, 1e200])
def test_bounds_beyond_all_numbers_are_abstentions(radius):
    tube = enclosed(lambda x: x * x, 10.0 * START, radius, steps=9)
    finite = torch.isfinite(tube.bounds)
    assert not finite[0, -1] and tube.bounds[0, 0] >= radius
    assert tube.abstains
    assert (tube.attack()[finite] <= tube.bounds[finite]).all()


def test_constants_that_take_no_gradients_are_enclosed():
    found = enclosed(lambda x: torch.tanh(x) * INFERRED)
    kept = enclosed(lambda x: torch.tanh(x) * GAIN)
    assert torch.equal(found.bounds, kept.bounds)


def test_an_attack_needs_gradients():
    with torch.inference_mode():
        tube = enclosed(torch.tanh)
        with pytest.raises(ValueError, match=r"outside torch\.inference_mode"):
            tube.attack()


@pytest.mark.parametrize("name", ["x0", "directions"])
def test_nested_tensors_are_refused_by_name(name):
    nested = torch.nested.nested_tensor([START], layout=torch.jagged)
    with pytest.raises(ValueError, match=f"{name}.*expected a dense tensor"):
        if name == "x0":
            enclosed(torch.tanh, x0=nested)
        else:
            enclosed(torch.tanh, directions=nested)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x0": START.to(torch.float8_e4m3fn)}, "x0 is torch.float8_e4m3fn"),
        ({"directions": torch.eye(3).to(torch.float8_e4m3fn)}, "directions is torch.float8_e4m3fn"),
        ({"radius": 10**400}, "radius: expected a number below"),
    ],
)
def test_numbers_that_float64_arithmetic_does_not_have_are_refused_by_name(given, said):
    with pytest.raises(ValueError, match=said):
        enclosed(torch.tanh, **given)

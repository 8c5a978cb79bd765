"""Functions with unusual arguments: enclosed as torch computes them, or refused with a reason."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional

from sdewm.theory.flow.rollout_enclosure import enclose_rollouts

START = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
GAIN = torch.tensor([0.5, 0.2, -0.3], dtype=torch.float64)
SINGLE = torch.tensor([0.05, 0.3, 0.1])  # float32
HALF, COMPLEX = SINGLE.half(), torch.complex(SINGLE, 2 * SINGLE)
SPARSE = torch.eye(3).double().to_sparse()
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
    "a float32 number": lambda x: torch.stack([r[0] * SINGLE[0] * r for r in x]),
    "a number without axes": lambda x: torch.stack([r * r.sum().reshape(()) for r in x]),
}


@pytest.mark.parametrize("name", AS_TORCH)
def test_bounds_are_at_least_what_torch_computes_and_close_to_it(name):
    tube = enclosed(AS_TORCH[name], radius=0.01)
    attacked = tube.attack()[0, 1]
    assert attacked <= tube.bounds[0, 1] <= 1.05 * attacked


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
    with pytest.raises(ValueError, match=r"readout: it makes .* of states .*; expected \(B,\)"):
        enclosed(torch.tanh, readout=READOUTS[name], paths=paths)


def test_a_readout_has_one_shape():
    with pytest.raises(ValueError, match=r"makes \(1, 3\) of tensors and \(1, 6\) of sets"):
        enclosed(
            torch.tanh,
            readout=lambda x: x if type(x) is torch.Tensor else torch.cat([x, x], 1),
        )


@pytest.mark.parametrize("found", [None, (START, START), torch.zeros(1)])
def test_a_readout_is_one_tensor_of_the_state(found):
    with pytest.raises(ValueError, match=f"readout, returns {type(found).__name__}: expected one"):
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

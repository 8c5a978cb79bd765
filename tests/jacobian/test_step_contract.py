"""What is checked of a step: named findings, once for each step, without a trace."""

import functools
import random
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

import sdewm
from sdewm.jacobian import step_contract
from sdewm.jacobian.penalty import Exact, InputProjection, rademacher_probes
from sdewm.jacobian.step_contract import check_step
from tests.jacobian.jacobian_step import NORMS, make_step

X = torch.linspace(-1.0, 1.0, 12).reshape(6, 2)


class DetachedBackward(torch.autograd.Function):
    """x³ whose backward pass hides the dependence of its slope on x."""

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, grad):
        return Cubic.apply(grad, *ctx.saved_tensors)


class Cubic(torch.autograd.Function):
    @staticmethod
    def forward(grad, x):
        return 3 * x**2 * grad

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, outer):
        grad, x = ctx.saved_tensors
        return 3 * x.detach() ** 2 * outer, 6 * x * grad * outer


def hooked():
    module = nn.Linear(2, 2)
    module.register_full_backward_hook(lambda module, inputs, outputs: None)
    return module


def test_sound_steps_have_no_findings():
    for norm in NORMS:
        step, inputs = make_step(norm)
        assert check_step(step, inputs) == []
        assert check_step(step.float(), tuple(x.float() for x in inputs)) == []
    assert check_step(nn.GRUCell(3, 3), (torch.randn(5, 3), torch.randn(5, 3))) == []
    assert check_step(lambda x: torch.ones(4, 2), torch.ones(4, 2)) == []


REFUSED = {
    "batch norm": (lambda: nn.BatchNorm1d(2), "rows", "mixes the rows"),
    "dropout": (lambda: nn.Dropout(0.5), "random", "switch dropout off"),
    "mean over rows": (lambda: lambda x: x + x.mean(), "rows", "mixes the rows"),
    "noise inside": (lambda: lambda x: x + torch.randn_like(x), "random", "noise outside the step"),
    "in place": (lambda: lambda x: x.mul_(0.5), "in place", "in place"),
    "detached backward": (
        lambda: DetachedBackward.apply,
        "derivatives",
        "second derivatives of an operation",
    ),
    "checkpointing": (
        lambda: lambda x: checkpoint(torch.tanh, x, use_reentrant=False),
        "derivatives",
        "switch activation checkpointing off",
    ),
    "reentrant checkpointing": (
        lambda: functools.partial(checkpoint, nn.Linear(2, 2), use_reentrant=True),
        "derivatives",
        "activation checkpointing off",
    ),
    "hook": (hooked, "derivatives", "remove full backward hooks"),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("name", REFUSED)
def test_a_step_that_breaks_the_contract_is_found_and_refused(name):
    torch.manual_seed(0)
    make, check, message = REFUSED[name]
    findings = check_step(make(), X.clone())
    assert findings[0].check == check and message in str(findings[0])
    with pytest.raises(ValueError, match=message):
        sdewm.jacobian_penalty(make(), X.clone(), Exact())


def test_lower_precision_is_found_and_the_penalty_allows_it():
    layer = nn.Linear(2, 2)
    step = lambda x: layer(x.float()).double()  # noqa: E731
    assert [finding.check for finding in check_step(step, X.double())] == ["precision"]
    assert sdewm.jacobian_penalty(step, X.double(), Exact()).requires_grad


def test_the_check_leaves_no_trace():
    layer = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    stream, given = torch.get_rng_state(), X.clone().requires_grad_()
    assert check_step(layer, given) and check_step(lambda x: x.mul_(0.5), given)
    assert torch.equal(torch.get_rng_state(), stream) and torch.equal(given, X)
    assert given.grad is None and all(weight.grad is None for weight in layer.parameters())
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    layer(X)  # the control: an ordinary call changes both
    assert not torch.equal(torch.get_rng_state(), stream)
    assert not torch.equal(layer.state_dict()["0.running_mean"], before["0.running_mean"])


def test_a_normalisation_by_power_iteration_in_training_mode_is_sound():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    assert layer.training and check_step(layer, X) == []


def counted(monkeypatch):
    calls = []
    real = step_contract.check_step
    monkeypatch.setattr(step_contract, "check_step", lambda *a: calls.append(a) or real(*a))
    monkeypatch.setattr(step_contract, "_calls", {})
    return calls


def test_a_step_is_checked_once_however_often_its_closure_is_made(monkeypatch):
    calls, cell, other = counted(monkeypatch), nn.GRUCell(2, 2), nn.GRUCell(2, 2)

    def update(cell, rows):
        x, h = torch.randn(rows, 2), torch.zeros(rows, 2)
        probes = rademacher_probes(1, h, torch.Generator().manual_seed(0))
        sdewm.jacobian_penalty(lambda h: cell(x, h), h, InputProjection(probes))

    for rows, checked in ((6, 1), (6, 1), (7, 2)):
        update(cell, rows)
        assert len(calls) == checked
    update(other, 6)
    assert len(calls) == 3
    sdewm.jacobian_penalty(functools.partial(other, torch.zeros(6, 2)), X, Exact())
    assert len(calls) == 4


def test_a_step_is_checked_again_at_its_tenth_call(monkeypatch):
    calls = counted(monkeypatch)
    for call in range(1, 101):
        sdewm.jacobian_penalty(torch.tanh, X, Exact())
        assert len(calls) == 1 + (call >= 10) + (call >= 100)


def test_a_module_switched_to_training_is_checked_again():
    layer = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()
    step = lambda x: layer(x)  # noqa: E731
    sdewm.jacobian_penalty(step, X, Exact())
    layer[1].train()
    with pytest.raises(ValueError, match="draws random numbers"):
        sdewm.jacobian_penalty(step, X, Exact())


class Agent:
    """A plain object whose step holds modules in a dictionary and draws when it explores."""

    def __init__(self):
        self.nets, self.explores, self.calls = {"net": nn.Linear(2, 2)}, False, 0
        self.nets["norm"] = nn.BatchNorm1d(2).eval()

    def step(self, x):
        self.calls += 1
        return F.dropout(self.nets["norm"](self.nets["net"](x)), 0.5, self.explores)


def switched_on(agent):
    agent.explores = True


def normalising(agent):
    agent.nets["norm"].train()


@pytest.mark.parametrize(
    ("switch", "message"), [(switched_on, "random"), (normalising, "mixes the rows")]
)
@pytest.mark.parametrize("how", ["method", "closure", "partial", "list"])
def test_what_a_step_holds_is_looked_at_again_when_it_is_switched(how, switch, message):
    agent = Agent()
    step = {
        "method": agent.step,
        "closure": lambda x: agent.step(x),
        "partial": functools.partial(lambda x, agent: agent.step(x), agent=agent),
        "list": functools.partial(lambda parts, x: parts[0][0].step(x), [[agent]]),
    }[how]
    for _ in range(3):
        sdewm.jacobian_penalty(step, X, Exact())
    switch(agent)
    with pytest.raises(ValueError, match=message):
        sdewm.jacobian_penalty(step, X, Exact())


def test_a_keyword_of_a_partial_that_switches_dropout_on_is_noticed():
    for training in (False, True):
        step = functools.partial(F.dropout, p=0.5, training=training)
        if not training:
            sdewm.jacobian_penalty(step, X, Exact())
    with pytest.raises(ValueError, match="random"):
        sdewm.jacobian_penalty(step, X, Exact())


def test_random_numbers_that_change_nothing_by_chance_are_found():
    torch.manual_seed(0)
    assert [one.check for one in check_step(lambda x: F.dropout(x, 0.01), X[:3])] == ["random"]
    drawn = lambda x: x * (torch.randint(0, 1000, (1,)) > 0)  # noqa: E731
    assert [one.check for one in check_step(drawn, X)] == ["random"]
    for sound in (lambda x: F.dropout(x, 0.0), lambda x: x + 0.0 * torch.randn_like(x)):
        assert check_step(sound, X) == []


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-7])
@pytest.mark.parametrize("detached", [False, True])
def test_rows_are_told_apart_at_every_size_of_the_inputs(size, detached):
    mean = (lambda x: x.mean(0).detach()) if detached else (lambda x: x.mean(0))
    assert check_step(lambda x: 3 * (x - mean(x)), size * X)[0].check == "rows"
    assert check_step(lambda x: 3 * (x - 0.5 * size), size * X) == []


class LinearInWeights(torch.autograd.Function):
    """h Wᵀ; the backward pass is right in the first derivative, and loses W or h in the second."""

    @staticmethod
    def forward(h, weight):
        return h @ weight.T

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        h, weight = ctx.saved_tensors
        return grad @ weight.detach(), grad.mT @ h


class OnceOnly(LinearInWeights):
    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        h, weight = ctx.saved_tensors
        return grad @ weight, grad.mT @ h


def halved(x):
    if x.requires_grad:
        x.register_hook(lambda grad: 0.5 * grad)
    return torch.tanh(x)


WRONG = {
    "weights": lambda weight: lambda x: LinearInWeights.apply(x, weight),
    "once": lambda weight: lambda x: OnceOnly.apply(x, weight),
    "hook": lambda weight: lambda x: halved(x @ weight),
    "straight-through": lambda weight: lambda x: x + (torch.sign(x @ weight) - x).detach(),
    "partly detached": lambda weight: lambda x: x + torch.tanh(x.detach() @ weight),
    "weights without gradient in part": lambda weight: lambda x: x @ weight + x @ weight.detach(),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", WRONG)
def test_a_derivative_that_is_wrong_in_inputs_or_weights_is_found(name, dtype):
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(2, 2, dtype=dtype, generator=generator))
    before, version = weight.detach().clone(), weight._version
    found = check_step(WRONG[name](weight), X.to(dtype))
    assert [one.check for one in found] == ["derivatives"]
    assert torch.equal(weight, before) and weight._version == version
    assert check_step(lambda x: torch.tanh(x @ weight), X.to(dtype)) == []


def layer(norm=nn.LayerNorm, size=2):
    torch.manual_seed(0)
    return norm(size)


def no_bias():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 32, bias=False), nn.ReLU(), nn.Linear(32, 2))


def mixed_scales():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
    return lambda h, image: net(torch.cat([h, image / 255], 1))


SOUND = {
    "normalised input": (layer, (X,)),
    "normalised input and a layer": (lambda: nn.Sequential(layer(), nn.Linear(2, 2)), (X,)),
    "tiny": (layer, (1e-6 * X,)),
    "a kink at zero": (no_bias, (0 * X,)),
    "an image and a latent": (mixed_scales, (X, 255 * X.abs())),
    "logarithms of small probabilities": (lambda: torch.log, (torch.softmax(6 * X, 1),)),
    "a normalised small vector": (lambda: F.normalize, (1e-5 * X,)),
    "saturated": (lambda: lambda x: torch.softmax(x, 1), (1e4 * X,)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_step_is_not_refused_for_its_inputs(name, dtype):
    make, inputs = SOUND[name]
    step = make()
    step = step.to(dtype) if isinstance(step, nn.Module) else step
    if isinstance(step, functools.partial) or name == "an image and a latent":
        dtype = torch.float32  # of its layers
    assert check_step(step, tuple(x.to(dtype) for x in inputs)) == []


class Slotted:
    __slots__ = ("mixes",)

    def __init__(self):
        self.mixes = False


class Configured(nn.Module):
    """A step that mixes its rows where a switch says so, wherever that lies."""

    mixes = False

    def __init__(self):
        super().__init__()
        self.layer, self.given = nn.Linear(2, 2), {"mixes": False}
        self.space, self.slotted = types.SimpleNamespace(mixes=False), Slotted()
        self.register_buffer("mixing", torch.tensor(False))
        self.array = np.array(False)

    def forward(self, x):
        y = self.layer(x)
        on = self.given["mixes"] or self.space.mixes or self.slotted.mixes or self.mixes
        return y - y.mean(0) if on or bool(self.mixing) or bool(self.array) else y


def hook(module):
    module.layer.register_forward_hook(lambda module, inputs, output: output - output.mean(0))


SWITCHES = {
    "dictionary": lambda module: module.given.update(mixes=True),
    "namespace": lambda module: setattr(module.space, "mixes", True),
    "slots": lambda module: setattr(module.slotted, "mixes", True),
    "class": lambda module: setattr(type(module), "mixes", True),
    "buffer": lambda module: module.mixing.fill_(True),
    "array": lambda module: module.array.fill(True),
    "hook": hook,
}


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_inside_a_module_is_noticed(name, monkeypatch):
    monkeypatch.setattr(Configured, "mixes", False)
    module = Configured()
    for _ in range(2):
        sdewm.jacobian_penalty(module, X, Exact())
    SWITCHES[name](module)
    with pytest.raises(ValueError, match="mixes the rows"):
        sdewm.jacobian_penalty(module, X, Exact())


def test_a_value_that_depends_on_the_number_of_rows_is_found():
    assert [one.check for one in check_step(lambda x: x * len(x), X)] == ["rows"]


class Averaging(nn.Module):
    """Replaces a buffer and draws from every global generator."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        np.random.random(), random.random()
        return torch.tanh(x)


def test_replaced_buffers_and_other_random_streams_stay_as_they_are():
    module, given = Averaging(), X + 1
    before = module.mean, np.random.get_state()[1].tolist(), random.getstate()
    assert check_step(module, given) == []
    assert module.mean is before[0]
    assert np.random.get_state()[1].tolist() == before[1] and random.getstate() == before[2]


@pytest.mark.parametrize(
    ("step", "inputs", "said"),
    [
        (None, X, "step=NoneType: expected a function"),
        (torch.tanh, X * float("nan"), "inputs hold numbers that are not finite"),
        (torch.tanh, X[:, :0], "inputs have rows without entries"),
        (lambda x: x[:, :0], X, "the output of step has rows without entries"),
        (torch.tanh, X.to_sparse(), "expected dense ones"),
    ],
)
def test_what_cannot_be_checked_is_named(step, inputs, said):
    with pytest.raises(ValueError, match=said):
        check_step(step, inputs)


def test_second_derivatives_are_compared_with_each_other_in_low_precision():
    found = check_step(DetachedBackward.apply, X.bfloat16())
    assert [one.check for one in found] == ["derivatives"]
    assert check_step(torch.tanh, X.bfloat16()) == []


def test_rows_that_are_mixed_below_the_tolerance_of_values_are_found_in_derivatives():
    context = torch.zeros(len(X), 1)  # with which the step takes no other number of rows
    found = check_step(lambda x: x + context + 5e-4 * x.mean(0), X)
    assert [one.check for one in found] == ["rows"] and "in its derivatives" in found[0].remedy


def test_a_loss_computed_before_the_check_can_still_be_differentiated():
    cell, other = nn.GRUCell(2, 2), nn.Linear(2, 2)
    loss = cell(X, X).square().sum() + other(X).square().sum()
    penalty = sdewm.jacobian_penalty(lambda h: cell(other(X), h), X, Exact())
    (loss + penalty).backward()
    assert other.weight.grad is not None


def test_weights_made_outside_the_step_are_no_false_alarm():
    weight = nn.Parameter(torch.eye(2))
    twice, view = 2 * weight, weight[0]
    assert check_step(lambda x: torch.tanh(x @ twice), X) == []
    assert check_step(lambda x: torch.tanh(x @ weight + view), X) == []


def test_an_ensemble_by_vmap_is_right():
    weights = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))

    def penalty(weight):
        return sdewm.jacobian_penalty(lambda h: h @ weight, X, Exact())

    found = torch.func.vmap(torch.func.grad(penalty))(weights)
    assert torch.allclose(found, 2 * weights)


def test_a_step_that_takes_derivatives_itself_is_sound():
    def slope(x):
        return torch.autograd.grad((x**3).sum(), x, create_graph=True)[0]

    assert check_step(slope, X) == []
    expected = float((6 * X).square().sum(1).mean())
    assert float(sdewm.jacobian_penalty(slope, X, Exact())) == pytest.approx(expected)


def test_one_row_cannot_be_compared_and_passes():
    assert float(sdewm.jacobian_penalty(torch.square, torch.ones(1, 2), Exact())) == 8
    with pytest.raises(ValueError, match="2 rows; expected at least 3"):
        check_step(torch.tanh, torch.ones(2, 2))


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_checked_while_compiling(monkeypatch):
    calls = counted(monkeypatch)
    penalty = torch.compile(
        lambda x: sdewm.jacobian_penalty(torch.square, x, Exact()), backend="eager", fullgraph=True
    )
    assert float(penalty(torch.ones(4, 2))) == 8 and calls == []


def test_inside_a_transform_of_torch_nothing_is_checked():
    slope = torch.func.grad(lambda a: sdewm.jacobian_penalty(lambda x: a * x**2, X, Exact()))
    assert float(slope(torch.tensor(1.0))) == pytest.approx(
        float(16 * X.square().sum(1).mean()) / 2
    )


def test_a_step_that_depends_on_the_first_row_is_refused():
    """The penalty of h − h₀ is that of h, and not what a user of such a step wants."""
    inputs = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="mixes the rows of its batch"):
        sdewm.jacobian_penalty(lambda h: h.sin() - h[:1], inputs, Exact())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: sdewm.jacobian_penalty(lambda h: None, x, Exact()), "is NoneType; expected"),
        (lambda x: sdewm.jacobian_penalty(lambda h: {"a": h}, x, Exact()), "is dict; expected"),
        (lambda x: sdewm.jacobian_penalty(torch.sin, x, Exact), "estimator=Exact: expected an ob"),
    ],
)
def test_what_is_no_tensor_or_no_estimator_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call(torch.ones(2, 3, dtype=torch.float64))


LENGTH, BATCH, SIZE = 3, 4, 2  # sequences flattened into rows, an even number of places apart


def attention_over_time(h):
    scores = h.view(LENGTH, BATCH, SIZE).movedim(1, 0)
    weights = torch.softmax(scores @ scores.mT, -1)
    return (weights @ scores).movedim(0, 1).reshape(h.shape)


@pytest.mark.parametrize(
    "step",
    [
        attention_over_time,
        lambda h: h.view(LENGTH, BATCH, SIZE).cumsum(0).reshape(h.shape),
        lambda h: (h.view(LENGTH, BATCH, SIZE) - h.view(LENGTH, BATCH, SIZE).mean(0)).reshape(
            h.shape
        ),
        lambda h: h + h.roll(2, 0),
    ],
    ids=["attention", "sum over time", "mean over time", "two rows before"],
)
def test_rows_of_one_sequence_that_are_mixed_are_refused(step):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(LENGTH * BATCH, SIZE, dtype=torch.float64, generator=generator)
    with pytest.raises(ValueError, match="step mixes the rows of its batch"):
        sdewm.jacobian_penalty(step, inputs, Exact())

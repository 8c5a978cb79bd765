"""The scan's gradients against those of torch along the steps."""

from functools import partial

import pytest
import torch

from sdewm.model.behaviour import Actor, BehaviourConfig, act_and_imagine, imagine
from sdewm.model.networks import initialise_all
from sdewm.model.rssm import State
from sdewm.model.scan import Scan, step_by_step
from tests.model.small_models import A, E, generator, make_rssm, noise_for, randn, random_state

B, T = 3, 7
KINDS = {
    "block GRU, categorical": ("categorical", "block_gru"),
    "GRU, categorical": ("categorical", "gru"),
    "GRU, Gaussian": ("gaussian", "gru"),
    "block GRU, Gaussian": ("gaussian", "block_gru"),
}
kinds = pytest.mark.parametrize("kind", [*KINDS])


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")


def case(kind, dtype=torch.float64):
    """An RSSM and inputs of `observe`, some of which need a gradient; two rows are first rows."""
    latent, cell = KINDS[kind]
    rssm = make_rssm(latent, cell=cell, deter=16, hidden=8, blocks=4).to(dtype)
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[0, 3] = is_first[2, 5] = True
    embed, action = randn(B, T, E), torch.tanh(randn(B, T, A, seed=1))
    noise, start = noise_for(rssm, B, T), random_state(rssm.double(), B)
    rssm.to(dtype)
    tensors = [part.to(dtype).requires_grad_() for part in (embed, action, *start)]
    return rssm, tensors, is_first, noise.to(dtype)


def gradients(rssm, tensors, is_first, noise):
    """Of a loss in all that `observe` returns, by the name of the weight or place of the input."""
    embed, action, *start = tensors
    seen = rssm.observe(embed, action, is_first, noise, State(*start))
    parts = (*seen.state, seen.prior, seen.posterior)
    loss = sum(
        (part * randn(*part.shape, seed=seed).to(part)).sum() for seed, part in enumerate(parts)
    )
    sources = dict(rssm.named_parameters()) | dict(enumerate(tensors))
    return dict(zip(sources, torch.autograd.grad(loss, [*sources.values()]), strict=True))


def with_scan(rssm, step=None):
    rssm.scan = Scan(step or rssm.posterior_step, [rssm], states=2)
    return rssm


def distance(ours, theirs):
    """Largest error of a gradient, relative to its size."""
    return max(float((ours[k] - theirs[k]).norm() / theirs[k].norm()) for k in theirs)


@kinds
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_gradients_are_those_of_torch(kind, dtype, bound, uncompiled):
    inputs = case(kind, dtype)
    slow = gradients(*inputs)
    assert all(float(part.norm()) > 0 for part in slow.values())
    with_scan(inputs[0])
    assert distance(gradients(*inputs), slow) < bound


@kinds
def test_a_step_that_forgets_the_state_in_its_adjoint_is_noticed(kind, uncompiled):
    inputs = case(kind)
    slow, rssm = gradients(*inputs), inputs[0]
    for forgotten in (0, 1):

        def step(*tensors, forgotten=forgotten):
            parts = [*tensors]
            parts[forgotten] = parts[forgotten].detach()
            return rssm.posterior_step(*parts)

        with_scan(rssm, step)
        assert distance(gradients(*inputs), slow) > 1e-3


def test_compiled_values_and_gradients():
    inputs = case("GRU, categorical", torch.float32)
    slow = gradients(*inputs)
    scan = with_scan(inputs[0]).scan
    assert distance(gradients(*inputs), slow) < 1e-5
    with torch.no_grad():  # weights change in place, and the compiled step follows
        for weight in inputs[0].parameters():
            weight.mul_(1.1)
    fast, inputs[0].scan = gradients(*inputs), None
    changed = gradients(*inputs)
    assert distance(fast, changed) < 1e-5 < distance(slow, changed)
    assert scan.forward.active is scan.adjoint((False, True, True, False)).active


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_imagination_through_the_dynamics(latent, uncompiled):
    rssm = make_rssm(latent).requires_grad_(False)
    config = BehaviourConfig(units=8, actor_layers=1)
    actor = Actor(config, rssm.features_size, A, "rms", "silu").double()
    initialise_all(actor, generator())
    start, noise = random_state(rssm, B), noise_for(rssm, T, B)
    chosen = randn(T, B, A)
    scan = Scan(partial(act_and_imagine, rssm, actor), [actor], states=2)

    def found(*scans):
        imagined = imagine(rssm, actor, start, noise, chosen, *scans)
        loss = (imagined.features * randn(*imagined.features.shape)).sum()
        loss = loss + (imagined.actions * randn(*imagined.actions.shape, seed=1)).sum()
        return dict(enumerate(torch.autograd.grad(loss, [*actor.parameters()])))

    slow = found()
    assert distance(found(scan), slow) < 1e-12
    assert all(weight.grad is None for weight in rssm.parameters())


def test_it_needs_no_gradient_to_run(uncompiled):
    start, inputs = (torch.zeros(B, 1),), (torch.ones(T, B, 1),)

    def step(state, x):
        return (torch.tanh(state) + x,)

    ours, slow = Scan(step, [], states=1)(start, inputs), step_by_step(step, start, inputs)
    assert torch.equal(ours[0], slow[0])


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_weight_used_outside_its_layer_is_refused(name, uncompiled):
    layer = torch.nn.Linear(2, 2)

    def step(state, x):
        return (torch.tanh(layer(state)) + x * getattr(layer, name).sum(),)

    found = Scan(step, [layer], states=1)((torch.ones(3, 2),), (torch.ones(4, 3, 2),))[0]
    with pytest.raises(RuntimeError, match="uses a weight of a layer outside it"):
        found.sum().backward()


LAYER, OTHER = torch.nn.Linear(3, 3).double(), torch.nn.Linear(3, 3).double()
SHARED = torch.nn.Linear(3, 3).double()
SHARED.weight = LAYER.weight
VECTOR = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]).double())])
GRU, NORM = torch.nn.GRUCell(3, 3).double(), torch.nn.LayerNorm(3).double()
linear = torch.nn.functional.linear
UNUSUAL = {
    "a bias that is computed": (
        lambda s, x: (torch.tanh(linear(s, LAYER.weight, LAYER.bias.exp()) + x),), [LAYER],
    ),
    "named weights": (lambda s, x: (linear(s, weight=LAYER.weight, bias=LAYER.bias) + x,), [LAYER]),
    "a vector for a matrix": (
        lambda s, x: (torch.tanh(linear(s, VECTOR[0]))[:, None] + x,), [VECTOR],
    ),
    "shared weights": (lambda s, x: (torch.tanh(LAYER(s) + SHARED(x)),), [LAYER, SHARED]),
    "a module given twice": (lambda s, x: (torch.tanh(LAYER(s) + x),), [LAYER, LAYER]),
    "a recurrent cell of torch": (lambda s, x: (GRU(x, s),), [GRU]),
    "a normalisation": (lambda s, x: (NORM(LAYER(s) + x),), [LAYER, NORM]),
    "a constant and the state itself": (
        lambda s, x: (torch.tanh(LAYER(x)), torch.ones_like(x), s), [LAYER],
    ),
    "no gradient inside": (lambda s, x: (torch.tanh(LAYER(s.detach()) + x),), [LAYER]),
}  # fmt: skip


@pytest.mark.parametrize("name", [*UNUSUAL])
def test_unusual_steps_have_the_gradients_of_torch(name, uncompiled):
    step, modules = UNUSUAL[name]
    start, x = randn(4, 3).requires_grad_(), randn(5, 4, 3, seed=1).requires_grad_()
    weights = [weight for part in modules for weight in part.parameters()]
    found = []
    for unroll in (Scan(step, modules, states=1), partial(step_by_step, step)):
        outputs = unroll((start,), (x,))
        loss = sum((one * randn(*one.shape, seed=2)).sum() + one.square().sum() for one in outputs)
        gradients = torch.autograd.grad(loss, [start, x, *weights], allow_unused=True)
        found.append([torch.zeros(1).double() if one is None else one for one in gradients])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(*torch.broadcast_tensors(ours, theirs), rtol=1e-12, atol=1e-13)


def test_whole_numbers_may_be_inputs(uncompiled):
    scan = Scan(lambda s, i: (torch.tanh(LAYER(s)) * i[:, None],), [LAYER], states=1)
    found = scan((torch.ones(4, 3).double(),), (torch.ones(5, 4, dtype=torch.int64),))[0]
    found.sum().backward()
    assert LAYER.weight.grad.abs().sum() > 0
    LAYER.zero_grad(set_to_none=True)


def in_place(s, x):
    result = LAYER(s)
    result += x
    return (torch.tanh(result),)


@pytest.mark.parametrize(
    ("step", "problem", "said"),
    [
        (in_place, RuntimeError, "changes in place what enters or leaves a layer"),
        (lambda s, x: (LAYER(s).relu_() + x,), RuntimeError, "changes in place"),
        (lambda s, x: (torch.dropout(LAYER(s), 0.5, True) + x,), ValueError, "step is random"),
        (lambda s, x: (torch.tanh(LAYER(s) + OTHER(x)),), ValueError, "of none of the modules"),
    ],
)
def test_steps_that_break_the_contract_are_refused(step, problem, said, uncompiled):
    scan = Scan(step, [LAYER], states=1)
    with pytest.raises(problem, match=said):
        scan((torch.ones(4, 3).double(),), (torch.ones(5, 4, 3).double(),))


@pytest.mark.parametrize("length", [0, 1])
def test_short_sequences(length, uncompiled):
    start, x = (torch.ones(4, 3).double(),), (torch.ones(length, 4, 3).double(),)
    scan = Scan(lambda s, x: (torch.tanh(LAYER(s) + x),), [LAYER], states=1)
    if length:
        assert scan(start, x)[0].shape == (1, 4, 3)
        return
    with pytest.raises(ValueError, match=r"inputs have \[0\] steps; expected at least 1"):
        scan(start, x)


def test_a_layer_used_twice_and_a_weight_outside_layers(uncompiled):
    layer = torch.nn.Linear(2, 2).double()
    layer.scale = torch.nn.Parameter(torch.tensor([0.5, 2.0], dtype=torch.float64))

    def step(state, x):
        return torch.tanh(layer(layer(state) * layer.scale) + x), layer.scale * state

    start, x = (torch.ones(3, 2).double(),), (torch.linspace(0, 1, 24).double().view(4, 3, 2),)
    found = []
    for unroll in (Scan(step, [layer], states=1), partial(step_by_step, step)):
        one, two = unroll(start, x)
        loss = (one * torch.arange(1.0, 5.0)[:, None, None]).sum() + two.square().sum()
        found.append(dict(enumerate(torch.autograd.grad(loss, [*layer.parameters()]))))
    assert distance(*found) < 1e-12


def test_a_second_derivative_and_changed_weights_are_refused(uncompiled):
    rssm, (embed, action, *start), is_first, noise = case("GRU, Gaussian")
    with_scan(rssm)
    deter = rssm.observe(embed, action, is_first, noise, State(*start)).state.deter
    with pytest.raises(RuntimeError, match="cannot be differentiated twice; use step_by_step"):
        torch.autograd.grad(deter.sum(), embed, create_graph=True)
    deter = rssm.observe(embed, action, is_first, noise, State(*start)).state.deter
    with torch.no_grad():
        rssm.posterior_output[-1].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        deter.sum().backward()


def test_bfloat16_under_autocast(uncompiled):
    inputs = case("GRU, categorical", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        slow = gradients(*inputs)
        with_scan(inputs[0])
        ours = gradients(*inputs)
    assert distance(ours, slow) < 0.05

"""Second-order propagation against central differences, and the recorded graph against it."""

import pytest
import torch
from torch.func import jvp

from sdewm.base.elementary import load_forward_rules
from sdewm.base.graph import simplify
from sdewm.base.taylor import fuse, second_order

FUNCTIONS = {
    "trigonometric": lambda x: (torch.sin(x) * torch.cos(2 * x), torch.exp(-(x**2))),
    "where": lambda x: (torch.where(x > 0, x**2, torch.sin(x)),),
    "mixing": lambda x: (torch.softmax(x, dim=1) * x.sum(dim=1, keepdim=True),),
    "group norm": lambda x: (torch.nn.functional.group_norm(x[:, :2], 1),),
    "layer norm": lambda x: (torch.nn.functional.layer_norm(x, (3,)),),
    "rms norm": lambda x: (torch.nn.functional.rms_norm(x, (3,), eps=1e-3),),
    "both norms": lambda x: (
        torch.nn.functional.layer_norm(torch.nn.functional.rms_norm(x, (3,)) ** 2, (3,)),
    ),
}


def written_in_place(x):
    out = torch.zeros(x.shape[0], 3, 2, dtype=x.dtype)
    out[:, 0, 0] = torch.sin(x[:, 1])
    out[:, 2, 1] = x[:, 0] * x[:, 2]
    return (out,)


FUNCTIONS["written in place"] = written_in_place


def surface(s, t, x, y, z, w):
    return x + s * y + t * z + s * t * w


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, dtype=torch.float64, generator=generator) for _ in range(4)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_agree_with_central_differences(name, tensors):
    (x, y, z, w), function = tensors, fuse(FUNCTIONS[name], (tensors[0],))
    value, (first, _), mixed = second_order(function, (x,), [(y,), (z,)], {(0, 1): (w,)})
    h = 1e-4
    at = {
        (i, j): function(surface(i * h, j * h, x, y, z, w)) for i in (-1, 0, 1) for j in (-1, 0, 1)
    }
    for k in range(len(value)):
        torch.testing.assert_close(
            first[k], (at[1, 0][k] - at[-1, 0][k]) / (2 * h), rtol=1e-6, atol=1e-6
        )
        cross = (at[1, 1][k] - at[1, -1][k] - at[-1, 1][k] + at[-1, -1][k]) / (4 * h * h)
        torch.testing.assert_close(mixed[0, 1][k], cross, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_recorded_graph_gives_the_same_numbers_with_fewer_operations(name, tensors):
    elementary = fuse(FUNCTIONS[name], (tensors[0],))

    def step(x, y, z, w):
        value, firsts, mixed = second_order(elementary, (x,), [(y,), (z,)], {(0, 1): (w,)})
        return (*value, *firsts[0], *firsts[1], *mixed[0, 1])

    fused = fuse(step, tuple(tensors))
    assert isinstance(fused, torch.fx.GraphModule)
    others = tuple(t.flip(0) + 0.1 for t in tensors)
    for a, b in zip(fused(*others), step(*others), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-15)
    assert len(fused.graph.nodes) < 14 * len(elementary.graph.nodes)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x if x.sum() > 0 else x**2,),
        lambda x: (x * float(x[0, 0]),),
        lambda x: (x + torch.rand_like(x) * 0,),
    ],
    ids=["branch", "float", "random"],
)
def test_what_cannot_be_recorded_is_left_as_it_is(function, tensors):
    assert fuse(function, (tensors[0],)) is function


TABLE = torch.linspace(-1.0, 1.0, 5, dtype=torch.float64)


def read_in_spite_of_an_error(x):
    try:
        return (x * float(x[0, 0]),)
    except RuntimeError:
        return (x,)


def drawn_anew_at_each_call(x):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return (x * torch.randint(0, 1, (3,)),)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * len(TABLE[TABLE < x[0, 0]]),),
        lambda x: (x * torch.bincount((x[:, 0] > 0).long()).shape[0],),
        lambda x: (x * (2.0 if "-" in str(x) else 1.0),),
        read_in_spite_of_an_error,
        drawn_anew_at_each_call,
    ],
    ids=["length", "count", "text", "error that is handled", "seeded"],
)
def test_what_a_graph_would_freeze_is_not_recorded(function, tensors):
    assert fuse(function, (tensors[0],)) is function


def test_a_constant_mask_is_recorded(tensors):
    kept = torch.tensor([True, False, True])
    fused = fuse(lambda x: (x[:, kept] * x[:, torch.arange(3) > 0],), (tensors[0],))
    assert isinstance(fused, torch.fx.GraphModule)
    other = tensors[1]
    assert torch.equal(fused(other)[0], other[:, [0, 2]] * other[:, 1:])


def test_a_function_with_a_memory_is_left_as_it_is(tensors):
    calls = []

    def counting(x):
        calls.append(1)
        return (x * len(calls),)

    assert fuse(counting, (tensors[0],)) is counting


def test_a_model_with_rms_norm_and_layer_norm_is_recorded(tensors):
    for name in ("rms norm", "both norms"):
        assert isinstance(fuse(FUNCTIONS[name], (tensors[0],)), torch.fx.GraphModule), name


@pytest.mark.parametrize("shared", [False, True])
def test_an_in_place_operation_is_kept_out_only_where_nobody_else_sees_it(shared):
    graph = torch.fx.Graph()
    fresh = graph.call_function(torch.ops.aten.sin.default, (graph.placeholder("x"),))
    changed = graph.call_function(torch.ops.aten.add_.Scalar, (fresh, 1.0))
    graph.output((changed, fresh) if shared else (changed,))
    if shared:
        with pytest.raises(ValueError, match="in place"):
            simplify(graph)
    else:
        simplify(graph)
        x = torch.ones(1)
        module = torch.fx.GraphModule(torch.nn.Module(), graph)
        torch.testing.assert_close(module(x)[0], torch.sin(x) + 1.0)


@pytest.mark.parametrize("late", [False, True])
def test_an_in_place_operation_may_follow_what_reads_the_value_but_not_precede_it(late):
    graph = torch.fx.Graph()
    fresh = graph.call_function(torch.ops.aten.sin.default, (graph.placeholder("x"),))
    reads = [] if late else [graph.call_function(torch.ops.aten.neg.default, (fresh,))]
    changed = graph.call_function(torch.ops.aten.add_.Scalar, (fresh, 1.0))
    reads += [graph.call_function(torch.ops.aten.neg.default, (fresh,))] if late else []
    graph.output((changed, *reads))
    if late:
        with pytest.raises(ValueError, match="in place"):
            simplify(graph)
    else:
        simplify(graph)
        x = torch.ones(1)
        both = torch.fx.GraphModule(torch.nn.Module(), graph)(x)
        torch.testing.assert_close(both, (torch.sin(x) + 1.0, -torch.sin(x)))


def test_a_copy_in_another_order_of_memory_is_kept(tensors):
    def blocks(x):
        parts = x.reshape(-1, 3, 1).transpose(0, 1)  # (3, N, 1)
        return (torch.bmm(parts, parts.new_ones(3, 1, 2)).transpose(0, 1).reshape(len(x), -1),)

    x = torch.arange(6.0).reshape(2, 3)
    fused = fuse(blocks, (x,))
    assert isinstance(fused, torch.fx.GraphModule)
    torch.testing.assert_close(fused(x), blocks(x))
    once = fuse(lambda x: torch.func.jvp(blocks, (x,), (x,))[1], (x,))
    assert isinstance(once, torch.fx.GraphModule)


def test_an_argument_changed_in_place_is_not_recorded(tensors):
    def changes_its_argument(x):
        return (x.view(-1).add_(1.0).view_as(x),)

    x = tensors[0]
    before = x.clone()
    fused = fuse(changes_its_argument, (x.clone(),))
    if isinstance(fused, torch.fx.GraphModule):  # then as a function without side effects
        torch.testing.assert_close(fused(x)[0], before + 1.0)
        torch.testing.assert_close(x, before)


def test_torch_is_still_wrong_about_layer_norm_so_that_the_elementary_form_is_needed(tensors):
    """If this fails, torch has been mended and `base.elementary` may lose it."""
    load_forward_rules()
    x, y, _, _ = tensors
    norm, nothing = FUNCTIONS["layer norm"], torch.zeros_like(x)
    by_torch = jvp(lambda x: jvp(lambda x: norm(x)[0], (x,), (y,))[1], (x,), (y,))[1]
    for function in (norm, fuse(norm, (x,))):
        right = second_order(function, (x,), [(y,)], {(0, 0): (nothing,)})[2][0, 0][0]
        h = 1e-4
        ends = (norm(x + s * h * y)[0] for s in (1, 0, -1))
        ahead, here, behind = ends
        torch.testing.assert_close(right, (ahead - 2 * here + behind) / h**2, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(by_torch, right, rtol=1e-3)

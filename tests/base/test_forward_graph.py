"""Derivatives written into a recorded graph are those of a nested jvp, operation by operation."""

import pytest
import torch
from torch.nn import functional

from sdewm.base import taylor
from sdewm.base.forward_graph import derivative_graph
from sdewm.base.forward_rules import RULES, NoRule
from sdewm.base.taylor import record, second_order

W = torch.linspace(-1.0, 1.3, 12, dtype=torch.float64).reshape(4, 3)
aten = torch.ops.aten
# Functions of x (5, 4) and of a number s that is differentiated too, row by row.
FUNCTIONS = {
    "sums": lambda x, s: x + 0.5 * s - 2.0 * x.sin() + torch.add(x, s, alpha=0.3) - s,
    "differences": lambda x, s: (
        aten.sub.Scalar(aten.add.Scalar(x * s, 1.0), 2.0)
        + torch.sub(x.cos(), x, alpha=0.7)
        + (1.0 - x)
        + torch.rsub(s * x, 2)
        + (s - x)
        + (x - 3)
    ),
    "products": lambda x, s: x * x * s + 2.0 * x * s * s + aten.mul.Scalar(x * s, 3.0),
    "quotients": lambda x, s: (
        W.sum(1) / (3.0 + x * s)
        + x / (2.0 + x * x)
        + s / (2.0 + x)
        + x / 3.0
        + aten.div.Scalar(x * s, 4.0)
        + 1.0 / (3.0 + x)
    ),
    "matrices": lambda x, s: (x @ W) @ W.T * s + x * torch.addmm(W[0], x, W).sum(1, keepdim=True),
    "a matrix of the state": lambda x, s: (x.T @ x) @ W + s * torch.addmm(x.mm(W)[:4], x[:4], W),
    "batches of matrices": lambda x, s: torch.bmm(x[:, :, None] * s, x[:, None] ** 2).flatten(1),
    "powers": lambda x, s: x**2 + (2.0 + s) ** 3 * x**4 + (x * x + s * s) ** 0.5 + x**1 + x**0,
    "squashed": lambda x, s: torch.tanh(x * s) + torch.sigmoid(x + s) * torch.tanh(x),
    "waves": lambda x, s: torch.sin(x * s) + torch.cos(x + s),
    "growth": lambda x, s: torch.exp(x * s) + torch.log(2.0 + x * x) + torch.erf(x * s),
    "roots": lambda x, s: (
        torch.sqrt(1.0 + x * x) + torch.rsqrt(1.5 + s * x.cos()) + torch.reciprocal(2.5 + x.sin())
    ),
    "soft maxima": lambda x, s: (
        functional.softplus(x * s) + functional.softplus(x, 3.0, 2.0) + torch.softmax(x * s, 1)
    ),
    "kinks": lambda x, s: torch.where(x > 0, x * s, x.sin()) + (x * s).abs() * x + x.clamp(-0.5, 1),
    "one limit": lambda x, s: (x * x).clamp(min=0.2) * s + (x * x).clamp(max=0.3),
    "mixtures": lambda x, s: (
        torch.lerp(x, x.sin(), torch.sigmoid(x * s))
        + torch.lerp(x, x.cos(), torch.full_like(x, 0.3))
    ),
    "shapes": lambda x, s: (
        torch.cat([x[:, :2] * s, x.view(5, 2, 2).transpose(1, 2).flatten(1)[:, 1:3]], 1)
        + torch.stack([x[:, 0], x.sum(1), x.mean(1), s.expand(5)], 1)
        + x.unsqueeze(1).permute(0, 2, 1).squeeze(2).squeeze()
        + x.T.t() * x.sum() / 20
        + x.mean()
        + x.reshape(5, 4, 1).squeeze((2,))
        + aten.squeeze.dims(aten.squeeze.default(x.reshape(5, 1, 4)).unsqueeze(0), [0]) * s
        + aten.mean.default(x * s)
        + (x[:, :1].sin() + torch.ones_like(x)).view(20).view(5, 4) * s
    ),
    "parts": lambda x, s: (
        torch.cat([part * s for part in x.split(1, 1)], 1)
        + torch.cat(x.split([1, 3], 1)[::-1], 1)
        + torch.stack(x.unbind(1), 1)
        + torch.cat(aten.split_with_sizes.default(x * s, [3, 1], 1), 1)
        + x.index_select(1, torch.tensor([3, 1, 0, 0]))
        + functional.pad(x[:, 1:] * s, (1, 0))
        + x.flip(1)
        + x.cumsum(1)
        + x.roll(1, 1)
        + torch.diag_embed(x).diagonal(0, 1, 2)
        + torch.diag_embed(x).sum(2).clone()
    ),
    "constants": lambda x, s: (
        x * torch.ones_like(x) * s
        + torch.zeros_like(x)
        + x.new_ones(5, 4)
        + torch.where(x > 0, x * s, x.new_zeros(5, 4) + s)
        + x.new_full((5, 4), 2.0)
        + torch.full_like(x, 2.0)
        + (x * s).round()
        + x.floor() * x
        + x.ceil()
        + x.sign() * x
        + torch.sgn(x)
    ),
    "precision": lambda x, s: (x * s).to(torch.float32).sin().to(torch.float64),
    "a state that is returned": lambda x, s: x,
    "nothing of the state": lambda x, s: torch.ones_like(x),
    "views of what is broadcast": lambda x, s: (
        (x @ W @ W.T).view(20)[:, None].expand(20, 2).sum(1).view(5, 4) * s
    ),
}


def arguments():
    generator = torch.Generator().manual_seed(1)
    x, s = torch.randn(5, 4, generator=generator).double(), torch.tensor(0.7).double()
    directions = [(torch.randn(5, 4, generator=generator).double(), s + k) for k in range(2)]
    pairs = {(0, 0): directions[1], (0, 1): directions[0], (1, 1): (x, s * 0)}
    return (x, s), directions, pairs


def recorded(name):
    (x, s), _, _ = arguments()
    return record(lambda x, s: (FUNCTIONS[name](x, s), x * s), (x, s))


def by_both(graph):
    values = []
    for way in (taylor._by_graph, taylor._nested):
        value, firsts, mixed = way(graph, *arguments())
        values.append([*value, *(one for row in (*firsts, *mixed.values()) for one in row)])
    return values


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_the_nested_jvp(name):
    here, there = by_both(recorded(name))
    tolerance = 1e-4 if name == "precision" else 1e-12
    for a, b in zip(here, there, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_every_rule_is_compared_above():
    used = set()
    for name in FUNCTIONS:
        graph = derivative_graph(recorded(name), 0, 2, [(0, 0), (0, 1), (1, 1)])
        used |= {node.target for node in graph.graph.nodes if node.op == "call_function"}
    assert set(RULES) <= used, set(RULES) - used


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        (aten.tanh.default, lambda writer, node: writer.of(node.args[0])),
        (aten.sigmoid_backward.default, lambda writer, node: None),
        (aten.add.Tensor, lambda writer, node: writer.of(node.args[0])),
    ],
)
def test_a_wrong_rule_is_noticed(target, wrong, monkeypatch):
    monkeypatch.setitem(RULES, target, wrong)
    here, there = by_both(recorded("squashed"))
    assert not all(torch.allclose(a, b) for a, b in zip(here, there, strict=True))


def test_an_operation_without_a_rule_is_differentiated_by_torch():
    (x, s), directions, pairs = arguments()
    graph = record(lambda x, s: (torch.special.bessel_j0(x * s) * 0 + torch.atan(x * s),), (x, s))
    with pytest.raises(NoRule, match="atan|bessel"):
        derivative_graph(graph, 0, 1, [])
    plain = record(lambda x, s: (torch.atan(x * s),), (x, s))
    _, firsts, mixed = second_order(plain, (x, s), directions, pairs)
    slope = 1.0 / (1.0 + (x * s) ** 2)
    inner = [dx * s + x * ds for dx, ds in directions]
    torch.testing.assert_close(firsts[0][0], slope * inner[0])
    twice = 2 * directions[0][0] * directions[0][1]
    wx, ws = pairs[0, 0]
    bend = -2 * x * s * slope**2 * inner[0] ** 2 + slope * (wx * s + x * ws + twice)
    torch.testing.assert_close(mixed[0, 0][0], bend)


def test_complex_numbers_inside_have_derivatives():
    (x, s), directions, pairs = arguments()

    def function(x, s):
        waves = torch.fft.rfft(x * s)
        return torch.exp(1j * x * s).real, torch.fft.irfft(waves, n=x.shape[1])

    graph = record(function, (x, s))
    plain = record(lambda x, s: (torch.cos(x * s), x * s), (x, s))
    found, expected = (second_order(one, (x, s), directions, pairs) for one in (graph, plain))
    for a, b in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(a, b)
    for pair in pairs:
        torch.testing.assert_close(found[2][pair], expected[2][pair])


def test_arguments_that_are_held_fixed_have_no_derivative():
    x, v = torch.ones(5, 4).double(), torch.full((5, 4), 2.0).double()
    graph = record(lambda v, x: (v * x * x,), (v, x))
    held = derivative_graph(graph, 1, 1, [(0, 0)])
    value, first, second = held(v, x, x, torch.zeros_like(x))
    assert [float(one[0, 0]) for one in (value, first, second)] == [2.0, 4.0, 4.0]

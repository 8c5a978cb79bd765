"""Elementary forms: the values of torch's own operations, and right higher derivatives."""

import pytest
import torch
from torch import nn
from torch.func import jvp
from torch.nn import functional

from sdewm.base.elementary import ElementaryOperations, load_forward_rules

load_forward_rules()

F64 = torch.float64
DRAW = torch.Generator().manual_seed(0)
WEIGHT, BIAS, MEAN = (torch.randn(3, dtype=F64, generator=DRAW) for _ in range(3))
VARIANCE = 0.5 + torch.rand(3, dtype=F64, generator=DRAW)
MASK = torch.randn(4, 4, dtype=F64, generator=DRAW)
TRANSFORMER = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).double().eval()


def channels(h):
    return h.view(-1, 3, 4)


def attend(h, **options):
    queries, keys = h.view(-1, 1, 4, 3), (h**2).view(-1, 1, 4, 3)
    return functional.scaled_dot_product_attention(queries, keys, queries, **options)


def grouped(h):
    queries, keys = h.view(-1, 2, 2, 3), h[:, :6].view(-1, 1, 2, 3)
    return functional.scaled_dot_product_attention(queries, keys, keys, enable_gqa=True)


def normed(function, **options):
    return lambda h: function(channels(h), MEAN, VARIANCE, WEIGHT, BIAS, **options)


OPERATIONS = {
    "layer norm": lambda h: functional.layer_norm(channels(h), (3, 4), MASK[:3], MASK[1:]),
    "layer norm of torch": lambda h: torch.layer_norm(h, (12,)),
    "group norm": lambda h: functional.group_norm(h.view(-1, 6, 2), 2, eps=0.1),
    "group norm with weights": lambda h: functional.group_norm(channels(h), 1, WEIGHT, BIAS),
    "instance norm": lambda h: functional.instance_norm(channels(h), None, None, WEIGHT, BIAS),
    "instance norm, running": normed(functional.instance_norm, use_input_stats=False, eps=0.1),
    "instance norm of torch": lambda h: torch.instance_norm(
        channels(h), WEIGHT, BIAS, MEAN, VARIANCE, False, 0.1, 0.2, False
    ),
    "batch norm": normed(functional.batch_norm, eps=0.1),
    "batch norm of torch": lambda h: torch.batch_norm(
        channels(h), WEIGHT, BIAS, MEAN, VARIANCE, False, 0.1, 0.2, False
    ),
    "batch statistics": lambda h: functional.batch_norm(channels(h), None, None, training=True),
    "SiLU": functional.silu,
    "Mish": nn.Mish(),
    "GLU": lambda h: functional.glu(h.view(-1, 2, 6), 1),
    "attention": attend,
    "attention, causal": lambda h: attend(h, is_causal=True),
    "attention, added mask": lambda h: attend(h, attn_mask=MASK, scale=0.3),
    "attention, mask": lambda h: attend(h, attn_mask=(MASK > 0) | torch.eye(4, dtype=torch.bool)),
    "attention, grouped": grouped,
    "transformer": lambda h: TRANSFORMER(channels(h)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_are_those_of_torch_and_derivatives_those_of_differences(name):
    operation = OPERATIONS[name]
    x, v = (torch.randn(5, 12, dtype=F64, generator=DRAW) for _ in range(2))

    def elementary(x):
        with ElementaryOperations():
            return operation(x)

    def first(x):
        return jvp(elementary, (x,), (v,))[1]

    def second(x):
        return jvp(first, (x,), (v,))[1]

    torch.testing.assert_close(elementary(x), operation(x), rtol=1e-12, atol=1e-12)
    h = 1e-5
    for function, derivative in ((operation, first), (first, second)):
        slope = (function(x + h * v) - function(x - h * v)) / (2 * h)
        torch.testing.assert_close(derivative(x), slope, rtol=1e-6, atol=1e-6)
    third = jvp(second, (x,), (v,))[1]
    slope = (second(x + h * v) - second(x - h * v)) / (2 * h)
    torch.testing.assert_close(third, slope, rtol=1e-5, atol=1e-5)


def test_a_state_that_numpy_reads_inside_a_derivative_is_refused():
    def reads(x):
        with ElementaryOperations():
            return x * float(x.detach().numpy().sum())

    with pytest.raises(ValueError, match="read outside torch, by NumPy"):
        jvp(reads, (torch.ones(2),), (torch.ones(2),))

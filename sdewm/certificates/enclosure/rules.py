"""Which torch functions have an enclosure, and with which arguments.

RULES maps the name of a function or method to its enclosure: a function of the execution and of the
arguments of the torch function, with sets where tensors were. An argument that a rule does not take
(`out`, another dtype) is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sdewm.certificates import activations
from sdewm.certificates.enclosure import arithmetic, movement, shapes
from sdewm.certificates.enclosure.affine import negate
from sdewm.certificates.enclosure.arithmetic import Execution, Rule, Unsupported, Value
from sdewm.certificates.enclosure.elementwise import (
    ABSOLUTE,
    EXP,
    EXPM1,
    Logarithm,
    LogOnePlus,
    Power,
    Scalar,
    apply,
    clamp,
    log_softmax,
    sign,
    softmax,
)
from sdewm.certificates.enclosure.normalisation import normalise
from sdewm.certificates.enclosure.recurrent import gru
from sdewm.certificates.enclosure.taylor_set import TaylorSet

MOST_CLASSES = 1000  # of a softmax


def _gru_cell(
    run: Execution,
    input: Value,
    hx: Value,
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None = None,
    b_hh: Value | None = None,
) -> TaylorSet:
    return gru(run.as_set(input), run.as_set(hx), (w_ih, w_hh), (b_ih, b_hh), run)


def _layer_norm(
    run: Execution,
    input: Value,
    normalized_shape: Sequence[int],
    weight: TaylorSet | Tensor | None = None,
    bias: TaylorSet | Tensor | None = None,
    eps: float = 1e-5,
) -> TaylorSet:
    return _normalised(run, input, normalized_shape, weight, bias, eps, True)


def _rms_norm(
    run: Execution,
    input: Value,
    normalized_shape: Sequence[int],
    weight: TaylorSet | Tensor | None = None,
    eps: float | None = None,
) -> TaylorSet:
    floor = torch.finfo(torch.float64).eps if eps is None else eps
    return _normalised(run, input, normalized_shape, weight, None, floor, False)


def _normalised(
    run: Execution,
    input: Value,
    normalized_shape: Sequence[int],
    weight: TaylorSet | Tensor | None,
    bias: TaylorSet | Tensor | None,
    eps: float,
    centred: bool,
) -> TaylorSet:
    if len(normalized_shape) != 1:
        raise Unsupported(
            f"normalized_shape={tuple(normalized_shape)}: expected the last axis only."
        )
    x = run.as_set(input)
    if not (isinstance(weight, TaylorSet) or isinstance(bias, TaylorSet)):
        return normalise(x, weight, bias, eps, centred, run.symbols)
    found = normalise(x, None, None, eps, centred, run.symbols)
    if weight is not None:
        found = arithmetic.multiply(run, found, weight)
    return found if bias is None else arithmetic.add(run, found, bias)


def _scalar(function: Scalar) -> Rule:
    def rule(run: Execution, input: Value, inplace: bool = False) -> TaylorSet:
        if inplace:
            raise Unsupported("expected inplace=False.")
        return apply(function, run.as_set(input))

    return rule


def _dropout(
    run: Execution, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> TaylorSet:
    if training or inplace:
        raise Unsupported("expected training=False; draw noise outside the step.")
    return run.as_set(input)


def _gelu(run: Execution, input: Value, approximate: str = "none") -> TaylorSet:
    chosen = activations.GELU if approximate == "none" else activations.GELU_TANH
    return apply(chosen, run.as_set(input))


def _elu(run: Execution, input: Value, alpha: float = 1.0, inplace: bool = False) -> TaylorSet:
    if inplace:
        raise Unsupported("expected inplace=False.")
    return apply(activations.elu(alpha), run.as_set(input))


def _softplus(
    run: Execution, input: Value, beta: float = 1.0, threshold: float = 20.0
) -> TaylorSet:
    if not (beta > 0 and 15.0 <= threshold <= 700.0):
        raise Unsupported(
            "expected beta > 0 and 15 <= threshold <= 700; below, torch's softplus jumps, and "
            "above, its exponential overflows."
        )
    return apply(activations.softplus(beta, threshold), run.as_set(input))


def _clamp(
    run: Execution, input: Value, min: float | None = None, max: float | None = None
) -> TaylorSet:
    if isinstance(min, (Tensor, TaylorSet)) or isinstance(max, (Tensor, TaylorSet)):
        raise Unsupported("expected numbers as bounds.")
    low, high = (-math.inf if min is None else min), (math.inf if max is None else max)
    return apply(clamp(low, high), run.as_set(input))


def _over_classes(function: Callable[[TaylorSet, int], TaylorSet]) -> Rule:
    def rule(
        run: Execution,
        input: Value,
        dim: int,
        _stacklevel: int | torch.dtype = 3,
        dtype: torch.dtype | None = None,
    ) -> TaylorSet:
        if isinstance(_stacklevel, torch.dtype):  # the third argument of torch.softmax
            dtype = _stacklevel
        if dtype not in (None, torch.float64):
            raise Unsupported(f"{dtype} would round the state; expected torch.float64.")
        x = run.as_set(input)
        if x.shape[arithmetic.axis_of(x, dim)] > MOST_CLASSES:
            raise Unsupported(f"{x.shape[dim]} classes: expected at most {MOST_CLASSES}.")
        # The box of each logit enters its own class and the sum: as symbols it is one in both.
        return function(run.symbols.absorb(x), arithmetic.axis_of(x, dim))

    return rule


MOVES = (
    *("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute"),
    *("expand", "expand_as", "repeat", "flip", "narrow", "select", "index_select", "t"),
    *("broadcast_to", "movedim", "roll", "repeat_interleave", "swapaxes"),
)
CUTS = ("chunk", "split", "unbind", "tensor_split")
RULES: dict[str, Rule] = {
    **{name: movement.moving(name) for name in MOVES},
    "expand_as": movement.expand_as,
    **{name: movement.cutting(name) for name in CUTS},
    **{name: movement.same for name in ("contiguous", "clone", "detach", "double")},
    **{name: movement.constant_like(name) for name in ("zeros_like", "ones_like", "full_like")},
    **{name: movement.new(name) for name in ("new_zeros", "new_ones", "new_full", "new_tensor")},
    "T.__get__": lambda run, x: shapes.moved(x, lambda part: part.T),
    "mT.__get__": lambda run, x: shapes.moved(x, lambda part: part.mT),
    "mH.__get__": lambda run, x: shapes.moved(x, lambda part: part.mT),
    "__getitem__": movement.indexed,
    "cat": movement.concatenate,
    "concat": movement.concatenate,
    "stack": movement.stack,
    "pad": movement.padded,
    "diag_embed": arithmetic.diag_embed,
    "to": movement.converted,
    "type_as": movement.converted,
    "float": movement.to_float32,
    "half": movement.to_float32,
    "bfloat16": movement.to_float32,
    "add": arithmetic.add,
    "__add__": arithmetic.add,
    "__radd__": arithmetic.add,
    "sub": arithmetic.subtract,
    "subtract": arithmetic.subtract,
    "__sub__": arithmetic.subtract,
    "rsub": lambda run, x, other: arithmetic.subtract(run, other, x),
    "__rsub__": lambda run, x, other: arithmetic.subtract(run, other, x),
    "neg": lambda run, x: negate(run.as_set(x)),
    "__neg__": lambda run, x: negate(run.as_set(x)),
    "mul": arithmetic.multiply,
    "multiply": arithmetic.multiply,
    "__mul__": arithmetic.multiply,
    "__rmul__": arithmetic.multiply,
    "div": arithmetic.divide,
    "divide": arithmetic.divide,
    "true_divide": arithmetic.divide,
    "__truediv__": arithmetic.divide,
    "__rtruediv__": lambda run, x, other: arithmetic.divide(run, other, x),
    "__rdiv__": lambda run, x, other: arithmetic.divide(run, other, x),
    "reciprocal": arithmetic.reciprocal,
    "sqrt": _scalar(Power(0.5, 0.0)),
    "rsqrt": _scalar(Power(-0.5, 0.0)),
    "square": arithmetic.square,
    "pow": arithmetic.power,
    "__pow__": arithmetic.power,
    "lerp": arithmetic.lerp,
    "sum": arithmetic.total,
    "mean": arithmetic.mean,
    "matmul": arithmetic.matmul,
    "__matmul__": arithmetic.matmul,
    "__rmatmul__": lambda run, x, other: arithmetic.matmul(run, other, x),
    "mm": arithmetic.matmul,
    "bmm": arithmetic.matmul,
    "linear": arithmetic.linear,
    "addmm": arithmetic.addmm,
    "tanh": _scalar(activations.TANH),
    "sigmoid": _scalar(activations.SIGMOID),
    "silu": _scalar(activations.SILU),
    "mish": _scalar(activations.MISH),
    "relu": _scalar(activations.RELU),
    "abs": _scalar(ABSOLUTE),
    "sign": lambda run, x: sign(run.as_set(x)),
    "log1p": _scalar(LogOnePlus()),
    "log": _scalar(Logarithm()),
    "exp": _scalar(EXP),
    "expm1": _scalar(EXPM1),
    "log_softmax": _over_classes(log_softmax),
    "softmax": _over_classes(softmax),
    "clamp": _clamp,
    "dropout": _dropout,
    "gelu": _gelu,
    "elu": _elu,
    "softplus": _softplus,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "gru_cell": _gru_cell,
}
METADATA = {
    *(f"{name}.__get__" for name in ("shape", "dtype", "device", "ndim", "is_cuda", "layout")),
    *("requires_grad.__get__", "is_sparse.__get__", "is_nested.__get__", "is_quantized.__get__"),
    *("size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "__len__"),
    *(
        "is_complex",
        "get_device",
        "is_grad_enabled",
        "_set_grad_enabled",
        "broadcast_shapes",
    ),
}
# Functions of exact tensors that do not round.
PLAIN = {
    *MOVES,
    *CUTS,
    *(
        "T.__get__",
        "mT.__get__",
        "mH.__get__",
        "__getitem__",
        "cat",
        "concat",
        "stack",
        "to",
        "type_as",
    ),
    *("contiguous", "clone", "detach", "double", "neg", "__neg__", "abs", "__abs__", "clamp"),
    *("minimum", "maximum", "where", "sign", "relu", "round", "floor", "ceil"),
    *("zeros", "ones", "full", "eye", "arange", "tensor", "as_tensor", "zeros_like", "ones_like"),
    *("full_like", "new_zeros", "new_ones", "new_full", "new_tensor", "diag", "diag_embed", "pad"),
    *("eq", "ne", "lt", "le", "gt", "ge", "__eq__", "__ne__", "__lt__", "__le__", "__gt__"),
    *("__ge__", "isfinite", "all", "any", "max", "min", "amax", "amin", "item", "tolist"),
    *("__bool__", "__int__", "__float__", "data.__get__", "long", "int", "bool", "tril", "triu"),
}

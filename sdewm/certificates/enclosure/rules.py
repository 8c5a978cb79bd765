"""Which torch functions have an enclosure, and with which arguments.

RULES maps the name of a function or method to its enclosure: a function of the execution and of the
arguments of the torch function, with sets where tensors were. An argument that a rule does not take
(`out`, another dtype) is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sdewm.certificates import activations
from sdewm.certificates.enclosure import affine, shapes
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
from sdewm.certificates.enclosure.products import multiply
from sdewm.certificates.enclosure.recurrent import gru
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet, upward


class Unsupported(ValueError):
    """Arguments of a torch function for which there is no enclosure."""


class Execution(Protocol):
    """What rules use of a `SetExecution`."""

    symbols: Symbols

    def as_set(self, values: TaylorSet | Tensor | float) -> TaylorSet:
        """A set, or an exact tensor or number as one."""
        ...


MOST_CLASSES = 1000  # of a softmax
Value = TaylorSet | Tensor | float
Rule = Callable[..., Any]


def _axis(values: TaylorSet, dim: int) -> int:
    count = len(values.shape)
    if dim is None or not -count <= dim < count:
        raise Unsupported(f"dim={dim}: expected an axis of {count}.")
    return int(dim) % count


def _pair(run: Execution, x: Value, other: Value) -> tuple[TaylorSet, TaylorSet]:
    """Both as sets; the box of one that is repeated becomes symbols first, so that it stays one."""
    first, second = run.as_set(x), run.as_set(other)
    shape = torch.broadcast_shapes(first.shape, second.shape)
    parts = [part if part.shape == shape else run.symbols.absorb(part) for part in (first, second)]
    return parts[0], parts[1]


def _add(run: Execution, x: Value, other: Value, *, alpha: float = 1.0) -> TaylorSet:
    if alpha != 1.0:
        other = _multiply(run, other, alpha)
    return affine.add(*_pair(run, x, other))


def _subtract(run: Execution, x: Value, other: Value) -> TaylorSet:
    return affine.add(*_pair(run, x, other), -1.0)


def _multiply(run: Execution, x: Value, other: Value) -> TaylorSet:
    if isinstance(x, TaylorSet) and isinstance(other, TaylorSet):
        return multiply(*_pair(run, x, other))
    if not isinstance(x, TaylorSet):
        x, other = other, x
    assert not isinstance(other, TaylorSet)
    return affine.scale(run.as_set(x), torch.as_tensor(other, dtype=torch.float64))


def _divide(run: Execution, x: Value, other: Value) -> TaylorSet:
    if not isinstance(other, TaylorSet):
        return affine.divide(run.as_set(x), torch.as_tensor(other, dtype=torch.float64))
    return _multiply(run, x, _reciprocal(run, other))


def _reciprocal(run: Execution, input: Value) -> TaylorSet:
    """1/x = s/(s x) with the sign s of each centre."""
    x = run.as_set(input)
    signs = torch.where(x.centre < 0, -1.0, 1.0).double()
    return affine.scale(apply(Power(-1.0, 0.0), affine.scale(x, signs)), signs)


WHOLE_POWERS = range(2, 9)


def _power(run: Execution, x: Value, exponent: Value) -> TaylorSet:
    if isinstance(exponent, (TaylorSet, Tensor)):
        raise Unsupported("expected a number as exponent.")
    base = run.as_set(x)
    if exponent in WHOLE_POWERS:
        found = base
        for _ in range(int(exponent) - 1):
            found = multiply(found, base)
        return found
    if exponent in (-1.0, -2.0):
        found = _reciprocal(run, base)
        return found if exponent == -1.0 else multiply(found, found)
    if exponent in (0.5, -0.5):
        return apply(Power(exponent, 0.0), base)
    raise Unsupported(f"exponent={exponent}: expected 2 to 8, 0.5, -0.5, -1 or -2.")


def _matmul(run: Execution, x: Value, other: Value) -> TaylorSet:
    if isinstance(other, TaylorSet) and not (isinstance(x, TaylorSet) and _is_constant(other)):
        if other.centre.dim() < 2:  # A x = (xᵀ Aᵀ)ᵀ
            raise Unsupported("expected a state with a batch axis.")
        turned = _transpose(run, other, -1, -2)
        matrix = x if isinstance(x, Tensor) else _transpose(run, x, -1, -2)
        if isinstance(matrix, Tensor):
            if matrix.dim() < 2:
                raise Unsupported("expected a matrix.")
            matrix = matrix.transpose(-1, -2)
        return _transpose(run, _times_matrix(run, turned, matrix), -1, -2)
    return _times_matrix(run, x, other)


def _is_constant(values: TaylorSet) -> bool:
    """Whether a set is that of one tensor, up to its roundings: of all rows, and of every e."""
    return not (values.rows or bool(values.linear.any()) or bool(values.quadratic.any()))


def _times_matrix(run: Execution, x: Value, weight: Value) -> TaylorSet:
    """The product with a matrix W that is known exactly, or up to the roundings of its own.

    Where W is in Ŵ ± ρ, |x (W − Ŵ)| ≤ size ρ.
    """
    values = run.as_set(x)
    if isinstance(weight, TaylorSet) and not _is_constant(weight):
        raise Unsupported("expected a matrix that does not depend on the state.")
    matrix = weight.centre if isinstance(weight, TaylorSet) else torch.as_tensor(weight)
    if matrix.dim() < 2 or (matrix.dim() > 2 and len(values.shape) < 2):
        raise Unsupported("expected a matrix, and a state with a batch axis for more of them.")
    found = affine.multiply_matrix(values, matrix, run.symbols)
    if isinstance(weight, TaylorSet):
        found = found.widened(upward(values.size @ weight.spread))
    return found


def _linear(run: Execution, input: Value, weight: Value, bias: Value | None = None) -> TaylorSet:
    axes = len(weight.shape) if isinstance(weight, (TaylorSet, Tensor)) else 0

    def turned(part: Tensor) -> Tensor:
        return part.T if axes == 2 else part[:, None]

    matrix = shapes.moved(weight, turned) if isinstance(weight, TaylorSet) else turned(weight)  # type: ignore[arg-type]
    found = _times_matrix(run, input, matrix)
    if axes == 1:
        found = shapes.moved(found, lambda part: part.squeeze(-1))
    return found if bias is None else affine.add(*_pair(run, found, bias))


def _addmm(run: Execution, input: Value, mat1: Value, mat2: Value) -> TaylorSet:
    return affine.add(run.as_set(input), _matmul(run, mat1, mat2))


def _lerp(run: Execution, input: Value, end: Value, weight: Value) -> TaylorSet:
    start = run.as_set(input)
    gap = affine.add(run.as_set(end), start, -1.0)
    return affine.add(start, _multiply(run, gap, weight))


def _sum(
    run: Execution, input: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> TaylorSet:
    found = run.as_set(input)
    axes = range(len(found.shape)) if dim is None else dim
    axes = axes if isinstance(axes, Iterable) and not isinstance(axes, Tensor) else [int(axes)]
    axes = [*axes] or range(len(found.shape))  # no axes are all, as in torch
    for axis in sorted({_axis(found, one) for one in axes}, reverse=True):
        found = affine.total(found, axis, keepdim)
    return found


def _mean(
    run: Execution, input: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> TaylorSet:
    x = run.as_set(input)
    found = _sum(run, x, dim, keepdim)
    count = math.prod(x.shape) // math.prod(found.shape)
    return affine.divide(found, torch.tensor(count, dtype=torch.float64))


def _gru_cell(
    run: Execution,
    input: Value,
    hx: Value,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> TaylorSet:
    x, h = run.as_set(input), run.as_set(hx)
    return gru(x, h, (w_ih, w_hh), (b_ih, b_hh), run.symbols)


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
        found = _multiply(run, found, weight)
    return found if bias is None else _add(run, found, bias)


def _scalar(function: Scalar) -> Rule:
    def rule(run: Execution, input: Value, inplace: bool = False) -> TaylorSet:
        if inplace:
            raise Unsupported("expected inplace=False.")
        return apply(function, run.as_set(input))

    return rule


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
        if x.shape[_axis(x, dim)] > MOST_CLASSES:
            raise Unsupported(f"{x.shape[dim]} classes: expected at most {MOST_CLASSES}.")
        # The box of each logit enters its own class and the sum: as symbols it is one in both.
        return function(run.symbols.absorb(x), _axis(x, dim))

    return rule


def _square(run: Execution, input: Value) -> TaylorSet:
    x = run.as_set(input)
    return multiply(x, x)


def _cat(run: Execution, tensors: Sequence[Value], dim: int = 0) -> TaylorSet:
    parts = [run.as_set(part) for part in tensors]
    parts = [part for part in parts if part.shape != (0,)]  # which torch leaves out
    return shapes.concatenate(parts, _axis(parts[0], dim))


def _stack(run: Execution, tensors: Sequence[Value], dim: int = 0) -> TaylorSet:
    parts = [run.as_set(part) for part in tensors]
    axis = dim % (len(parts[0].shape) + 1)
    wide = [shapes.moved(part, lambda some: some.unsqueeze(axis)) for part in parts]
    return shapes.concatenate(wide, axis)


def _pad(
    run: Execution,
    input: Value,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> TaylorSet:
    if mode != "constant" or value:
        raise Unsupported("expected mode='constant' with zeros.")
    return shapes.padded(run.as_set(input), pad)


def _diag_embed(run: Execution, input: Value) -> TaylorSet:
    x = run.as_set(input)
    unit = torch.eye(x.shape[-1], dtype=torch.float64)
    return affine.scale(shapes.moved(x, lambda part: part.unsqueeze(-1)), unit)


def _transpose(run: Execution, x: Value, dim0: int, dim1: int) -> TaylorSet:
    return shapes.moved(run.as_set(x), lambda part: part.transpose(dim0, dim1))


def _same(run: Execution, x: TaylorSet) -> TaylorSet:
    return x


def _to(run: Execution, x: TaylorSet | Tensor, *target: Any, **named: Any) -> TaylorSet | Tensor:
    """Conversions of a set that change nothing, and of a constant to the precision of a set."""
    for other in (*target, *named.values()):
        kind = other.centre.dtype if isinstance(other, TaylorSet) else other
        kind = kind.dtype if isinstance(kind, Tensor) else kind
        if isinstance(kind, torch.dtype) and kind != torch.float64:
            raise Unsupported(f"{kind} would round the state; expected torch.float64.")
    return x.double() if isinstance(x, Tensor) else x


def _float(run: Execution, x: TaylorSet) -> TaylorSet:
    raise Unsupported("torch.float32 would round the state; expected torch.float64.")


def _moving(name: str) -> Rule:
    """A function of one tensor that moves numbers, and its method of the same name."""

    def rule(run: Execution, x: TaylorSet, *args: Any, **kwargs: Any) -> TaylorSet:
        if any(isinstance(one, torch.dtype) for one in (*args, *kwargs.values())):
            raise Unsupported("expected no dtype.")
        return shapes.moved(x, lambda part: getattr(part, name)(*args, **kwargs))

    return rule


def _expand_as(run: Execution, x: Value, other: Value) -> TaylorSet:
    shape = run.as_set(other).shape
    return shapes.moved(run.as_set(x), lambda part: part.expand(shape))


def _cutting(name: str) -> Rule:
    """A function that cuts one tensor into several."""

    def rule(run: Execution, x: TaylorSet, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        def cut(part: Tensor) -> Any:
            return getattr(part, name)(*args, **kwargs)

        return shapes.split(x, cut(x.centre), cut)

    return rule


def _index(run: Execution, x: TaylorSet, index: Any) -> TaylorSet:
    return shapes.moved(x, lambda part: part[index])


def _constant_like(name: str) -> Rule:
    def rule(run: Execution, x: TaylorSet, *args: Any, **kwargs: Any) -> Tensor:
        return getattr(torch, name)(x.centre, *args, **kwargs)

    return rule


def _new(name: str) -> Rule:
    def rule(run: Execution, x: TaylorSet, *args: Any, **kwargs: Any) -> Tensor:
        return getattr(x.centre, name)(*args, **kwargs)

    return rule


MOVES = (
    *("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute"),
    *("expand", "expand_as", "repeat", "flip", "narrow", "select", "index_select", "t"),
    *("broadcast_to", "movedim", "roll", "repeat_interleave", "swapaxes"),
)
CUTS = ("chunk", "split", "unbind", "tensor_split")
RULES: dict[str, Rule] = {
    **{name: _moving(name) for name in MOVES},
    "expand_as": _expand_as,
    **{name: _cutting(name) for name in CUTS},
    **{name: _same for name in ("contiguous", "clone", "detach", "double")},
    **{name: _constant_like(name) for name in ("zeros_like", "ones_like", "full_like")},
    **{name: _new(name) for name in ("new_zeros", "new_ones", "new_full", "new_tensor")},
    "T.__get__": lambda run, x: shapes.moved(x, lambda part: part.T),
    "mT.__get__": lambda run, x: shapes.moved(x, lambda part: part.mT),
    "__getitem__": _index,
    "cat": _cat,
    "concat": _cat,
    "stack": _stack,
    "pad": _pad,
    "diag_embed": _diag_embed,
    "to": _to,
    "type_as": _to,
    "float": _float,
    "half": _float,
    "bfloat16": _float,
    "add": _add,
    "__add__": _add,
    "__radd__": _add,
    "sub": _subtract,
    "subtract": _subtract,
    "__sub__": _subtract,
    "rsub": lambda run, x, other: _subtract(run, other, x),
    "__rsub__": lambda run, x, other: _subtract(run, other, x),
    "neg": lambda run, x: affine.negate(run.as_set(x)),
    "__neg__": lambda run, x: affine.negate(run.as_set(x)),
    "mul": _multiply,
    "multiply": _multiply,
    "__mul__": _multiply,
    "__rmul__": _multiply,
    "div": _divide,
    "divide": _divide,
    "true_divide": _divide,
    "__truediv__": _divide,
    "__rtruediv__": lambda run, x, other: _divide(run, other, x),
    "__rdiv__": lambda run, x, other: _divide(run, other, x),
    "reciprocal": _reciprocal,
    "sqrt": _scalar(Power(0.5, 0.0)),
    "rsqrt": _scalar(Power(-0.5, 0.0)),
    "square": _square,
    "pow": _power,
    "__pow__": _power,
    "lerp": _lerp,
    "sum": _sum,
    "mean": _mean,
    "matmul": _matmul,
    "__matmul__": _matmul,
    "__rmatmul__": lambda run, x, other: _matmul(run, other, x),
    "mm": _matmul,
    "bmm": _matmul,
    "linear": _linear,
    "addmm": _addmm,
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
    *("T.__get__", "mT.__get__", "__getitem__", "cat", "concat", "stack", "to", "type_as"),
    *("contiguous", "clone", "detach", "double", "neg", "__neg__", "abs", "__abs__", "clamp"),
    *("minimum", "maximum", "where", "sign", "relu", "round", "floor", "ceil"),
    *("zeros", "ones", "full", "eye", "arange", "tensor", "as_tensor", "zeros_like", "ones_like"),
    *("full_like", "new_zeros", "new_ones", "new_full", "new_tensor", "diag", "diag_embed", "pad"),
    *("eq", "ne", "lt", "le", "gt", "ge", "__eq__", "__ne__", "__lt__", "__le__", "__gt__"),
    *("__ge__", "isfinite", "all", "any", "max", "min", "amax", "amin", "item", "tolist"),
    *("__bool__", "__int__", "__float__", "data.__get__", "long", "int", "bool", "tril", "triu"),
}

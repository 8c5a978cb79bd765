"""Operations whose higher derivatives torch gets wrong, or refuses, written in elementary ones.

Seen in torch 2.13: layer, group and instance normalisation lose the derivative of their mean and
variance when they are differentiated repeatedly (pytorch/pytorch#196700), silently; SiLU, Mish and
GLU have no third derivative in forward mode; fused attention has no forward mode at all.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.func import jvp
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

Weights = torch.Tensor | None
_C: Any = torch._C  # its parts are not declared to type checkers


@cache
def load_forward_rules() -> None:
    """Let torch load its forward-mode rules: some versions warn of their own use of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


def layer_norm(
    input: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: Weights = None,
    bias: Weights = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> torch.Tensor:
    """`torch.nn.functional.layer_norm`, at least in float32 inside."""
    axes = tuple(range(-len(normalized_shape), 0))
    scaled = _standardised(input, axes, eps)
    scaled = scaled if weight is None else scaled * weight
    return (scaled if bias is None else scaled + bias).to(input.dtype)


def group_norm(
    input: torch.Tensor,
    num_groups: int,
    weight: Weights = None,
    bias: Weights = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """`torch.nn.functional.group_norm`, at least in float32 inside."""
    grouped = input.reshape(input.shape[0], num_groups, -1)
    scaled = _standardised(grouped, (2,), eps).reshape(input.shape)
    return _per_channel(scaled, weight, bias).to(input.dtype)


def instance_norm(
    input: torch.Tensor,
    running_mean: Weights = None,
    running_var: Weights = None,
    weight: Weights = None,
    bias: Weights = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """`torch.nn.functional.instance_norm`, at least in float32 inside; running statistics stay."""
    if use_input_stats:
        scaled = _standardised(input, tuple(range(2, input.dim())), eps)
    else:
        scaled = _with_statistics(input, running_mean, running_var, eps)
    return _per_channel(scaled, weight, bias).to(input.dtype)


def batch_norm(
    input: torch.Tensor,
    running_mean: Weights,
    running_var: Weights,
    weight: Weights = None,
    bias: Weights = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """`torch.nn.functional.batch_norm`, at least in float32 inside; running statistics stay."""
    if training:
        scaled = _standardised(input, (0, *range(2, input.dim())), eps)
    else:
        scaled = _with_statistics(input, running_mean, running_var, eps)
    return _per_channel(scaled, weight, bias).to(input.dtype)


def silu(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """x·sigmoid(x)."""
    return input * torch.sigmoid(input)


def mish(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """x·tanh(ln(1 + eˣ))."""
    return input * torch.tanh(functional.softplus(input))


def glu(input: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """a·sigmoid(b) of the two halves."""
    first, second = input.chunk(2, dim)
    return first * torch.sigmoid(second)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """`scaled_dot_product_attention` by its definition."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (part.repeat_interleave(repeats, -3) for part in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = factor * query @ key.transpose(-2, -1)
    if is_causal:
        rows = torch.arange(scores.shape[-2], device=scores.device)[:, None]
        attn_mask = rows >= torch.arange(scores.shape[-1], device=scores.device)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = functional.dropout(torch.softmax(scores, -1), dropout_p, dropout_p > 0)
    return weights @ value


def _standardised(x: torch.Tensor, axes: tuple[int, ...], eps: float) -> torch.Tensor:
    """(x − mean)/√(variance + eps) over the axes, at least in float32."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + eps)


def _with_statistics(x: torch.Tensor, mean: Weights, variance: Weights, eps: float) -> torch.Tensor:
    """(x − mean)/√(variance + eps) with one mean and variance per channel, axis 1."""
    assert mean is not None and variance is not None
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - _channels(mean, x)
    return centred * torch.rsqrt(_channels(variance, x) + eps)


def _per_channel(x: torch.Tensor, weight: Weights, bias: Weights) -> torch.Tensor:
    """weight·x + bias with one weight and bias per channel, axis 1."""
    x = x if weight is None else x * _channels(weight, x)
    return x if bias is None else x + _channels(bias, x)


def _channels(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *[1] * (like.dim() - 2))


# The doors by which Python code reaches each of them; modules go through the functional ones.
_ELEMENTARY: dict[Any, Any] = {
    functional.layer_norm: layer_norm,
    torch.layer_norm: layer_norm,
    functional.group_norm: group_norm,
    torch.group_norm: group_norm,
    functional.instance_norm: instance_norm,
    functional.batch_norm: batch_norm,
    functional.silu: silu,
    _C._nn.silu: silu,
    functional.mish: mish,
    _C._nn.mish: mish,
    functional.glu: glu,
    _C._nn.glu: glu,
    functional.scaled_dot_product_attention: attention,
}
# Torch's own layer norm has right derivatives if both are taken backwards (vjp, then backward).
RIGHT_IN_REVERSE = frozenset({functional.layer_norm, torch.layer_norm})
_NATIVE = (torch.instance_norm, torch.batch_norm)  # other order of arguments: see below


def _read(tensor: torch.Tensor) -> np.ndarray:
    """The values for NumPy, also of a time inside a derivative, where they have no address.

    Raises:
        ValueError: a state that is being differentiated: its derivative would be lost.
    """
    inner = tensor
    # One number without a derivative comes from the time: one that comes from states mixes rows,
    # which is checked elsewhere.
    while inner.dim() == 0 and _C._functorch.is_gradtrackingtensor(inner):
        if inner.requires_grad or forward_ad.unpack_dual(inner, level=0).tangent is not None:
            break
        inner = _C._functorch.get_unwrapped(inner)
    if _C._functorch.is_functorch_wrapped_tensor(inner):
        raise ValueError(
            "a state is read outside torch, by NumPy, so that its derivative is lost: compute "
            "with it in torch; only the time may be read."
        )
    return np.array(inner.tolist())


class ElementaryOperations(TorchFunctionMode):
    """Inside, the operations of this file run in their elementary form, so derivatives are right.

    Args:
        keep: functions left as they are.

    >>> load_forward_rules()
    >>> x = torch.tensor([[0.5, 1.0, 2.0]], dtype=torch.float64)
    >>> norm = lambda x: functional.layer_norm(x, (3,))
    >>> slope = lambda x: jvp(norm, (x,), (x**2,))[1]
    >>> wrong = jvp(slope, (x,), (x**2,))[1]
    >>> with ElementaryOperations():
    ...     right = jvp(slope, (x,), (x**2,))[1]
    >>> differences = [(slope(x + h * x**2) - slope(x - h * x**2)) / (2 * h) for h in (1e-5,)][0]
    >>> torch.allclose(right, differences, atol=1e-6), torch.allclose(wrong, differences, atol=1e-6)
    (True, False)
    """

    def __init__(self, keep: frozenset[Any] = frozenset()) -> None:
        super().__init__()
        self._forms = {func: form for func, form in _ELEMENTARY.items() if func not in keep}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function itself, or its elementary form."""
        if func in (torch.Tensor.__array__, torch.Tensor.numpy):
            return _read(args[0])
        if func in _NATIVE:  # (input, weight, bias, mean, var, training, momentum, eps, cudnn)
            x, weight, bias, mean, variance, *rest = args
            chosen = instance_norm if func is torch.instance_norm else batch_norm
            return chosen(x, mean, variance, weight, bias, *rest, **(kwargs or {}))
        if func is functional.multi_head_attention_forward:  # calls attention out of our sight
            with sdpa_kernel(SDPBackend.MATH):
                return func(*args, **(kwargs or {}))
        return self._forms.get(func, func)(*args, **(kwargs or {}))

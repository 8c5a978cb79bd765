"""Supported torch modules: checks, and conversion to layers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from sdewm.certificates import activations
from sdewm.certificates.activations import Activation
from sdewm.certificates.layers import Chain, Elementwise, Layer, Linear, Residual, exact
from sdewm.certificates.normalisation import Normalisation

LEAST_THRESHOLD = 15.0  # of Softplus, which jumps by e^(−threshold)/β there: 3e-7


def _softplus(module: nn.Softplus) -> Activation:
    if not (module.beta > 0 and module.threshold >= LEAST_THRESHOLD):
        raise ValueError(
            f"Softplus with beta={module.beta}, threshold={module.threshold}: expected beta > 0 "
            f"and threshold >= {LEAST_THRESHOLD:g}; for smaller thresholds torch's softplus has a "
            "jump."
        )
    return activations.softplus(module.beta, module.threshold)


ACTIVATIONS: dict[type[nn.Module], Callable[..., Activation]] = {
    nn.Tanh: lambda module: activations.TANH,
    nn.Sigmoid: lambda module: activations.SIGMOID,
    nn.SiLU: lambda module: activations.SILU,
    nn.ReLU: lambda module: activations.RELU,
    nn.GELU: lambda module: (
        activations.GELU if module.approximate == "none" else activations.GELU_TANH
    ),
    nn.Softplus: _softplus,
    nn.ELU: lambda module: activations.elu(module.alpha),
}
SUPPORTED = (
    "Linear, Tanh, Sigmoid, Softplus, SiLU, GELU, ELU, ReLU, Identity, LayerNorm, RMSNorm, "
    "Sequential and Residual of these, GRUCell (by itself)"
)


def check_module(module: object) -> None:
    """Check that a module computes what its classes define, with finite real parameters.

    Raises:
        ValueError: it is not a torch.nn.Module; it has a forward hook (as the old-style weight and
            spectral normalisation have) or a replaced `forward`; or a parameter is not finite or
            not real.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module={type(module).__name__}: expected a torch.nn.Module.")
    for name, part in module.named_modules():
        where = f"{name or 'module'} ({type(part).__name__})"
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            raise ValueError(
                f"{where} has forward hooks or a replaced forward, which may change its output; "
                "remove them."
            )
    for name, parameter in module.named_parameters():
        where = f"parameter {name} of {type(module).__name__}"
        if isinstance(parameter, nn.UninitializedParameter) or parameter.is_meta:
            raise ValueError(f"{where} is uninitialised or on the meta device; initialise it.")
        if not parameter.is_floating_point() or not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"{where} is not finite or not of a real floating-point dtype.")


def check_sizes(layers: tuple[Layer, ...], size: int | None) -> int | None:
    """The number of outputs of the layers for `size` inputs; None if it is not determined.

    Raises:
        ValueError: the number of inputs of a layer differs from the number of outputs before it.
    """
    for layer in layers:
        given = layer.size if size is None else size
        if layer.size not in (None, given):
            raise ValueError(f"module: a layer with {layer.size} inputs receives {given} values.")
        size = given
        if isinstance(layer, Linear):
            size = len(layer.weight)
        elif isinstance(layer, Chain):
            size = check_sizes(layer.layers, given)
            if size != given:
                raise ValueError(
                    f"module: the inner module of a Residual maps {given} values to {size}; "
                    "expected equal numbers."
                )
    return size


def read(module: nn.Module) -> tuple[Layer, ...]:
    """The layers of a module.

    Raises:
        ValueError: see `check_module`; or the module or a submodule is not supported.
    """
    check_module(module)
    kind = type(module)  # a subclass may compute something else
    if kind in ACTIVATIONS:
        return (Elementwise(ACTIVATIONS[kind](module)),)
    if isinstance(module, nn.Sequential) and kind is nn.Sequential:
        return tuple(layer for child in module for layer in read(child))
    if isinstance(module, Residual) and kind is Residual:
        return (Chain(read(module.inner), residual=True),)
    if isinstance(module, nn.Linear) and kind is nn.Linear:
        weight = exact(module.weight, module.weight)
        return (Linear(weight, exact(module.bias, weight[:, 0])),)
    if kind is nn.Identity:
        return ()
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and kind in (nn.LayerNorm, nn.RMSNorm):
        return (_read_normalisation(module),)
    raise ValueError(
        f"module={kind.__name__} is not supported; supported are {SUPPORTED}. "
        + ("Remove it: it is the identity in eval mode." if "Dropout" in kind.__name__ else "")
    )


def _read_normalisation(module: nn.LayerNorm | nn.RMSNorm) -> Normalisation:
    name, shape = type(module).__name__, tuple(module.normalized_shape)
    if len(shape) != 1:
        raise ValueError(
            f"{name} with normalized_shape={shape}: expected the last dimension only, such as (n,)."
        )
    if module.eps is None and module.weight is None:
        raise ValueError(
            f"{name} with eps=None and no weight: eps would depend on the input's dtype; set eps."
        )
    dtype = torch.float64 if module.weight is None else module.weight.dtype
    floor = torch.finfo(dtype).eps if module.eps is None else module.eps
    if not (0.0 < floor < math.inf):
        raise ValueError(f"{name} with eps={floor}: expected a positive number.")
    like = torch.zeros(shape, dtype=torch.float64)
    bias = module.bias if isinstance(module, nn.LayerNorm) else None
    centred = isinstance(module, nn.LayerNorm)
    return Normalisation(exact(module.weight, like, 1.0), exact(bias, like), floor, centred)

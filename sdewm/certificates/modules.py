"""Supported torch modules: checks, and conversion to layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn.modules import module as every_module

from sdewm.certificates import activations
from sdewm.certificates.activations import Activation
from sdewm.certificates.layers import Chain, Elementwise, Layer, Linear, Residual, exact
from sdewm.certificates.module_chain import NoChain, chain_of, check_branches
from sdewm.certificates.normalisation import Normalisation

LEAST_THRESHOLD = 15.0  # of Softplus, which jumps by e^(−threshold)/β there: 3e-7
MOST_THRESHOLD = 700.0  # of Softplus, whose exponential e^threshold overflows beyond 709


def _softplus(module: nn.Softplus) -> Activation:
    usual = LEAST_THRESHOLD <= module.threshold <= MOST_THRESHOLD
    if not (0 < module.beta < math.inf and usual):
        raise ValueError(
            f"Softplus with beta={module.beta}, threshold={module.threshold}: expected beta > 0 "
            f"and threshold >= {LEAST_THRESHOLD:g}, both finite, and threshold <= "
            f"{MOST_THRESHOLD:g}; for smaller thresholds torch's softplus has a jump, and for "
            "larger ones it overflows."
        )
    return activations.softplus(module.beta, module.threshold)


def _elu(module: nn.ELU) -> Activation:
    if not math.isfinite(module.alpha):
        raise ValueError(f"ELU with alpha={module.alpha}: expected a finite number.")
    return activations.elu(module.alpha)


ACTIVATIONS: dict[type[nn.Module], Callable[..., Activation]] = {
    nn.Tanh: lambda module: activations.TANH,
    nn.Sigmoid: lambda module: activations.SIGMOID,
    nn.SiLU: lambda module: activations.SILU,
    nn.Mish: lambda module: activations.MISH,
    nn.ReLU: lambda module: activations.RELU,
    nn.GELU: lambda module: (
        activations.GELU if module.approximate == "none" else activations.GELU_TANH
    ),
    nn.Softplus: _softplus,
    nn.ELU: _elu,
}
KINDS = {nn.Linear, nn.Sequential, nn.Identity, nn.LayerNorm, nn.RMSNorm, Residual, *ACTIVATIONS}
SUPPORTED = (
    "Linear, Tanh, Sigmoid, Softplus, SiLU, Mish, GELU, ELU, ReLU, Identity, LayerNorm, RMSNorm, "
    "Sequential, Residual and your own chains of these, GRUCell (by itself)"
)


# What a class may define without computing anything else than the class above it.
UNCHANGED = frozenset(
    ("__init__", "__module__", "__qualname__", "__doc__", "__annotations__", "__firstlineno__")
    + ("__static_attributes__", "__annotate__", "__annotate_func__", "__parameters__")
)


def check_module(module: object) -> None:
    """Check that a module computes what its classes define, with finite real parameters.

    Raises:
        ValueError: it is not a torch.nn.Module; it has a forward hook (as the old-style weight and
            spectral normalisation have), its own or one of all modules, or a replaced `forward`;
            or a parameter is not finite, not real or empty.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module={type(module).__name__}: expected a torch.nn.Module.")
    if every_module._global_forward_hooks or every_module._global_forward_pre_hooks:
        raise ValueError(
            "module: forward hooks of all modules are registered, which may change its output; "
            "remove them."
        )
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
        if parameter.numel() == 0:
            raise ValueError(f"{where} is empty; expected layers with inputs and outputs.")


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


def read(module: nn.Module, place: str = "module") -> tuple[Layer, ...]:
    """The layers of a module, which messages call by its place in the network.

    Raises:
        ValueError: see `check_module`; or the module or a submodule is not supported.
    """
    check_module(module)
    kind = _plain_kind(type(module))
    if kind in ACTIVATIONS:
        return (Elementwise(ACTIVATIONS[kind](module)),)
    if isinstance(module, nn.Sequential) and kind is nn.Sequential:
        # named_children() would leave out a module that comes a second time.
        return _read_each(zip(module._modules, module, strict=True), place)
    if isinstance(module, Residual) and kind is Residual:
        if any(getattr(part, "inplace", False) for part in module.inner.modules()):
            raise ValueError(
                f"{place}: a Residual with an activation of inplace=True inside, which changes the "
                "input that is added; expected inplace=False."
            )
        return (Chain(read(module.inner, f"{place}.inner"), residual=True),)
    if isinstance(module, nn.Linear) and kind is nn.Linear:
        weight = exact(module.weight, module.weight)
        return (Linear(weight, exact(module.bias, weight[:, 0])),)
    if kind is nn.Identity:
        return ()
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and kind in (nn.LayerNorm, nn.RMSNorm):
        return (_read_normalisation(module),)
    return _read_own(module, place)


def _plain_kind(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of torch, or ours, that a class is but for its constructor and documentation."""
    plain = kind
    while plain not in KINDS and len(plain.__bases__) == 1 and vars(plain).keys() <= UNCHANGED:
        plain = plain.__bases__[0]
    return plain if plain in KINDS else kind


def _read_each(children: Iterable[tuple[str, nn.Module]], place: str) -> tuple[Layer, ...]:
    return tuple(layer for name, child in children for layer in read(child, f"{place}.{name}"))


def _read_own(module: nn.Module, place: str) -> tuple[Layer, ...]:
    """The layers of a module with a forward of its own, if that is a chain of supported modules."""
    kind = type(module)
    if kind.__module__.startswith("torch."):
        why = "Remove it: it is the identity in eval mode." if "Dropout" in kind.__name__ else ""
        raise _unsupported(module, place, why)
    try:
        chain = chain_of(module)
    except NoChain as reason:
        raise _unsupported(module, place, f"Of its forward: {reason}.") from reason
    names = {id(part): name for name, part in module.named_modules()}
    each = ((names.get(id(part), type(part).__name__), part) for part in chain)
    layers = _read_each(each, place)
    try:
        _check_values(module, Chain(layers))
    except NoChain as reason:
        raise _unsupported(module, place, f"Of its forward: {reason}.") from reason
    return layers


def _check_values(module: nn.Module, chain: Chain) -> None:
    """NoChain unless module and chain have the same values at a few points."""
    like = next(module.parameters(), torch.zeros(1, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    check_sizes(chain.layers, chain.size)
    size = chain.size or 3
    rows = 2 * torch.randn(8, size, dtype=torch.float64, generator=generator)
    check_branches(module, rows.to(like))
    given = rows.to(like, copy=True)
    with torch.no_grad():
        found = module(given)
    if not torch.equal(given, rows.to(like)):
        raise NoChain("it changes its input in place")
    nothing = torch.zeros_like(rows)
    expected = chain.taylor(rows, nothing, nothing)[0]
    rounding = torch.finfo(like.dtype).eps ** 0.5
    scale = rounding * (1.0 + float(expected.abs().max()))
    if found.shape != expected.shape or not torch.allclose(
        found.to(expected), expected, rtol=rounding, atol=scale
    ):
        raise NoChain("it gives other values than what torch.fx records of it")


def _unsupported(module: nn.Module, place: str, why: str) -> ValueError:
    kind = type(module)
    parent = "torch.nn" if kind.__module__.startswith("torch.nn.") else kind.__module__
    return ValueError(
        f"{place}={parent}.{kind.__qualname__} is not supported; supported are {SUPPORTED}. {why}"
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

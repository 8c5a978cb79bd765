"""Layers, multilayer perceptrons and their weight initialisation."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from sdewm.base.checks import check_choice
from sdewm.model.distributions import widen

# Truncation at two standard deviations reduces the standard deviation by the factor 0.8796.
TRUNCATION = 1.1368
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "elu": nn.ELU}
NORMS = ("rms", "layer", "none")
Module = TypeVar("Module", bound=nn.Module)


class RMSNorm(nn.RMSNorm):
    """Root-mean-square normalisation, computed in float32 or wider."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, size), in the dtype of x."""
        return super().forward(widen(x)).to(x.dtype)


def make_norm(kind: str, size: int) -> nn.Module:
    """Normalisation of the last axis: "rms" (ε = 1e-4), "layer" (ε = 1e-3) or "none"."""
    check_choice("norm", kind, NORMS)
    if kind == "rms":
        return RMSNorm(size, eps=1e-4)
    return nn.LayerNorm(size, eps=1e-3) if kind == "layer" else nn.Identity()


def initialise(weight: Tensor, fan_in: int, scale: float, generator: torch.Generator) -> None:
    """Truncated normal (at 2 std), of standard deviation scale/√fan_in after truncation."""
    std = TRUNCATION * scale / math.sqrt(fan_in)
    if scale == 0.0:
        nn.init.zeros_(weight)
    else:
        nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator=generator)


def initialise_all(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise every linear and convolutional layer below `module`; biases are zero.

    A layer may have the attribute `output_scale` (default 1): 0 for reward and value heads, 0.01
    for policies. It may have `fan_in` if its output is added to those of other layers.
    """
    for layer in module.modules():
        scale = getattr(layer, "output_scale", 1.0)
        if isinstance(layer, nn.Linear):
            fan_in = getattr(layer, "fan_in", layer.in_features)
            initialise(layer.weight, fan_in, scale, generator)
        elif isinstance(layer, BlockLinear):
            # The fan-in counts all inputs, not those of one block: the published convention.
            fan_in = getattr(layer, "fan_in", layer.weight[:, :, 0].numel())
            initialise(layer.weight, fan_in, scale, generator)
        elif isinstance(layer, nn.Conv2d):
            initialise(layer.weight, layer.weight[0].numel(), scale, generator)
        elif isinstance(layer, nn.ConvTranspose2d):
            # Each output pixel sees (kernel / stride)² of the kernel's positions.
            seen = math.prod(layer.kernel_size) / math.prod(layer.stride)
            initialise(layer.weight, round(layer.in_channels * seen), scale, generator)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class BlockLinear(nn.Module):
    """Linear layer with a block-diagonal matrix: block g of the input feeds block g of the output.

    Args:
        inputs: size of the input, a multiple of `blocks`.
        outputs: size of the output, a multiple of `blocks`.
        blocks: number of blocks.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        for name, size in (("inputs", inputs), ("outputs", outputs)):
            if size % blocks:
                raise ValueError(f"{name}={size}: expected a multiple of blocks={blocks}.")
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) → (…, outputs)."""
        blocks, size, _ = self.weight.shape
        parts = x.reshape(-1, blocks, size).transpose(0, 1)  # (G, N, inputs / G)
        out = torch.bmm(parts, self.weight)  # (G, N, outputs / G)
        return out.transpose(0, 1).reshape(*x.shape[:-1], -1) + self.bias


class Dense(nn.Sequential):
    """Linear, normalisation, activation."""

    def __init__(self, inputs: int, outputs: int, norm: str, activation: str) -> None:
        super().__init__(
            nn.Linear(inputs, outputs),
            make_norm(norm, outputs),
            ACTIVATIONS[check_choice("activation", activation, ACTIVATIONS)](),
        )


class MLP(nn.Sequential):
    """`layers` of `Dense`, then a linear layer if `outputs` is given.

    Args:
        inputs: size of the input.
        units: size of each hidden layer.
        layers: number of hidden layers, possibly 0.
        outputs: size of a final linear layer; None for none.
        norm: see `make_norm`.
        activation: a key of `ACTIVATIONS`.
        output_scale: factor on the initial weights of the final layer.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        layers: int,
        outputs: int | None,
        norm: str,
        activation: str,
        output_scale: float = 1.0,
    ) -> None:
        sizes = [inputs] + [units] * layers
        blocks: list[nn.Module] = [
            Dense(a, b, norm, activation) for a, b in zip(sizes, sizes[1:], strict=False)
        ]
        if outputs is not None:
            last = nn.Linear(sizes[-1], outputs)
            last.output_scale = output_scale  # type: ignore[assignment]
            blocks.append(last)
        super().__init__(*blocks)


class SumLinear(nn.Module):
    """One linear layer on [x, y], stored as two so that the y part can be precomputed.

    The recurrent state x is computed step by step; y (observations, actions) is known for all
    steps.
    """

    def __init__(self, inputs_x: int, inputs_y: int, outputs: int) -> None:
        super().__init__()
        self.of_x = nn.Linear(inputs_x, outputs)
        self.of_y = nn.Linear(inputs_y, outputs, bias=False)
        self.of_x.fan_in = self.of_y.fan_in = inputs_x + inputs_y  # type: ignore[assignment]

    def forward(self, x: Tensor, part_of_y: Tensor) -> Tensor:
        """W_x x + b + `part_of_y`, where `part_of_y` is `self.of_y(y)`."""
        return self.of_x(x) + part_of_y


def share_frozen(module: Module) -> Module:
    """A copy that shares the weights, follows in-place updates, and receives no gradient.

    The actor is trained through it, because its loss must not change the world model or the critic.
    Create it after the module is on its device; loading a state dict preserves the sharing.
    """
    copied = copy.deepcopy(module).requires_grad_(False)
    for mine, theirs in zip(copied.parameters(), module.parameters(), strict=True):
        mine.data = theirs.data
    for name, buffer in module.named_buffers():
        owner, _, leaf = name.rpartition(".")
        copied.get_submodule(owner)._buffers[leaf] = buffer
    return copied

"""Random networks and boxes for the tests of certificates."""

from collections.abc import Iterator

import torch
from torch import nn

from sdewm.certificates.layers import Residual

ACTIVATIONS = [
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.SiLU,
    nn.Mish,
    nn.GELU,
    lambda: nn.GELU(approximate="tanh"),
    nn.ELU,
    nn.ReLU,
]
Region = tuple[torch.Tensor, torch.Tensor]


class Draw:
    """Numbers from one generator."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def whole(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=self.generator)

    def power(self, low: float, high: float) -> float:
        return 10.0 ** (low + (high - low) * float(torch.rand(1, generator=self.generator)))

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        layer = nn.Linear(inputs, outputs, dtype=torch.float64)
        layer.weight.data = self.normal(outputs, inputs) * self.power(-0.6, 0.6) / inputs**0.5
        layer.bias.data = self.normal(outputs)
        return layer

    def activation(self) -> nn.Module:
        return ACTIVATIONS[self.whole(0, len(ACTIVATIONS) - 1)]()


def perceptron(draw: Draw) -> tuple[nn.Module, int]:
    """One to four linear layers, with normalisations and residual connections here and there."""
    size = draw.whole(1, 5)
    outputs = size if draw.whole(0, 1) else draw.whole(1, 5)
    depth = draw.whole(1, 4)
    widths = [size, *(draw.whole(1, 8) for _ in range(depth - 1)), outputs]
    layers: list[nn.Module] = []
    for index, (before, width) in enumerate(zip(widths, widths[1:], strict=False)):
        layers.append(draw.linear(before, width))
        if draw.whole(0, 4) == 0:
            kind = nn.LayerNorm if draw.whole(0, 1) else nn.RMSNorm
            layers.append(kind(width, eps=(1e-3, 1e-5)[draw.whole(0, 1)], dtype=torch.float64))
            layers[-1].weight.data = draw.normal(width)
        if index < depth - 1 or draw.whole(0, 1):
            layers.append(draw.activation())
        if draw.whole(0, 4) == 0:
            inner = (draw.linear(width, 4), draw.activation(), draw.linear(4, width))
            layers.append(Residual(nn.Sequential(*inner)))
    network = nn.Sequential(*layers)
    whole = size == outputs and draw.whole(0, 1)
    return (Residual(network) if whole else network), size


def gated(draw: Draw) -> tuple[nn.Module, int]:
    """A GRU cell, with or without biases."""
    inputs, hidden = draw.whole(1, 3), draw.whole(1, 4)
    cell = nn.GRUCell(inputs, hidden, bias=bool(draw.whole(0, 3)), dtype=torch.float64)
    for parameter in cell.parameters():
        parameter.data = draw.normal(*parameter.shape) * draw.power(-0.5, 0.3)
    return cell, inputs + hidden


def cases(first: int, last: int) -> Iterator[tuple[nn.Module, Region]]:
    """Networks with a box each; every fifth is a GRU cell."""
    for seed in range(first, last):
        draw = Draw(seed)
        module, size = gated(draw) if seed % 5 == 4 else perceptron(draw)
        centre = draw.normal(size)
        if seed % 5 == 4:
            centre = torch.tanh(centre)
        width = draw.power(-2.5, 0.5)
        yield module, (centre - width, centre + width)


def values(module: nn.Module, points: torch.Tensor) -> torch.Tensor:
    """What torch computes."""
    with torch.no_grad():
        if isinstance(module, nn.GRUCell):
            inputs = module.input_size
            return module(points[:, :inputs], points[:, inputs:])
        return module(points)

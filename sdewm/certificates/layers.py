"""Layers of networks in float64, with interval evaluation and enclosures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import nn

from sdewm.certificates.activations import Activation, Triple
from sdewm.certificates.derivative_enclosure import (
    Enclosure,
    after,
    after_elementwise,
    after_linear,
    identity_on,
    plus_identity,
)
from sdewm.certificates.interval import Interval, image, product
from sdewm.certificates.norms import row_sums, spectral_norm


class Residual(nn.Module):
    """The map x -> x + inner(x).

    Args:
        inner: a module from Rⁿ to Rⁿ.

    >>> double = Residual(torch.nn.Identity())
    >>> double(torch.tensor([1.5]))
    tensor([3.])
    """

    def __init__(self, inner: nn.Module) -> None:
        """Store the module."""
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the same shape as x."""
        return x + self.inner(x)


class Layer(Protocol):
    """A map of vectors; `size` is its number of inputs, or None if any number is accepted."""

    @property
    def size(self) -> int | None:
        """Number of inputs, or None."""
        ...

    def taylor(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> Triple:
        """f(x), Df(x) y and Df(x) w + D²f(x)[y, y], each (B, m), for x, y, w (B, n), float64."""
        ...

    def values(self, box: Interval) -> Interval:
        """An interval that contains f(x) for x in a box (n,)."""
        ...

    def enclose(self, box: Interval) -> Enclosure:
        """The enclosure of f over a box (n,)."""
        ...


@dataclass(frozen=True)
class Linear:
    """x -> W x + b."""

    weight: torch.Tensor
    bias: torch.Tensor

    @property
    def size(self) -> int:
        """Number of inputs: the columns of W."""
        return self.weight.shape[1]

    @cached_property
    def norms(self) -> tuple[float, float]:
        """Upper bounds of |W|₂ and |W|_∞."""
        return spectral_norm(self.weight), float(row_sums(self.weight).max())

    def taylor(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> Triple:
        """W x + b, W y and W w, since D²f = 0."""
        matrix = self.weight.T
        return x @ matrix + self.bias, y @ matrix, w @ matrix

    def values(self, box: Interval) -> Interval:
        """The interval W box + b."""
        return image(self.weight, box).plus(Interval.of(self.bias))

    def enclose(self, box: Interval) -> Enclosure:
        """The enclosure of x -> W x + b over a box (n,)."""
        return self.after(identity_on(box), box)

    def after(self, inner: Enclosure, box: Interval) -> Enclosure:
        """The enclosure of this map after another one with values in the box."""
        return after_linear(self.weight, self.norms, inner, self.values(box))


@dataclass(frozen=True)
class Elementwise:
    """x -> φ(x), entry by entry."""

    activation: Activation
    size = None

    def taylor(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> Triple:
        """φ(x), φ'(x) y and φ'(x) w + φ''(x) y²."""
        return self.activation.taylor(x, y, w)

    def values(self, box: Interval) -> Interval:
        """The range of φ over the box, exact up to a margin for rounding."""
        return self.activation.value_range(box)

    def enclose(self, box: Interval) -> Enclosure:
        """The enclosure from the ranges of φ' and φ'' over the box."""
        return self.after(identity_on(box), box)

    def after(self, inner: Enclosure, box: Interval) -> Enclosure:
        """The enclosure of this map after another one with values in the box."""
        slope, bend = self.activation.slope_range(box), self.activation.bend_bound(box)
        return after_elementwise(slope, bend, inner, self.values(box))


@dataclass(frozen=True)
class Chain:
    """Composition of layers; with `residual` the input is added to the result."""

    layers: tuple[Layer, ...]
    residual: bool = False

    @property
    def size(self) -> int | None:
        """Number of inputs of the first layer with a fixed size; earlier layers preserve it."""
        return next((layer.size for layer in self.layers if layer.size is not None), None)

    def taylor(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> Triple:
        """Layer by layer."""
        result = (x, y, w)
        for layer in self.layers:
            result = layer.taylor(*result)
        if not self.residual:
            return result
        return x + result[0], y + result[1], w + result[2]

    def values(self, box: Interval) -> Interval:
        """Layer by layer."""
        result = box
        for layer in self.layers:
            result = layer.values(result)
        return box.plus(result) if self.residual else result

    def enclose(self, box: Interval) -> Enclosure:
        """Layer by layer; outputs also by the mean value form f(c) + Df(box)(box − c)."""
        found = identity_on(box)
        bounded = box.finite
        centre = box.midpoint if bounded else box.lower
        point, offset = Interval.of(centre), box.minus(Interval.of(centre))
        here = box
        for layer in self.layers:
            if isinstance(layer, (Linear, Elementwise)):
                found = layer.after(found, here)
            else:
                found = after(layer.enclose(here), found)
            here = found.output
            if bounded:
                point = layer.values(point)
                here = here.meet(mean_value(point, found.jacobian, offset))
        if not self.residual:
            return found.with_output(here)
        whole = plus_identity(found, box.plus(here))
        if not bounded:
            return whole
        point = point.plus(Interval.of(centre))
        return whole.with_output(whole.output.meet(mean_value(point, whole.jacobian, offset)))


def mean_value(point: Interval, jacobian: Interval, offset: Interval) -> Interval:
    """The mean value form f(c) + Df(box)(box − c)."""
    return point.plus(product(jacobian, offset[:, None])[:, 0])


def exact(values: torch.Tensor | None, like: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
    """A parameter converted exactly to float64 on the CPU; filled with `fill` if it is None."""
    if values is None:
        return torch.full(like.shape, fill, dtype=torch.float64)
    return values.detach().to("cpu", torch.float64).clone()

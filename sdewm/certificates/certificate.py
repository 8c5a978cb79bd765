"""`certify`: proven Lipschitz constants, curvatures and logarithmic norms of networks."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property

import torch
from torch import nn

from sdewm.certificates.attack import LowerBounds, Target, search
from sdewm.certificates.constants import PartConstants, is_square, least_constants
from sdewm.certificates.derivative_enclosure import Enclosure
from sdewm.certificates.gru import GatedRecurrentUnit
from sdewm.certificates.interval import Interval
from sdewm.certificates.layers import Chain
from sdewm.certificates.modules import check_module, check_sizes, read

Box = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Certificate:
    """Proven upper bounds for a map f: Rⁿ -> Rᵐ over a region.

    Attributes:
        lipschitz_2: ≥ sup |Df(x)|₂, spectral norm.
        lipschitz_inf: ≥ sup |Df(x)|_∞, largest row sum of absolute values.
        curvature_2: ≥ sup |D²f(x)[v, v]|₂ / |v|₂² (no factor 1/2); ∞ where φ' has a kink.
        curvature_inf: ≥ sup |D²f(x)[v, v]|_∞ / |v|_∞².
        log_norm_2: ≥ sup λ_max(sym Df(x)); None unless n = m.
        log_norm_inf: ≥ sup max_i (∂_i f_i + Σ_{j≠i} |∂_j f_i|); None unless n = m.
        jacobian: (lower, upper), each (m, n), bounds of every Df(x); None without a region.
        output: (lower, upper), each (m,), bounds of every f(x); None without a region.
        region: (low, high), each (n,); None for all of Rⁿ (for a GRU: |h|_∞ ≤ 1, any input).
        parts: for a GRU, the constants of the blocks "input" and "hidden" of Df; else empty.

    For a residual drift b(x) = (f(x) − x)/τ the logarithmic norm is (log_norm − 1)/τ exactly.
    """

    lipschitz_2: float
    lipschitz_inf: float
    curvature_2: float
    curvature_inf: float
    log_norm_2: float | None
    log_norm_inf: float | None
    jacobian: Box | None
    output: Box | None
    region: Box | None
    parts: dict[str, PartConstants] = field(default_factory=dict)
    target: Target | None = field(default=None, repr=False, compare=False)

    def attack(self, seed: int = 0, starts: int = 64, steps: int = 60) -> LowerBounds:
        """Lower bounds of the same suprema, by sampling and gradient ascent.

        See `attack.search` for the arguments. Equal arguments give equal results.
        """
        assert self.target is not None
        return search(self.target, seed, starts, steps)

    @cached_property
    def lower(self) -> LowerBounds:
        """The result of `attack()` with default arguments, computed once."""
        return self.attack()

    def __str__(self) -> str:
        lines = ["constant         proven upper   attacked lower   ratio"]
        for name in LowerBounds.__dataclass_fields__:
            upper, lower = getattr(self, name), getattr(self.lower, name)
            if upper is None or lower is None:
                continue
            ratio = upper / lower if lower > 0 and math.isfinite(upper) else math.nan
            shown = f"{ratio:8.4g}" if math.isfinite(ratio) else "       –"
            lines.append(f"{name:14}  {upper:13.6g}    {lower:13.6g} {shown}".rstrip())
        return "\n".join(lines)


def certify(module: nn.Module, region: Box | None = None) -> Certificate:
    """Prove upper bounds of the derivatives of a network, over a box or over all of Rⁿ.

    Every number is an upper bound also in floating point: intervals are rounded outwards, rounding
    errors of matrix products are bounded, and spectral norms and largest eigenvalues are verified
    by a Cholesky factorisation (`norms`). Each constant is the least of several bounds:

    - products over the layers: Lip ≤ Π |W_i| sup|φ'_i| and H(f∘g) ≤ H(f) Lip(g)² + Lip(f) H(g),
      with the ranges of φ' and φ'' over the inputs that the layer can receive;
    - the interval Jacobian;
    - a ball in the 2-norm: for V D W with D diagonal in c ± r, every Df is
      V c W + (V r^½) R (r^½ W) with |R| ≤ 1. Hence |Df| and λ_max(sym Df) are at most those of
      V c W plus |V r^½| |r^½ W|, and, for small sizes, at most
      min_T λ_max(sym V c W + (V r T⁻¹ Vᵀ + Wᵀ r T W)/2);
    - with a region, also the bounds over all of Rⁿ.

    Not covered is what vanishes on the way, such as the square of a weight of 1e-160: products
    below 1e-300. A bound whose formula exceeds all numbers is ∞.

    Supported modules are Linear, Tanh, Sigmoid, Softplus, SiLU, Mish, GELU (both forms), ELU, ReLU,
    Identity, LayerNorm and RMSNorm (over the last dimension), Sequential and `Residual` of these,
    and a single GRUCell, in any mode and dtype. A class of one's own is looked through if
    torch.fx records its forward as a chain of supported modules and activation functions, with
    residual connections x + …, and its values are those of the chain. Parameters are converted
    exactly to float64, and f is the network evaluated in float64; an RMSNorm with eps=None has the
    ε of its weight's dtype, as torch has it for inputs of this dtype. ELU and ReLU are not C²:
    their curvature is ∞ unless the region excludes the kink. A GRU cell maps the concatenated
    (input, hidden) to the next hidden state. It preserves |hidden|_∞ ≤ 1 and is certified on this
    set; `parts` holds the constants of the two blocks of its Jacobian (formulas:
    `certificates.gru`). Certificates through LayerNorm and RMSNorm are loose (see
    `certificates.normalisation`).

    Args:
        module: the network.
        region: (low, high), tensors (n,) with low ≤ high, infinite ends allowed; None for Rⁿ.

    Returns:
        The certificate of f: Rⁿ -> Rᵐ.

    Raises:
        ValueError: a module is not supported (the message lists the supported ones) or has forward
            hooks; the sizes of layers or of the region do not match; a parameter is not finite or
            empty; or, for a GRU, the hidden part of the region does not intersect [−1, 1].
        RuntimeError: this thread rounds subnormal numbers to zero.

    Source: statements S9 to S18 take these constants (MATHEMATICS.md).

    >>> from torch import nn
    >>> generator = torch.Generator().manual_seed(0)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    >>> for weight in network.parameters():
    ...     weight.data = torch.randn(weight.shape, generator=generator) / 2
    >>> certify(network).lipschitz_2, certify(network).log_norm_2
    (0.99635, 0.51139)
    >>> box = torch.full((2,), 0.1)
    >>> certify(network, (-box, box)).lipschitz_2
    0.6
    >>> print(certify(network[0]))
    constant         proven upper   attacked lower   ratio
    lipschitz_2           1.61885          1.61885        1
    lipschitz_inf         1.21562          1.21562        1
    curvature_2                 0                0        –
    curvature_inf               0                0        –
    """
    if type(module) is nn.GRUCell:
        return _certify_recurrent(module, region)
    network = Chain(read(module))
    size = network.size
    check_sizes(network.layers, size)
    box = _check_region(region, size)
    whole = Interval.everything(len(box.lower))
    enclosures = [network.enclose(one) for one in _distinct(whole, box, region)]
    target = Target(network.taylor, box.lower, box.upper, is_square(enclosures[0]))
    return _certificate(enclosures, region and (box.lower, box.upper), target, {})


def checksum(module: nn.Module) -> int:
    """CRC-32 checksum of all that `certify` reads, to detect that a certificate is out of date.

    It is that of the layers, so that another activation, or ε of a normalisation, changes it.

    Raises:
        ValueError: `certify` does not support the module.

    >>> layer = nn.Linear(1, 1)
    >>> before = checksum(layer)
    >>> layer.weight.data += 1.0
    >>> checksum(layer) == before
    False
    """
    if type(module) is nn.GRUCell:
        check_module(module)
        return _checksum(GatedRecurrentUnit.of(module), 0)
    return _checksum(read(module), 0)


def _checksum(part: object, total: int) -> int:
    """The checksum continued over a tensor, a number, or what a layer consists of."""
    if isinstance(part, torch.Tensor):
        return zlib.crc32(part.contiguous().numpy().tobytes(), _checksum(tuple(part.shape), total))
    if isinstance(part, tuple):
        for one in part:
            total = _checksum(one, total)
        return zlib.crc32(b")", total)
    if is_dataclass(part):  # a layer, or an activation: its functions follow from the rest
        values = [getattr(part, one.name) for one in fields(part)]
        own = tuple(value for value in values if not callable(value))
        return _checksum(own, zlib.crc32(type(part).__name__.encode(), total))
    return zlib.crc32(repr(part).encode(), total)


def _certify_recurrent(module: nn.GRUCell, region: Box | None) -> Certificate:
    check_module(module)
    cell = GatedRecurrentUnit.of(module)
    one = torch.ones(cell.hidden, dtype=torch.float64)
    far = torch.full((cell.inputs,), torch.inf, dtype=torch.float64)
    whole = Interval(torch.cat([-far, -one]), torch.cat([far, one]))
    box = whole
    if region is not None:
        box = _check_region(region, cell.size).meet(whole)
        if bool((box.lower > box.upper).any()):
            raise ValueError(
                "region: its last hidden_size entries, the state h, lie outside [-1, 1]; a GRU "
                "cell preserves |h| <= 1 and is certified on this set only."
            )
    boxes = _distinct(whole, box, region)
    found = [cell.enclose(one) for one in boxes]
    parts = {name: _part([one[name] for one in found]) for name in ("input", "hidden")}
    target = Target(cell.taylor, box.lower, box.upper, False)
    enclosures = [one["whole"] for one in found]
    return _certificate(enclosures, region and (box.lower, box.upper), target, parts)


def _distinct(whole: Interval, box: Interval, region: Box | None) -> list[Interval]:
    """The boxes to certify over: with a region the whole space, too, as its bounds hold there."""
    return [whole] if region is None else [whole, box]


def _part(blocks: list[Enclosure]) -> PartConstants:
    constants = least_constants(blocks)
    return PartConstants(**{name: constants[name] for name in PartConstants.__dataclass_fields__})


def _certificate(
    enclosures: list[Enclosure],
    region: Box | None,
    target: Target,
    parts: dict[str, PartConstants],
) -> Certificate:
    last = enclosures[-1]
    jacobian, output = last.jacobian, last.output
    return Certificate(
        **least_constants(enclosures),
        jacobian=None if region is None else (jacobian.lower, jacobian.upper),
        output=None if region is None else (output.lower, output.upper),
        region=region,
        parts=parts,
        target=target,
    )


def _check_region(region: Box | None, size: int | None) -> Interval:
    if region is None:
        if size is None:
            raise ValueError(
                "region=None: the module does not determine its number of inputs; pass region="
                "(low, high)."
            )
        return Interval.everything(size)
    if not (isinstance(region, (tuple, list)) and len(region) == 2):
        raise ValueError(f"region={region!r}: expected a pair (low, high) of tensors (n,).")
    shape = "(n,)" if size is None else f"({size},)"
    ends = []
    for name, end in zip(("low", "high"), region, strict=True):
        if not isinstance(end, torch.Tensor) or end.ndim != 1 or len(end) != (size or len(end)):
            given = tuple(end.shape) if isinstance(end, torch.Tensor) else type(end).__name__
            raise ValueError(f"region: {name} is {given}; expected a tensor {shape}.")
        ends.append(end.detach().to("cpu", torch.float64))
    low, high = ends
    if len(low) != len(high) or not bool((low <= high).all()):
        raise ValueError("region: expected low <= high in every entry and no nan.")
    if bool((low == torch.inf).any() | (high == -torch.inf).any()):
        raise ValueError("region: expected low < inf and high > -inf.")
    return Interval(low, high)

"""torch's gated recurrent unit on sets, composed of the enclosures of its parts.

    r = σ(W_r x + b + U_r h + d),  u = σ(W_u x + b + U_u h + d),
    n = tanh(W_n x + b + r ⊙ (U_n h + d)),  h' = n + u ⊙ (h − n).

Cells that are written in torch (the layer-normalised GRU and the block GRU of `model.rssm`) need no
formula of their own.
"""

from __future__ import annotations

from sdewm.certificates.activations import SIGMOID, TANH
from sdewm.certificates.enclosure.affine import add, negate
from sdewm.certificates.enclosure.arithmetic import Execution, Value, linear
from sdewm.certificates.enclosure.elementwise import apply
from sdewm.certificates.enclosure.products import multiply
from sdewm.certificates.enclosure.shapes import moved
from sdewm.certificates.enclosure.taylor_set import TaylorSet


def gru(
    x: TaylorSet,
    h: TaylorSet,
    weights: tuple[Value, Value],
    biases: tuple[Value | None, Value | None],
    run: Execution,
) -> TaylorSet:
    """The next hidden state (B, H) of x (B, I) and h (B, H), weights and biases as in torch."""
    h = run.symbols.absorb(h)
    given, kept = (
        linear(run, values, weight, bias)
        for values, weight, bias in zip((x, h), weights, biases, strict=True)
    )

    def gate(values: TaylorSet, k: int) -> TaylorSet:
        return moved(values, lambda part: part.chunk(3, -1)[k])

    reset = apply(SIGMOID, add(gate(given, 0), gate(kept, 0)))
    update = apply(SIGMOID, add(gate(given, 1), gate(kept, 1)))
    new = apply(TANH, add(gate(given, 2), multiply(reset, gate(kept, 2))))
    return add(new, multiply(update, add(h, negate(new))))

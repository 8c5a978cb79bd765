"""Reduction of the symbols of a set to a given number."""

from __future__ import annotations

from dataclasses import replace

from sdewm.certificates.enclosure.taylor_set import TaylorSet, upward


def reduced(values: TaylorSet, columns: int) -> TaylorSet:
    """A set that contains `values` and has at most `columns` symbols.

    The columns of G with the smallest |g|₁ − |g|_∞, which lose least by it, are enclosed in the box
    of their absolute sums and added to ρ (Girard, Reachability of uncertain linear systems using
    zonotopes, HSCC 2005). Each row has its own choice.
    """
    if values.symbols <= columns:
        return values
    rows = len(values.centre) if values.rows else 1
    rest = values.rest.reshape(rows, -1, values.symbols)
    size = rest.abs()
    loss = size.sum(1) - size.amax(1)
    order = loss.argsort(dim=1, descending=True)[:, None]
    kept = rest.take_along_dim(order[..., :columns].sort().values, 2)
    boxed = size.take_along_dim(order[..., columns:], 2).sum(2).reshape(values.shape)
    return replace(values, rest=kept.reshape(*values.shape, -1)).widened(upward(boxed))

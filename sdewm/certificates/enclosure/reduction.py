"""Reduction of the symbols of a set to a given number."""

from __future__ import annotations

from dataclasses import replace

from sdewm.certificates.enclosure.taylor_set import TaylorSet, upward


def reduced(values: TaylorSet, columns: int) -> TaylorSet:
    """A set that contains `values` and has at most `columns` symbols.

    The columns of G with the smallest |g|₁ − |g|_∞, which lose least by it, are enclosed in the box
    of their absolute sums and added to ρ (Girard, Reachability of uncertain linear systems using
    zonotopes, HSCC 2005).
    """
    if values.symbols <= columns:
        return values
    rest = values.rest.abs().reshape(-1, values.symbols)
    loss = rest.sum(0) - rest.amax(0)
    order = loss.argsort(descending=True)
    kept = order[:columns].sort().values
    boxed = values.rest[..., order[columns:]].abs().sum(-1)
    return replace(values, rest=values.rest[..., kept]).widened(upward(boxed))

"""Rows as text: aligned for a terminal, or in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sdewm.base.stats import significant_digits


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Columns aligned for a terminal, a rule below the header.

    Args:
        header: names of the columns.
        rows: cells, as many per row as the header has.
        right: names of the columns to be aligned on the right, separated by spaces.

    >>> print(text_table(["claim", "s"], [["a", "0.1"], ["longer", "12.0"]], right="s"))
    claim      s
    ------------
    a        0.1
    longer  12.0
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    flush = [name in right.split() for name in header]

    def line(cells: Sequence[str]) -> str:
        parts = (
            cell.rjust(width) if on_right else cell.ljust(width)
            for cell, width, on_right in zip(cells, widths, flush, strict=True)
        )
        return "  ".join(parts).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(header), rule, *map(line, rows)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table; vertical bars in cells are escaped.

    >>> print(markdown_table(["a", "b"], [["1", "x"]]))
    | a | b |
    | --- | --- |
    | 1 | x |
    """
    lines = [header, ["---"] * len(header), *([c.replace("|", "\\|") for c in r] for r in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number_text(value: float | None, digits: int = 6) -> str:
    """A number with `digits` significant digits; "–" for none.

    >>> number_text(0.123456789), number_text(math.nan), number_text(-math.inf)
    ('0.123457', '–', '−∞')
    """
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}g}" if math.isfinite(value) else "∞" if value > 0 else "−∞"


def estimate_text(value: float | None, standard_error: float | None) -> str:
    """A value with as many decimals as its standard error has meaning, "exact" values in full.

    >>> estimate_text(0.355421, 0.00191), estimate_text(3.0002, 0.0), estimate_text(None, None)
    ('0.3554 ± 0.0019', '3.0002', '–')
    >>> estimate_text(0.123456789, 2e-6), estimate_text(1234567.8, 2e3)
    ('0.1234568 ± 2e-06', '1.2346e+06 ± 2e+03')
    """
    if value is None or not math.isfinite(value):
        return number_text(value)
    if standard_error is None or not math.isfinite(standard_error) or standard_error == 0.0:
        return number_text(value, 9)
    exponent = math.floor(math.log10(standard_error))
    if -5 <= exponent <= 2 and abs(value) < 1e6:
        decimals = max(0, 1 - exponent)
        return f"{value:.{decimals}f} ± {standard_error:.{decimals}f}"
    return f"{value:.{significant_digits(value, standard_error)}g} ± {standard_error:.2g}"

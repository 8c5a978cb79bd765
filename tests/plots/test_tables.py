"""Tables keep every cell and line up."""

import math

import pytest

from sdewm.plots import tables


def test_text_table_lines_up():
    text = tables.text_table(["claim", "value"], [["a", "1"], ["long name", "100"]], right="value")
    lines = text.splitlines()
    assert {len(line) for line in lines} == {len(lines[1])}
    assert lines[2].endswith("    1")


def test_a_row_with_a_cell_missing_is_refused():
    with pytest.raises(ValueError, match="zip"):
        tables.text_table(["a", "b"], [["1"]])


@pytest.mark.parametrize(
    ("value", "standard_error", "text"),
    [
        (1.23456, 0.5, "1.23 ± 0.50"),
        (1234.5, 20.0, "1234 ± 20"),
        (1e-9, 1e-11, "1e-09 ± 1e-11"),
        (0.5, math.nan, "0.5"),
        (math.nan, 0.1, "–"),
        (math.inf, math.nan, "∞"),  # a bound that abstains is not a missing one
        (-math.inf, 0.0, "−∞"),
    ],
)
def test_estimates_show_the_digits_that_mean_something(value, standard_error, text):
    assert tables.estimate_text(value, standard_error) == text

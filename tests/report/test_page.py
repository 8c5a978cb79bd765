"""A page of tables and figures: escaped, self-contained, and alive in a real browser."""

import re

import pytest
from PIL import Image

from sdewm.report.page import (
    Cell,
    Derivation,
    Figure,
    Line,
    Page,
    Section,
    Table,
    embedded,
    plain_table,
    rendered,
    write_page,
)
from tests.report.browser import acted, needs_browser, widths


@pytest.fixture
def page(tmp_path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (600, 300), "white").save(picture)
    figure = Figure("fig_a", embedded(picture), "A", "One <sees> this", "that", "python a.py")
    rows = tuple(
        Line((Cell(name, more=(("Why", "because"),)), Cell(value), Cell(word, mark)), word)
        for name, value, word, mark in (
            ("b", "10", "holds", "✓"), ("a", "9", "fails", "✗"), ("c", "−1.5", "holds", "✓"),
        )
    )  # fmt: skip
    table = Table("claims", "Claims.", ("claim", "number", "verdict"), rows, filter_by="Verdict")
    wide = plain_table("wide", "Long words.", ["x" * 30, "y"], [["z" * 90, "w" * 90]])
    math = "<math><mi>x</mi></math>"
    sections = (
        Section("one", "One", ("A & B",), (table, wide), (figure,)),
        Section("two", "Two", derivations=(Derivation("D", (("step", math),)),), code=("1 < 2",)),
    )
    path = tmp_path / "page.html"
    write_page(path, Page("Title & more", ("lead",), sections))
    return path


def test_texts_are_escaped_and_nothing_is_loaded_from_elsewhere(page):
    text = page.read_text("utf-8")
    assert "A &amp; B" in text and "One &lt;sees&gt; this" in text and "1 &lt; 2" in text
    assert "<math><mi>x</mi></math>" in text
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", text) and "http" not in text
    assert "<title>Title &amp; more</title>" in text


def test_a_missing_figure_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"figure='.*nowhere\.png' cannot be read"):
        embedded(tmp_path / "nowhere.png")


def test_an_empty_page_is_a_page():
    assert "<main" in rendered(Page("t", ()))


SORT_AND_FILTER = """
const table = document.getElementById("claims");
const shown = () => [...table.tBodies[0].rows].filter(row => !row.hidden);
const names = () => shown().map(row => row.cells[0].firstChild.textContent.trim());
const buttons = table.querySelectorAll("thead button");
const found = {before: names()};
buttons[1].click(); found.rising = names();
found.aria = buttons[1].parentElement.getAttribute("aria-sort");
buttons[1].click(); found.falling = names();
buttons[0].click(); found.byName = names();
const filter = document.querySelector(".filter");
const choose = filter.querySelector("select"), search = filter.querySelector("input");
choose.value = "holds"; choose.dispatchEvent(new Event("change")); found.holds = names();
search.value = "10"; search.dispatchEvent(new Event("input")); found.ten = names();
found.status = filter.querySelector("output").textContent;
found.images = [...document.images].map(i => i.complete && i.naturalWidth);
const fields = [...document.querySelectorAll("input, select")];
found.unlabelled = fields.filter(one => !one.labels.length).length;
return found;
"""


@needs_browser
def test_tables_are_sorted_and_filtered_in_a_browser_without_messages(page, tmp_path):
    found, console = acted(page, tmp_path, SORT_AND_FILTER)
    assert console == []
    assert found["before"] == ["b", "a", "c"]
    assert found["rising"] == ["c", "a", "b"]  # as numbers, with a minus sign
    assert found["falling"] == ["b", "a", "c"] and found["aria"] == "ascending"
    assert found["byName"] == ["a", "b", "c"]
    assert found["holds"] == ["b", "c"] and found["ten"] == ["b"]
    assert found["status"] == "1 of 3 shown"
    assert found["images"] == [600] and found["unlabelled"] == 0


@needs_browser
@pytest.mark.parametrize("width", [400, 1100, 1600])
def test_nothing_is_wider_than_the_window(width, page, tmp_path):
    (used, window), console = widths(page, tmp_path, width)
    assert console == [] and used <= window == width


@needs_browser
def test_a_message_and_a_wide_element_are_noticed(page, tmp_path):
    bad = tmp_path / "bad.html"
    wide = "<div style='width: 3000px'>x</div><script>console.error('no')</script></main>"
    bad.write_text(page.read_text("utf-8").replace("</main>", wide), "utf-8")
    (used, window), console = widths(bad, tmp_path, 400)
    assert used > window and console

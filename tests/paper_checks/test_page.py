"""The committed report is that of the committed results, and works in a real browser."""

import math
import re

import pytest

from paper_checks import ledger, page
from sdewm.base.records import ROOT
from sdewm.report.page import rendered
from tests.report.browser import acted, needs_browser, widths

IMAGE = re.compile(r"data:image/png;base64,[^\"]*")  # its bytes depend on the version of zlib


def test_the_report_is_that_of_the_committed_results():
    committed, now = (
        IMAGE.sub("", one) for one in (page.TARGET.read_text("utf-8"), rendered(page.page()))
    )
    assert committed == now, "run `make report`"


def test_the_ledger_is_that_of_its_table(tmp_path):
    rows, facts = ledger.read_ledger()
    claims = ledger.read_claims()
    assert [row["id"] for row in rows] == [claim.id for claim in claims], "run `make verify`"
    ledger.write_ledger(tmp_path / "LEDGER.md", claims, rows, facts)
    assert (tmp_path / "LEDGER.md").read_text() == (ledger.FOLDER / "LEDGER.md").read_text("utf-8")


def test_every_figure_of_the_folder_is_in_the_report():
    found = {figure.id for figure in page.figures()}
    assert found == {path.stem for path in (ROOT / "figures").glob("fig_*.png")}
    for figure in page.figures():
        assert figure.text and figure.limits and "rows: " in figure.command


def test_the_report_is_small_enough_and_loads_nothing():
    assert page.TARGET.stat().st_size < 10e6
    text = IMAGE.sub("", page.TARGET.read_text("utf-8"))
    assert not re.search(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"(?!\")", text)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "holds"),
        ({"verdict": "undecided"}, "undecided"),
        ({"verdict": "undecided", "reason": "the study x has not run yet"}, "not yet run"),
        ({"verdict": "fails"}, "fails"),
        ({"tightness": 2000.0}, "holds, vacuous"),
    ],
)
def test_verdicts_have_words_and_marks(change, verdict):
    claim = next(one for one in ledger.read_claims() if one.mark == "new")
    row = {"verdict": "holds", "reason": "r", "tightness": None} | change
    assert page.verdict_of(claim, row) == verdict
    assert [*page.MARKS] == [*ledger.WORDS]
    assert len({*page.MARKS.values()}) == len(page.MARKS)  # told apart without colours


def test_a_refuted_or_corrected_claim_does_not_simply_hold():
    row = {"verdict": "holds", "reason": "r", "tightness": 1.5, "sharp": True}
    claims = {claim.id: claim for claim in ledger.read_claims()}
    assert ledger.shown_verdict(claims["stable-gradients"], row) == "fails as stated, sharp (×1.5)"
    corrected = next(one for one in claims.values() if one.control_is_recalled)
    assert ledger.shown_verdict(corrected, row | {"tightness": None}) == "holds after correction"


ACTIONS = """
const table = document.getElementById("ledger-table"), rows = [...table.tBodies[0].rows];
const filter = document.querySelector(".filter[data-for=ledger-table]");
const choose = filter.querySelector("select"), search = filter.querySelector("input");
const shown = () => rows.filter(row => !row.hidden).length;
const found = {all: shown(), images: [...document.images].filter(i => !i.naturalWidth).length};
choose.value = "undecided"; choose.dispatchEvent(new Event("change")); found.undecided = shown();
choose.value = ""; search.value = "memory-floor-trained"; search.dispatchEvent(new Event("input"));
found.one = shown();
table.querySelector("thead button").click();
found.first = table.tBodies[0].rows[0].cells[0].firstChild.textContent.trim();
return found;
"""


@needs_browser
def test_the_report_works_in_a_browser(tmp_path):
    found, console = acted(page.TARGET, tmp_path, ACTIONS)
    claims = ledger.read_claims()
    rows = {row["id"]: row for row in ledger.read_ledger()[0]}
    verdicts = [page.verdict_of(claim, rows[claim.id]) for claim in claims]
    assert console == [] and found["images"] == 0
    assert found["all"] == len(claims) and found["one"] == 1
    assert found["undecided"] == verdicts.count("undecided")
    assert found["first"] == min(claim.id for claim in claims)


@needs_browser
@pytest.mark.parametrize("width", [400, 1100, 1600])
def test_the_report_needs_no_horizontal_scrolling(width, tmp_path):
    (used, window), console = widths(page.TARGET, tmp_path, width)
    assert console == [] and used <= window == width


MM = 96 / 25.4  # pixels
ACROSS = "section.landscape", 297 - 24  # which sections, and the width of a page without margins


def on_paper(text, folder, sections, width):
    """Width of sections and of a page, under the rules of print."""
    text = text.replace("@media print", "@media all").replace("@media screen", "@media speech")
    style = f"<style>section {{ display: none }} {sections} {{ display: block }}</style>"
    path = folder / "printed.html"
    path.write_text(text.replace("</head>", f"{style}</head>"), "utf-8")
    return widths(path, folder, math.floor(width * MM))


@needs_browser
@pytest.mark.parametrize(("sections", "width"), [("section:not(.landscape)", 210 - 30), ACROSS])
def test_nothing_is_cut_off_on_paper(sections, width, tmp_path):
    (used, page_width), console = on_paper(
        page.TARGET.read_text("utf-8"), tmp_path, sections, width
    )
    assert console == [] and used <= page_width


@needs_browser
def test_columns_too_wide_for_the_paper_are_noticed(tmp_path):
    text = page.TARGET.read_text("utf-8")
    narrow = "td, tbody th { min-width: 0; padding: .15rem .3rem; }"
    assert narrow in text
    (used, page_width), _ = on_paper(text.replace(narrow, ""), tmp_path, *ACROSS)
    assert used > page_width

"""One self-contained HTML page of tables and figures, which needs no network."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import PIL.Image

from sdewm.base.records import write_whole

COLOURS = 128  # of an embedded figure: enough for lines and bands, at a third of the size
TEMPLATE = Path(__file__).with_name("page.html.jinja")


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it says.
        mark: a symbol before it, so that verdicts do not depend on colour.
        more: names with texts that open on demand.
    """

    text: str
    mark: str = ""
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Line:
    """One row of a table; `filter` is its value in the choice above the table."""

    cells: tuple[Cell, ...]
    filter: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by each column.

    Attributes:
        id: of the element.
        caption: what it shows.
        header: names of the columns.
        rows: of as many cells.
        filter_by: name of a choice above the table, with a field for searching; "": none.
    """

    id: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[Line, ...]
    filter_by: str = ""

    @property
    def choices(self) -> list[str]:
        """The values of the choice."""
        return list(dict.fromkeys(row.filter for row in self.rows))


@dataclass(frozen=True)
class Image:
    """A picture within the page.

    Attributes:
        source: data URI.
        width, height: in pixels.
        digest: of the file that it was made from.
    """

    source: str
    width: int
    height: int
    digest: str


@dataclass(frozen=True)
class Figure:
    """A figure with what one should see, its limits and the command that made it."""

    id: str
    image: Image
    title: str
    text: str
    limits: str
    command: str

    @property
    def alt(self) -> str:
        """For screen readers."""
        return f"{self.title}. {self.text}"


@dataclass(frozen=True)
class Derivation:
    """Steps of a derivation: a sentence in HTML and a formula in MathML each."""

    title: str
    steps: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Section:
    """A section of the page, in the order of its fields."""

    id: str
    title: str
    texts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    derivations: tuple[Derivation, ...] = ()
    code: tuple[str, ...] = ()

    @property
    def wide(self) -> bool:
        """Whether it is printed across: tables of many columns, or formulas."""
        return bool(self.derivations) or any(len(table.header) > 6 for table in self.tables)


@dataclass(frozen=True)
class Page:
    """A title, a few sentences, and sections."""

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...] = field(default=())


def plain_table(
    id: str, caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> Table:
    """A table of texts.

    >>> plain_table("t", "Numbers.", ["a", "b"], [["1", "2"]]).rows[0].cells[1].text
    '2'
    """
    lines = tuple(Line(tuple(Cell(text) for text in row)) for row in rows)
    return Table(id, caption, tuple(header), lines)


def embedded(path: Path) -> Image:
    """A PNG file with COLOURS colours.

    Raises:
        ValueError: there is no such file, or it is no picture.
    """
    try:
        content = path.read_bytes()
        with PIL.Image.open(io.BytesIO(content)) as picture:
            reduced = picture.convert("RGB").quantize(COLOURS, dither=PIL.Image.Dither.NONE)
    except OSError as problem:
        raise ValueError(f"figure={str(path)!r} cannot be read: {problem}.") from problem
    stream = io.BytesIO()
    reduced.save(stream, "PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return Image(source, *reduced.size, hashlib.sha256(content).hexdigest()[:16])


def rendered(page: Page) -> str:
    """The page as HTML; all texts are escaped, except for the steps of derivations."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(page=page)


def write_page(path: Path, page: Page) -> None:
    """Write the page to one file."""
    write_whole(path, rendered(page))

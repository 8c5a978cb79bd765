"""ARCHITECTURE.md names files that exist and floors that are the derived ones."""

import re
from pathlib import Path

import pytest

from tests.test_layers import FLOORS, ROOT

TEXT = (ROOT / "paper_checks" / "ARCHITECTURE.md").read_text(encoding="utf-8")


def named_paths(text: str) -> list[str]:
    """Paths in backticks: those with a slash or an ending."""
    return [name for name in re.findall(r"`([\w./*]+)`", text) if "/" in name]


def missing_paths(text: str, root: Path) -> list[str]:
    """Named paths that are neither files nor folders; those inside theory/ may be given short."""
    places = (root, root / "sdewm" / "theory")
    return [name for name in named_paths(text) if not any((p / name).exists() for p in places)]


def test_every_named_path_exists():
    assert len(named_paths(TEXT)) > 40
    assert missing_paths(TEXT, ROOT) == []


@pytest.mark.parametrize("text", ["`sdewm/theory/bounds/tubes.py`", "`flows/`"])
def test_a_path_that_is_not_there_is_noticed(text):
    assert missing_paths(text, ROOT)


def test_the_table_of_floors_is_the_derived_one():
    rows = re.findall(r"^\| (\d) \| (.*?) \|", TEXT, flags=re.MULTILINE)
    table = {
        Path(name).stem: int(floor)
        for floor, names in rows
        for name in re.findall("`(.*?)`", names)
    }
    assert table == FLOORS

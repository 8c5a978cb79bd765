"""What text says is where it says: files, floors, and names of the package."""

import importlib
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


def dotted_names(text: str) -> list[str]:
    """Names such as sdewm.train.config.Config."""
    return re.findall(r"(?<![\w./])sdewm(?:\.[A-Za-z_]\w*)+", text)


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or what a module holds."""
    words = name.split(".")
    for count in range(len(words), 0, -1):
        try:
            found = importlib.import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:]:
            found = getattr(found, word, None)
        return found is not None
    return False


def test_every_dotted_name_in_code_and_documents_is_there():
    files = [ROOT / "README.md", *(ROOT / "paper_checks").glob("*.[mt]*")]
    for folder in ("sdewm", "analysis", "paper_checks"):
        files += sorted((ROOT / folder).rglob("*.py"))
    names = {name for file in files for name in dotted_names(file.read_text(encoding="utf-8"))}
    assert len(names) > 200
    assert [name for name in sorted(names) if not is_there(name)] == []


@pytest.mark.parametrize("name", ["sdewm.evaluate.returns", "sdewm.train.config.Settings"])
def test_a_name_that_is_not_there_is_noticed(name):
    assert dotted_names(f"see `{name}`.") == [name] and not is_there(name)


def test_the_table_of_floors_is_the_derived_one():
    rows = re.findall(r"^\| (\d) \| (.*?) \|", TEXT, flags=re.MULTILINE)
    table = {
        Path(name).stem: int(floor)
        for floor, names in rows
        for name in re.findall("`(.*?)`", names)
    }
    assert table == FLOORS

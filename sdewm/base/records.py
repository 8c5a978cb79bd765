"""Result files with a manifest for reproduction: command, commit, seed, settings, versions.

A table is a CSV file whose first lines, `# key: value`, hold the manifest. A row log is a file of
JSON lines: the first line holds the manifest, and every completed row is flushed to disk at once,
so that an interruption loses no completed row.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

Value = str | int | float | bool | None
Row = Mapping[str, Value]

PACKAGES = ("torch", "torchsde", "numpy", "scipy", "matplotlib")
ROOT = Path(__file__).resolve().parents[2]
# The files on which results depend, as git path patterns, in which * also matches subfolders.
CODE = ("sdewm", "analysis", "paper_checks/*.py", "paper_checks/claims.toml")


def manifest(*, seed: int, **settings: Value) -> dict[str, Value]:
    """The manifest of this run: command, commit, seed, further settings, package versions.

    >>> facts = manifest(seed=3, paths=100)
    >>> facts["seed"], facts["paths"], sorted(facts)[:3]
    (3, 100, ['command', 'commit', 'matplotlib'])
    """
    facts: dict[str, Value] = {"command": command_line(), "commit": code_commit(), "seed": seed}
    facts.update(settings)
    facts["python"] = platform.python_version()
    facts.update({name: _version(name) for name in PACKAGES})
    return facts


def command_line() -> str:
    """The command that started this process, with the program relative to the working directory."""
    program = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path("-")
    if program.name == "__main__.py":
        words = ["python", "-m", program.parent.name]
    elif program.is_absolute() and not program.is_relative_to(Path.cwd()):
        words = ["python", program.name]
    else:
        words = ["python", os.path.relpath(program)]
    return shlex.join([*words, *sys.argv[1:]])


def code_commit() -> str:
    """The last commit that changed the code, with "+changes" if there are uncommitted changes.

    "unknown" if git or the history is missing.
    """
    last = _git("log", "-1", "--format=%h", "--", *CODE)
    if not last:
        return "unknown"
    return last + ("+changes" if _git("status", "--porcelain", "--", *CODE) else "")


def code_digest() -> str:
    """SHA-256 digest (16 hexadecimal digits) of the source files on which results depend."""
    digest = hashlib.sha256()
    for pattern in ("sdewm/**/*.py", "paper_checks/**/*.py", "paper_checks/claims.toml"):
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def require_writable(*folders: Path) -> None:
    """Make folders and try to write to them, before work whose results they are to hold.

    Raises:
        OSError: one cannot be made or written to.
    """
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def write_whole(path: Path, text: str) -> None:
    """Write a text file aside and rename it: under its own name it is always complete.

    The folder is created. What is no regular file, such as /dev/stdout, is written directly.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8", newline="")
        return
    path = Path(os.path.realpath(path))  # a link stays a link
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_table(path: Path, rows: Sequence[Row], facts: Mapping[str, Value]) -> None:
    """Write rows with equal keys as CSV below the manifest; floats are written exactly (`repr`).

    Raises:
        ValueError: there are no rows, or rows have different keys.
    """
    if not rows:
        raise ValueError("rows=[]: expected at least one row.")
    names = list(rows[0])
    for row in rows:
        if list(row) != names:
            raise ValueError(f"rows have different keys: {names} and {list(row)}.")
    file = io.StringIO(newline="")
    for key, value in facts.items():
        file.write(f"# {key}: {value}\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_to_text(row[name]) for name in names] for row in rows)
    write_whole(path, file.getvalue())


def read_table(path: Path) -> tuple[list[dict[str, Value]], dict[str, str]]:
    """Rows and manifest of a table; numeric cells become numbers, empty cells None.

    Digests such as 0012345 or 12e4567 stay texts: without a decimal point only what a number is
    written as is one.
    """
    facts: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as file:
        lines = file.readlines()
    while lines and lines[0].startswith("# "):
        key, _, value = lines.pop(0)[2:].rstrip("\n").partition(": ")
        facts[key] = value
    rows = [{name: _from_text(cell) for name, cell in row.items()} for row in csv.DictReader(lines)]
    return rows, facts


class RowLog:
    """An append-only JSON-lines file: the manifest, then one flushed line per row.

    Args:
        path: the file; its folder is created.
        facts: the manifest.
        rows: rows of an earlier run to start from; other contents of the file are replaced.
    """

    def __init__(self, path: Path, facts: Mapping[str, Value], rows: Iterable[Row] = ()) -> None:
        """Write the manifest and the rows of the earlier run."""
        lines = [dump_json(line) + "\n" for line in ({"manifest": dict(facts)}, *rows)]
        write_whole(path, "".join(lines))  # the earlier rows are on disk at all times
        self._file = path.open("a", encoding="utf-8")

    def append(self, row: Row) -> None:
        """Write one row and flush it to disk."""
        self._file.write(dump_json(row) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_log(path: Path) -> tuple[list[dict[str, Value]], dict[str, Value]]:
    """Rows and manifest of a row log; no file means no rows.

    Damaged lines are left out and named on stderr, apart from a last line without an end, which an
    interruption has cut.
    """
    rows, facts = read_log_lines(path)
    return [row for row in rows if row is not None], facts


def read_log_lines(path: Path) -> tuple[list[dict[str, Value] | None], dict[str, Value]]:
    """Rows and manifest as in `read_log`, with None in the place of a damaged row."""
    if not path.exists():
        return [], {}
    *lines, cut = path.read_bytes().split(b"\n")
    values = [_row(line) for line in lines]
    damaged = [number for number, value in enumerate(values, start=1) if value is None]
    if (last := _row(cut)) is not None:
        values.append(last)
    if damaged:
        places = ", ".join(map(str, damaged))
        sys.stderr.write(f"{path}: damaged and left out: line {places}.\n")
    first = values[0] if values else None
    facts = first.get("manifest") if first is not None else {}
    if isinstance(facts, dict):
        return values[1:], facts
    return values, {}  # a log that begins with a row, because its first line is lost


def _row(line: bytes) -> dict[str, Value] | None:
    """The object in a line of JSON; None if the line is damaged."""
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, rows: Iterable[Row], facts: Mapping[str, Value]) -> None:
    """Write {"manifest": …, "rows": […]}."""
    write_whole(path, dump_json({"manifest": dict(facts), "rows": list(rows)}, indent=1) + "\n")


def dump_json(value: object, indent: int | None = None) -> str:
    """Strict JSON: non-finite numbers become null.

    >>> dump_json({"slope": math.nan, "name": "ε"})
    '{"slope": null, "name": "ε"}'
    """
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _to_text(value: Value) -> str:
    return "" if value is None else repr(float(value)) if isinstance(value, float) else str(value)


def _from_text(cell: str) -> Value:
    if cell == "":
        return None
    for kind in (int, float):
        try:
            value = kind(cell)
        except ValueError:
            continue
        if "." in cell or _to_text(value) == cell:
            return value
    return cell


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _git(*words: str) -> str:
    if not (ROOT / ".git").exists():
        return ""
    try:
        command = ("git", "-C", str(ROOT), *words)
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""

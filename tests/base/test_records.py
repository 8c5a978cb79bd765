"""Tables and row logs come back as they were written."""

import json
import math

import numpy as np
import pytest

from sdewm.base import records
from tests.child_process import run

ROWS = [
    {"epsilon": 0.1, "series": "same", "count": 3, "note": None},
    {"epsilon": 1 / 3, "series": 'a, "b"', "count": -1, "note": "ε"},
]


def test_table_comes_back_with_every_digit(tmp_path):
    facts = records.manifest(seed=7, paths=1000, device="cpu")
    path = tmp_path / "data" / "table.csv"
    records.write_table(path, ROWS, facts)
    rows, read = records.read_table(path)
    assert rows == ROWS
    assert read == {key: str(value) for key, value in facts.items()}


def test_manifest_says_how_to_repeat_the_run():
    facts = records.manifest(seed=7)
    assert {"command", "commit", "seed", "python", "torch", "numpy"} <= set(facts)
    assert not str(facts["command"]).startswith("/")


@pytest.mark.parametrize("rows", [[], [{"a": 1}, {"b": 1}]])
def test_table_refuses_rows_that_are_no_table(rows, tmp_path):
    with pytest.raises(ValueError, match="rows"):
        records.write_table(tmp_path / "table.csv", rows, {})
    assert not (tmp_path / "table.csv").exists()


def test_row_log_keeps_rows_through_an_interruption(tmp_path):
    path = tmp_path / "runs" / "log.jsonl"
    log = records.RowLog(path, {"seed": 1})
    log.append({"id": "a", "value": math.nan})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id": "b", "val')  # cut off
    log.close()
    assert records.read_log(path) == ([{"id": "a", "value": None}], {"seed": 1})
    assert records.read_log(tmp_path / "none.jsonl") == ([], {})


@pytest.mark.parametrize("bad", [b'{"id": "b"\xff}', b'{"id": "b', b"\0\0", b"[1]"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_damaged_line_of_a_row_log_costs_that_line_only(bad, place, tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    records.RowLog(path, {"seed": 1}, [{"id": name} for name in "abc"]).close()
    lines = path.read_bytes().split(b"\n")
    lines[place] = bad
    path.write_bytes(b"\n".join(lines))
    rows, facts = records.read_log(path)
    assert [row["id"] for row in rows] == (["a", "b", "c"] if place == 0 else ["a", "c"])
    assert facts == ({} if place == 0 else {"seed": 1})
    assert f"left out: line {place + 1}" in capsys.readouterr().err


def test_a_line_separator_in_a_text_does_not_cut_its_row(tmp_path):
    path = tmp_path / "log.jsonl"
    records.RowLog(path, {"seed": 1}, [{"id": "a\u2028b\x85c"}]).close()
    assert records.read_log(path) == ([{"id": "a\u2028b\x85c"}], {"seed": 1})


@pytest.mark.parametrize("write", [records.write_table, records.write_json])
def test_a_file_that_cannot_be_finished_leaves_the_earlier_one(write, tmp_path, monkeypatch):
    path = tmp_path / "table"
    write(path, ROWS, {"seed": 1})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, ROWS[:1], {"seed": 2})
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


def test_a_link_to_a_table_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to("table")
    records.write_table(tmp_path / "link", ROWS, {})
    assert (tmp_path / "link").is_symlink() and records.read_table(tmp_path / "table")[0] == ROWS


def test_row_log_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    for name in "ab":
        log = records.RowLog(path, {"seed": 1}, records.read_log(path)[0])
        log.append({"id": name})
        log.close()
    assert records.read_log(path) == ([{"id": "a"}, {"id": "b"}], {"seed": 1})


def test_json_is_strict(tmp_path):
    records.write_json(tmp_path / "rows.json", [{"x": math.inf}], {"seed": 0})
    assert json.loads((tmp_path / "rows.json").read_text("utf-8")) == {
        "manifest": {"seed": 0},
        "rows": [{"x": None}],
    }


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("sdewm/theory/bounds/tube.py", True),
        ("paper_checks/findings.py", True),
        ("paper_checks/cases/rollouts.py", True),
        ("paper_checks/claims.toml", True),
        ("paper_checks/LEDGER.md", False),
        ("analysis/fig_open_loop.py", False),
    ],
)
def test_digest_is_that_of_the_code_in_all_its_folders(name, counts, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROOT", tmp_path)
    before = records.code_digest()
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("x = 1")
    assert (records.code_digest() != before) == counts
    assert (records.ROOT / name).exists() and len(before) == 16


@pytest.mark.parametrize("name", ["sdewm/new/x.py", "paper_checks/x.py", "paper_checks/new/x.py"])
def test_a_changed_file_in_any_folder_of_the_code_marks_the_commit(name, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROOT", tmp_path)
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    (tmp_path / "sdewm").mkdir()
    (tmp_path / "sdewm" / "a.py").write_text("x = 1")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-q", "-m", "first")):
        assert run("git", *words, cwd=tmp_path).returncode == 0
    assert "+" not in records.code_commit()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x = 2")
    assert records.code_commit().endswith("+changes")


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    """repr(np.float64(0.1)) is 'np.float64(0.1)', which is read as a text."""
    path = tmp_path / "table.csv"
    records.write_table(path, [{"a": np.float64(0.1), "b": np.float32(0.5), "c": 0.1}], {})
    assert records.read_table(path)[0] == [{"a": 0.1, "b": 0.5, "c": 0.1}]


@pytest.mark.parametrize("digest", ["0012345", "12e4567", "1e400000", "0x12", "1_000", "١٢"])
def test_a_digest_is_no_number(tmp_path, digest):
    records.write_table(tmp_path / "table", [{"commit": digest, "value": 1e-05}], {})
    assert records.read_table(tmp_path / "table")[0] == [{"commit": digest, "value": 1e-05}]

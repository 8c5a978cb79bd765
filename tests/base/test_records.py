"""Tables and row logs come back as they were written."""

import json
import math

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

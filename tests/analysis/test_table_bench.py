"""The speed table: names, what is kept, and one short row measured for real."""

import contextlib
import importlib.util
import io
import runpy
import sys

import pytest

from sdewm.base.records import read_table
from tests.child_process import ROOT

SCRIPT = ROOT / "analysis" / "table_bench.py"
ROW = "normal_torch/float32/threads1"

specification = importlib.util.spec_from_file_location("table_bench", SCRIPT)
assert specification is not None and specification.loader is not None
table_bench = importlib.util.module_from_spec(specification)
specification.loader.exec_module(table_bench)


def row(name: str, **figures: object) -> dict:
    blank = dict.fromkeys(table_bench.COLUMNS, "")
    return blank | {"name": name, "value": 1.0, "ratio": None} | figures


class Here:
    """In the place of a pool of threads: one after the other."""

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        return None

    map = staticmethod(map)


def run_here(script, *words, threads=1):
    """The lines of a script that runs in this process."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [str(script), *words])
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue().splitlines()


@pytest.fixture(scope="module")
def names() -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_bench, "ThreadPoolExecutor", Here)
        patch.setattr(table_bench, "run", run_here)
        return list(table_bench.listing("cpu"))


def test_every_name_is_listed_once_with_its_threads(names, capsys):
    table_bench.main(["--list"])
    assert capsys.readouterr().out.splitlines() == names
    assert len(set(names)) == len(names)
    for needed in (
        ROW,
        "ou_solve_vs_default/float32/65536/threads2",
        "expand_memory/paths/threads1",
    ):
        assert needed in names


def test_a_misspelt_row_is_refused_with_the_nearest_name(names):
    sentence = r"--only nromal_torch: no such row; did you mean normal_torch\?"
    with pytest.raises(SystemExit, match=sentence):
        table_bench.main(["--only", "nromal_torch"])


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ([], ["a/1", "ab/1", "b/2"]),
        (["b/"], ["ab/1", "b/2"]),
        (["a*/1"], ["a/1", "ab/1"]),
        (["b/2", "a/"], ["a/1", "b/2"]),
    ],
)
def test_rows_are_chosen_by_part_or_pattern(patterns, chosen):
    assert table_bench.select(["a/1", "ab/1", "b/2"], patterns) == chosen


def test_a_row_is_measured_written_and_written_again_without_losing_others(names, tmp_path, capsys):
    table = tmp_path / "data" / "bench.csv"
    for name in ("first", ROW, "last"):
        table_bench.keep(row(name), table)
    table_bench.main(["--only", ROW, "--table", str(table)])
    rows, facts = read_table(table)
    assert [kept["name"] for kept in rows] == ["first", ROW, "last"]
    assert list(rows[1]) == table_bench.COLUMNS
    assert rows[1]["unit"] == "ns/number"
    assert 0 < rows[1]["low"] <= rows[1]["value"] <= rows[1]["high"]
    assert rows[1]["machine"] and rows[1]["commit"]
    assert [rows[0]["value"], rows[2]["value"]] == [1.0, 1.0]
    assert not facts and "torch" in str(rows[1]["machine"])
    assert ROW in capsys.readouterr().out


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({"aim": ">= 2", "ratio": 2.1, "value": 90.0}, "met"),
        ({"aim": ">= 2", "ratio": 1.9, "value": 90.0}, "MISSED"),
        ({"aim": "<= 6", "ratio": 6.1, "value": 1.0}, "MISSED"),
        ({"aim": "<= 0.1", "value": -0.02}, "met"),
        ({"aim": "", "ratio": 3.0}, ""),
    ],
)
def test_the_verdict_reads_the_ratio_or_else_the_value(figures, verdict):
    assert table_bench.verdict(row("x", **figures)) == verdict


def test_a_failing_script_is_reported_and_its_rows_are_named(tmp_path, capfd, monkeypatch):
    script = tmp_path / "bench_broken.py"
    script.write_text("raise SystemExit(3)")
    jobs = {"broken/threads1": (script, 1)}
    monkeypatch.setattr(table_bench, "listing", lambda device: jobs)
    with pytest.raises(SystemExit, match="not measured: broken/threads1"):
        table_bench.main(["--table", str(tmp_path / "bench.csv")])
    assert "bench_broken.py" in capfd.readouterr().err

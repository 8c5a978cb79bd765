"""Tables of the studies: from rows alone, with the numbers of the statistics that they name."""

import json
import math

import numpy as np
import pytest

from sdewm.base.records import ROOT, read_table
from sdewm.robustness.statistics import compare, holm, t_interval
from sdewm.study.committed import (
    declaration,
    read_results,
    restore_results,
    table_of,
    write_results,
)
from sdewm.study.rows import (
    Place,
    append_rows,
    from_lines,
    missing_cells,
    one_line_a_cell,
    read_rows,
)
from sdewm.study.study_file import read_study
from tests.analysis.study_rows import load, results_of

DATA = ROOT / "figures" / "data"


@pytest.fixture(scope="module")
def script():
    return load("table_studies")


def noisy(arm, seed, updates, name):
    """A value that differs by arm, seed, updates and end point."""
    state = np.random.default_rng([len(arm), ord(arm[-1]), seed, updates, len(name), ord(name[-1])])
    return 10.0 * seed + state.standard_normal()


def test_lines_of_a_table_are_the_paired_statistics(script):
    results = results_of("cartpole", 5, noisy)
    lines = script.differences(results, ("area noise", "jacobian"))
    assert len(lines) == 6 * 2  # the arms that are compared, and the end points
    line = next(x for x in lines if (x["arm"], x["end_point"]) == ("penalty_01", "jacobian"))
    ours, theirs = (
        [noisy(arm, s, 8000, "jacobian") for s in range(5)] for arm in ("penalty_01", "baseline")
    )
    seen = compare(np.array(ours), np.array(theirs))
    assert line["difference"] == pytest.approx(seen.difference.estimate, abs=1e-12)
    assert (line["low"], line["high"]) == pytest.approx(seen.difference[1:], abs=1e-12)
    assert line["factor"] == pytest.approx(math.exp(line["difference"]))
    assert (line["t_p"], line["sign_flip_p"]) == pytest.approx((seen.t_p, seen.sign_p))
    assert line["mean_of_baseline"] == pytest.approx(np.mean(theirs))
    adjusted = holm({str(n): one["t_p"] for n, one in enumerate(lines)})
    assert [one["holm_p"] for one in lines] == [*adjusted.values()]


def test_the_trend_is_the_slope_for_a_doubling_of_the_batch(script):
    sizes = {"batch_8": 8, "batch_16": 16, "batch_32": 32, "batch_64": 64}

    def value(arm, seed, updates, name):
        return (
            (0.2 + 0.01 * seed)
            * math.log2(sizes[arm.removesuffix("_penalty")])
            * (-1 if arm.endswith("penalty") else 1)
        )

    lines = script.trends(results_of("cartpole_batch", 4, value), ("area noise",))
    expected = t_interval([0.2 + 0.01 * seed for seed in range(4)])
    assert [line["difference"] for line in lines] == pytest.approx([expected[0], -expected[0]])
    assert (lines[0]["low"], lines[0]["high"]) == pytest.approx(expected[1:])
    assert "no penalty" in lines[0]["arm"] and "jacobian.weight=0.01" in lines[1]["arm"]


def test_tables_are_written_from_rows_alone_and_only_where_there_are_some(script, tmp_path, capsys):
    results = results_of("cartpole_batch", 3, noisy)
    folder = tmp_path / "runs" / "cartpole_batch"
    append_rows(folder / "rows.csv", [row | {"study": "cartpole_batch"} for row in results.rows])
    copied = write_results("cartpole_batch", folder, tmp_path)
    assert copied == table_of("cartpole_batch", tmp_path)
    script.main(["--data", str(tmp_path)])
    made = sorted(path.name for path in tmp_path.glob("table_*"))
    assert made == ["table_batch_size.csv", "table_study_verdicts.csv"]
    lines, facts = read_table(tmp_path / "table_batch_size.csv")
    assert facts["caption"].startswith("3 of 4 seeds, 8000 updates on batches of each arm's size")
    assert facts["digest"] == results.study.digest
    rows, _ = read_table(tmp_path / "table_study_verdicts.csv")
    assert {row["verdict"] for row in rows} == {"undecided"}  # the fourth seed is missing
    with pytest.raises(SystemExit):
        script.main(["table_encoder_error", "--data", str(tmp_path)])
    assert "the study 'cartpole' has not run yet" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main(["table_batchsize", "--data", str(tmp_path)])
    assert "did you mean 'table_batch_size'" in capsys.readouterr().err


def test_a_study_with_one_seed_has_no_tables_yet(script, tmp_path):
    results = results_of("cartpole_batch", 1, noisy)
    folder = tmp_path / "runs"
    append_rows(folder / "rows.csv", [row | {"study": "cartpole_batch"} for row in results.rows])
    write_results("cartpole_batch", folder, tmp_path)
    assert script.there(tmp_path) == []
    script.main(["--data", str(tmp_path)])
    assert not list(tmp_path.glob("table_*"))


def test_rows_of_another_declaration_are_refused(tmp_path):
    results = results_of("cartpole", 2, noisy)
    append_rows(tmp_path / "rows.csv", [row | {"digest": "another"} for row in results.rows])
    with pytest.raises(ValueError, match=r"has no rows of cartpole\.toml"):
        write_results("cartpole", tmp_path, tmp_path)
    append_rows(tmp_path / "b" / "rows.csv", results.rows)
    table = write_results("cartpole", tmp_path / "b", tmp_path)
    table.write_text(table.read_text("utf-8").replace(results.study.digest, "0123456789ab"))
    with pytest.raises(ValueError, match="rows of the declaration 0123456789ab"):
        read_results("cartpole", tmp_path)


def test_committed_rows_say_what_a_cell_took(tmp_path):
    results = results_of("cartpole", 2, noisy)
    append_rows(tmp_path / "rows.csv", results.rows)
    facts = read_table(write_results("cartpole", tmp_path, tmp_path))[1]
    assert "minutes_a_cell" not in facts  # no cell was trained here
    place = Place(tmp_path, results.study.digest, declaration("cartpole"))
    for cell, seconds in zip(results.study.cells, (120.0, 240.0), strict=False):
        place.cost(cell).parent.mkdir(exist_ok=True)
        place.cost(cell).write_text(json.dumps({"seconds": seconds, "memory_mb": seconds + 0.4}))
    facts = read_table(write_results("cartpole", tmp_path, tmp_path))[1]
    told = facts["minutes_a_cell"], facts["memory_mb_a_cell"], facts["cells_timed"]
    assert told == ("3.0", "240", "2")


def test_committed_rows_are_of_the_same_episodes(tmp_path):
    results = results_of("cartpole", 2, noisy)
    append_rows(
        tmp_path / "rows.csv",
        [row | {"episodes": "12345678901" + row["seed"]} for row in results.rows],
    )
    write_results("cartpole", tmp_path, tmp_path)
    with pytest.raises(ValueError, match="different episodes: 123456789010, 123456789011"):
        read_results("cartpole", tmp_path)


def test_a_study_goes_on_from_committed_rows(tmp_path):
    results, data = results_of("cartpole_batch", 3, noisy), tmp_path / "data"
    facts = {"study": "cartpole_batch", "standard_error": "0.5"}
    first, second = tmp_path / "first", tmp_path / "second"
    append_rows(first / "rows.csv", [row | facts for row in results.rows])
    data.mkdir()
    write_results("cartpole_batch", first, data)
    study = results.study
    place = Place(second, study.digest, declaration("cartpole_batch"))
    # A cell that was trained here keeps its rows.
    ours = [row | facts | {"value": "77.0"} for row in results.rows if row["arm"] == "batch_8"]
    append_rows(place.table, [row for row in ours if row["seed"] == "0"])
    for _ in range(2):  # a second call changes nothing
        assert restore_results("cartpole_batch", second, data) == place.table
        rows = read_rows(study, place)
        assert len(rows) == len(results.rows)
        assert {cell.seed for cell in missing_cells(study, place)} == {3}
    names = ("arm", "seed", "updates", "end_point")
    theirs = {tuple(row[key] for key in names): row["value"] for row in results.rows}
    for row in rows:
        kept = row["arm"] == "batch_8" and row["seed"] == "0"
        assert row["value"] == ("77.0" if kept else theirs[tuple(row[key] for key in names)])
        assert kept or f"--seed {row['seed']} " in row["command"]
    # Nothing else than values, commits and places of rows was lost on the way.
    assert write_results("cartpole_batch", second, data) == table_of("cartpole_batch", data)
    with pytest.raises(ValueError, match="has not run yet"):
        restore_results("cartpole_hidden", second, data)


def test_lines_of_cells_come_back_as_rows():
    rows = results_of("cartpole", 2, noisy).rows
    again = from_lines(one_line_a_cell(rows))
    names = ("arm", "seed", "updates", "end_point", "value")
    assert [[row[name] for name in names] for row in again] == [
        [row[name] for name in names] for row in rows
    ]


def test_committed_tables_are_those_of_the_committed_rows(script):
    names = script.there(DATA)
    assert {*names} >= {script.VERDICTS, "table_encoder_error"}
    for name in names:
        lines, facts = read_table(DATA / f"{name}.csv")
        again, new = script.made(name, DATA)
        assert facts["caption"] == new["caption"]
        assert len(lines) == len(again)
        for one, other in zip(lines, again, strict=True):
            assert {k: v for k, v in one.items() if isinstance(v, str)} == {
                k: v for k, v in other.items() if isinstance(v, str) and v
            }
            for key, value in one.items():
                if isinstance(value, float):
                    assert value == pytest.approx(other[key], rel=1e-9, abs=1e-12), (name, key)


def test_every_study_can_be_read_without_its_episodes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert read_study(declaration("cartpole")).name == "cartpole"

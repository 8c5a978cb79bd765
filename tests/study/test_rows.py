"""Rows of a study: appended whole, read with damage told, never without a finite value."""

import json
import shutil

import pytest

from sdewm.base.stats import Estimate
from sdewm.cli import main
from sdewm.commands import study_cell
from sdewm.data.dataset import NOTES, RECIPE, read_dataset, write_dataset
from sdewm.study.end_points import Measurement, windows
from sdewm.study.episodes import require_episodes
from sdewm.study.rows import (
    COLUMNS,
    append_rows,
    expected_cost,
    missing_cells,
    read_rows,
)
from sdewm.study.study_file import read_study
from tests.study.declared import EPISODES, TEXT, written


def row_of(study, arm="strong", value="1.5", end_point="jacobian"):
    known = {"digest": study.digest, "arm": arm, "seed": "0", "updates": "4", "value": value}
    return dict.fromkeys(COLUMNS, "x") | known | {"end_point": end_point}


def test_rows_are_appended_below_one_head(tmp_path):
    row = dict.fromkeys(COLUMNS, "x")
    for _ in range(2):
        append_rows(tmp_path / "rows.csv", [row])
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[0].startswith("study,digest,arm")


@pytest.mark.parametrize("damage", ["1.5,nan", "1.5,abc", "\ufffd\x00", "strong,0,x"], ids=repr)
def test_a_damaged_line_costs_its_cell_alone_and_is_told(study, place, damage, capsys):
    rows = [row_of(study, end_point=name) for name in study.end_points]
    append_rows(place.table, [*rows, row_of(study, arm="baseline"), row_of(study)])
    lines = place.table.read_text().splitlines()
    old, _, new = damage.partition(",")
    lines[3] = lines[3].replace(old, new) if old in lines[3] else damage
    place.table.write_bytes(("\n".join(lines) + "\n").encode())
    found = read_rows(study, place)
    assert {row["arm"] for row in found} == {"strong"} and len(found) == 2
    assert f"{place.table}: line 4 is damaged and left out" in capsys.readouterr().err
    assert study.cells[0] in missing_cells(study, place)
    assert study.cells[1] not in missing_cells(study, place)


@pytest.mark.parametrize("content", [b"garbage\nmore\n", b"\xbf\xff\n", b"study,digest,arm\n"])
def test_what_is_no_table_of_a_study_is_named(study, place, content, tmp_path, capsys):
    place.table.parent.mkdir(parents=True)
    place.table.write_bytes(content)
    words = ["study", str(tmp_path / "study.toml"), "--out", str(place.folder)]
    for more in (["--report"], ["--plan"], []):
        assert main([*words, *more]) == 2
        assert "does not begin with the columns of a study" in capsys.readouterr().err
    assert place.table.read_bytes() == content


def test_a_value_that_is_not_finite_is_no_row(study, place, monkeypatch):
    found = [Estimate(1.0, 0.1), Estimate(float("nan"), 0.1)]
    monkeypatch.setattr(study_cell, "measure", lambda *given: found)
    with pytest.raises(ValueError, match="baseline-seed0: jacobian is nan"):
        study_cell.measured(study, study.cells[0], place.run(study.cells[0]), "", "")


def test_the_cost_of_a_plan_is_that_of_the_missing_cells(study, place):
    assert "are not known" in expected_cost(place, study.cells, study.cells)
    for cell, seconds, memory in zip(study.cells, (1800.0, 5400.0), (300.0, 500.0), strict=False):
        place.cost(cell).parent.mkdir(parents=True, exist_ok=True)
        place.cost(cell).write_text(json.dumps({"seconds": seconds, "memory_mb": memory}))
    told = expected_cost(place, study.cells, study.cells[2:])
    assert told.startswith("about 4 hours of one worker and 500 MB each, as the 2 cells took")
    slow = [cell for cell in study.cells[2:] if cell.arm == "strong"]  # 1.5 hours each
    assert expected_cost(place, study.cells, slow).startswith("about 3 hours")


def test_the_cost_of_a_cell_includes_its_measuring_and_the_training_before_an_interruption(
    tmp_path,
):
    lines = [{"manifest": {"seed": 0}}]
    lines += [{"updates": n, "seconds": 10.0 * n, "memory_mb": m} for n, m in ((2, 1e9), (4, 30.0))]
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert study_cell.cost(tmp_path, measuring=2.5) == {"seconds": 42.5, "memory_mb": 1e9}
    log.write_text(log.read_text().replace("1000000000.0", "30.0"))
    assert study_cell.cost(tmp_path, measuring=2.5)["memory_mb"] > 100  # of this process


def test_rows_of_other_episodes_are_not_gone_on_with(study, place, tmp_path, capsys):
    episodes = require_episodes(study)
    assert len(episodes) == 12 and require_episodes(study, [{"episodes": episodes}]) == episodes
    assert require_episodes(study, [{"episodes": ""}, {}]) == episodes  # not on record
    append_rows(place.table, [row_of(study) | {"episodes": "0123456789ab"}])
    assert main(["study", str(tmp_path / "study.toml"), "--out", str(place.folder)]) == 2
    said = capsys.readouterr().err
    assert f"these episodes ({episodes}) are not those of the rows" in said
    assert "(0123456789ab)" in said
    assert len(read_rows(study, place)) == 1


def test_test_episodes_of_another_task_are_refused(tmp_path):
    """They have the same shapes, and steps twice as long."""
    shutil.copytree(EPISODES, tmp_path / "slow")
    manifest = tmp_path / "slow" / "manifest.json"
    facts = json.loads(manifest.read_text())
    repeat = facts["action_repeat"]
    manifest.write_text(json.dumps(facts | {"action_repeat": 2 * repeat}))
    text = TEXT.replace(f'test_data = "{EPISODES}"', f'test_data = "{tmp_path / "slow"}"')
    study = read_study(written(tmp_path, text))
    message = f"has action_repeat={2 * repeat}, but data=.* has action_repeat={repeat}"
    with pytest.raises(ValueError, match=message):
        require_episodes(study)
    with pytest.raises(ValueError, match=rf"but run=.* has action_repeat={repeat}"):
        _ = Measurement(EPISODES.parent / "weight0-seed0", tmp_path / "slow").episodes


def test_test_episodes_that_are_too_short_are_told(tmp_path, capsys):
    """Models are measured on the others: of tasks that end early, the better episodes."""
    whole, few = read_dataset(EPISODES), []
    for rows in (120, 40, 100, 99):
        episode = {name: part[:rows].clone() for name, part in next(iter(whole)).items()}
        episode["is_last"][-1] = True
        few.append(episode)
    facts = {name: whole.facts[name] for name in (*RECIPE, *NOTES)}

    def study_on(place, episodes):
        write_dataset(place, episodes, facts)
        text = TEXT.replace(f'test_data = "{EPISODES}"', f'test_data = "{place}"')
        return read_study(written(tmp_path, text))

    place = tmp_path / "short"
    require_episodes(study_on(place, few))
    assert f"note: 2 of 4 episodes of {place} have fewer than 100" in capsys.readouterr().err
    assert len(windows(place).rewards) == 2
    with pytest.raises(ValueError, match="has 1 episodes of at least 100 rows; expected two"):
        require_episodes(study_on(tmp_path / "fewer", few[:2]))


def test_rows_of_different_episodes_are_not_reported(study, place, tmp_path, capsys):
    words = ["study", str(tmp_path / "study.toml"), "--out", str(place.folder), "--report"]
    append_rows(place.table, [row_of(study) | {"episodes": "0123456789ab"}])
    append_rows(place.table, [row_of(study, arm="baseline") | {"episodes": ""}])  # not on record
    assert main(words) == 0
    append_rows(place.table, [row_of(study, arm="baseline") | {"episodes": "ab0123456789"}])
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "holds rows of different episodes: 0123456789ab, ab0123456789" in said


@pytest.mark.parametrize(
    ("column", "value"),
    [("arm", "sting"), ("seed", "99"), ("updates", "3"), ("end_point", "open_loop 6")],
)
def test_rows_that_the_study_does_not_declare_are_refused(study, place, column, value):
    append_rows(place.table, [row_of(study), row_of(study) | {column: value}])
    with pytest.raises(ValueError, match=f"{column}='{value}', which the study 'smoke' does not"):
        read_rows(study, place)


def test_of_two_values_of_a_cell_the_last_one_counts_and_another_one_is_told(study, place, capsys):
    append_rows(place.table, [row_of(study), row_of(study)])
    assert len(read_rows(study, place)) == 1 and capsys.readouterr().err == ""
    append_rows(place.table, [row_of(study, value="2.5")])
    assert [row["value"] for row in read_rows(study, place)] == ["2.5"]
    assert "line 4 has 2.5 where an earlier line has 1.5" in capsys.readouterr().err


def test_each_row_names_its_episodes(study, place, monkeypatch):
    monkeypatch.setattr(study_cell, "measure", lambda *given: [Estimate(1.0, 0.1)] * 2)
    run = place.run(study.cells[0])
    rows = study_cell.measured(study, study.cells[0], run, "0123456789ab", "9f")
    assert {row["episodes"] for row in rows} == {"0123456789ab"}
    assert {row["commit"] for row in rows} == {"9f"}
    assert set(rows[0]) == set(COLUMNS)

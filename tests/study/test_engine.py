"""Cells of a study: which run, what survives an interruption, and whole studies."""

import json
import os
import signal
import sys
import threading

import numpy as np
import pytest

from sdewm.cli import main
from sdewm.study import engine
from sdewm.study.engine import LocalPool, run_study
from sdewm.study.rows import (
    COLUMNS,
    Place,
    missing_cells,
    read_rows,
)
from sdewm.study.study_file import read_study
from sdewm.train.run_directory import locked
from sdewm.train.signals import Interrupted, StopRequest
from tests.child_process import wait_until
from tests.study.declared import AGENTS, TEXT, written


class FakeCells:
    """In the place of training and measuring; the code runs in the process of the cell.

    It finds the name of its cell in `cell`, the number of its attempts in `attempt`, and a folder
    for marks in `marks`.
    """

    def __init__(self, monkeypatch, study, folder, code="pass"):
        self.names = folder / "started.txt"
        script = folder / "cell.py"
        row = dict.fromkeys(COLUMNS, "x") | {"value": "1.5", "standard_error": "0.1"}
        row |= {"digest": study.digest, "updates": str(study.updates)}
        rows = [row | {"end_point": name} for name in study.end_points]
        script.write_text(
            "import json, pathlib, signal, sys\n"
            f"marks, names = pathlib.Path({str(folder)!r}), pathlib.Path({str(self.names)!r})\n"
            "folder, arm, seed = sys.argv[2:]\n"
            "cell = f'{arm}-seed{seed}'\n"
            "with names.open('a') as file:\n    file.write(cell + '\\n')\n"
            "attempt = names.read_text().split().count(cell)\n" + code + "\n"
            f"rows = [row | dict(arm=arm, seed=seed) for row in {rows!r}]\n"
            f"place = pathlib.Path(folder, {study.digest!r}, cell + '.json')\n"
            "place.write_text(json.dumps(rows))\n"
        )
        monkeypatch.setattr(engine, "WORKER", (sys.executable, "-S", str(script)))

    @property
    def started(self):
        return self.names.read_text().split() if self.names.exists() else []

    def forget(self):
        self.names.unlink()


def test_two_processes_do_not_share_a_study(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    with locked(out):
        assert main(["study", str(written(tmp_path)), "--out", str(out)]) == 2
    assert f"out={str(out)!r} is being trained by process" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["lock"]


def test_a_second_call_does_what_is_missing(study, place, tmp_path, monkeypatch):
    fake, said = FakeCells(monkeypatch, study, tmp_path), []
    assert run_study(study, place, LocalPool(place, 2), StopRequest(), said.append) == []
    rows = read_rows(study, place)
    assert len(rows) == 12 and sorted(fake.started) == sorted(cell.name for cell in study.cells)
    assert rows[0]["value"] == "1.5" and rows[0]["digest"] == study.digest
    assert "[6/6]" in said[-1]
    text = place.table.read_text()
    place.table.write_text(text[: text.rindex("\n", 0, -30) - 5])  # a line was cut off
    lost = missing_cells(study, place)
    assert len(lost) == 1
    fake.forget()
    run_study(study, place, LocalPool(place, 2), StopRequest(), said.append)
    assert fake.started == [lost[0].name] and missing_cells(study, place) == []
    header = place.table.read_text().splitlines()
    assert header.count(header[0]) == 1


def test_rows_of_another_declaration_do_not_count(study, place, tmp_path, monkeypatch):
    FakeCells(monkeypatch, study, tmp_path)
    run_study(study, place, LocalPool(place, 2), StopRequest(), lambda line: None)
    other = read_study(written(tmp_path, TEXT.replace("updates = 4", "updates = 5")))
    elsewhere = Place(place.folder, other.digest, place.file)
    assert other.digest != study.digest and len(missing_cells(other, elsewhere)) == 6
    assert elsewhere.run(other.cells[0]) != place.run(study.cells[0])
    assert len(read_rows(study, place)) == 12


def test_a_failed_cell_is_tried_again_then_reported_while_the_others_go_on(
    study, place, tmp_path, monkeypatch
):
    code = (
        "if cell == 'strong-seed1':\n    sys.exit('out of luck')\n"
        "if cell == 'baseline-seed0' and attempt == 1:\n    sys.exit(1)"
    )
    fake, said = FakeCells(monkeypatch, study, tmp_path, code), []
    (failed,) = run_study(study, place, LocalPool(place, 2), StopRequest(), said.append)
    assert (
        failed.startswith("strong-seed1 (exit code 1, see ")
        and fake.started.count("strong-seed1") == 2
    )
    assert place.log(study.cells[3]).read_text().count("out of luck") == 2
    assert fake.started.count("baseline-seed0") == 2
    assert [cell.name for cell in missing_cells(study, place)] == ["strong-seed1"]
    assert any("tried again" in line for line in said)


def test_cells_keep_the_session_and_its_priority_and_read_no_keys(
    study, place, tmp_path, monkeypatch
):
    code = (
        "import os\n"
        "facts = [os.getsid(0), os.getpgid(0) == os.getpid(), sys.stdin.read()]\n"
        "(marks / 'facts').write_text(json.dumps(facts))"
    )
    FakeCells(monkeypatch, study, tmp_path, code)
    run_study(study, place, LocalPool(place, 1), StopRequest(), [].append)
    assert json.loads((tmp_path / "facts").read_text()) == [os.getsid(0), True, ""]


@pytest.mark.parametrize("at_its_end", [False, True])
def test_an_interruption_ends_the_cells_and_keeps_the_rows(
    at_its_end, study, place, tmp_path, monkeypatch
):
    end = "pass" if at_its_end else "sys.exit(130)"  # where its rows are still written, or not
    code = (
        "if not cell.endswith('0'):\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    try:\n        (marks / 'begun').touch()\n        signal.pause()\n"
        f"    except KeyboardInterrupt:\n        (marks / 'saved').touch()\n        {end}\n"
    )
    fake, said, stop = FakeCells(monkeypatch, study, tmp_path, code), [], StopRequest()

    def interrupt():
        wait_until((tmp_path / "begun").exists)
        stop.number = signal.SIGTERM

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        run_study(study, place, LocalPool(place, 1), stop, said.append)
    thread.join()
    assert (tmp_path / "saved").exists()
    assert len(read_rows(study, place)) == (6 if at_its_end else 4)
    missing = [cell.name for cell in missing_cells(study, place)]
    last = fake.started[-1]
    assert (last in missing) != at_its_end and (f"{last}: done" in said) == at_its_end


def test_a_real_study_from_the_command_line(tmp_path, capsys):
    path = written(tmp_path, TEXT.replace("seeds = [0, 1, 2]", "seeds = [0]"))
    out = tmp_path / "out"
    assert main(["study", str(path), "--out", str(out), "--plan"]) == 0
    told = capsys.readouterr().out
    assert (
        "2 of 2 cells of 4 updates missing" in told
        and "no cell has been trained and measured" in told
    )
    assert main(["study", str(path), "--out", str(out), "--jobs", "2"]) == 0
    said = capsys.readouterr()
    assert "[2/2]" in said.err
    control, comparison = (said.out.splitlines()[n].split()[-1] for n in (-3, -2))
    assert (control, comparison) == ("open", "undecided")  # one seed decides nothing
    study = read_study(path)
    rows = read_rows(study, Place(out, study.digest, path))
    assert "sdewm train --preset tiny" in rows[0]["command"]
    assert len(rows) == 4 and all(float(row["standard_error"]) > 0 for row in rows)
    assert main(["study", str(path), "--out", str(out), "--report"]) == 0
    assert capsys.readouterr().out == said.out
    assert main(["study", str(path), "--out", str(out), "--plan"]) == 0
    assert "MB each, as the 2 cells took" in capsys.readouterr().out


@pytest.mark.slow
def test_a_study_of_agents_measures_their_returns(tmp_path, capsys):
    path = written(tmp_path, AGENTS.replace("seeds = [0, 1]", "seeds = [0]"))
    out = tmp_path / "out"
    assert main(["study", str(path), "--out", str(out), "--jobs", "2"]) == 0
    study = read_study(path)
    rows = read_rows(study, Place(out, study.digest, path))
    assert {row["updates"] for row in rows} == {"end"} and len(rows) == 6
    run = out / study.digest / "baseline-seed0"
    lines = (run / "evaluation.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if '"by": "train"' in line]
    assert [row["env_frames"] for row in found] == [600, 1200]
    own = {row["end_point"]: float(row["value"]) for row in rows if row["arm"] == "baseline"}
    returns = [row["mean_return"] for row in found]
    assert own["final_return"] == pytest.approx(-np.log(returns[-1]))
    assert own["return_area"] == pytest.approx(-np.log(np.mean(returns)))
    assert "1200 env_frames" in capsys.readouterr().out

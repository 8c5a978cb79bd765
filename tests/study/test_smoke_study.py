"""The smoke study of the repository: real cells through the command line, and its report."""

from sdewm.cli import main
from sdewm.study.committed import declaration
from sdewm.study.rows import Place, costs, missing_cells, read_rows
from sdewm.study.study_file import read_study
from tests.child_process import ROOT


def test_the_smoke_study_runs_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)  # its episodes are named from there
    path, out = declaration("smoke"), tmp_path / "out"
    assert main(["study", str(path), "--out", str(out), "--jobs", "2"]) == 0
    study = read_study(path)
    place = Place(out, study.digest, path)
    assert missing_cells(study, place) == [] and len(read_rows(study, place)) == 4 * 2 * 2
    told = capsys.readouterr()
    assert "[4/4]" in told.err and "control: better  penalty  baseline  jacobian" in told.out
    taken = costs(place, study.cells).values()
    assert len(taken) == 4 and all(one["seconds"] > 0 and one["memory_mb"] > 100 for one in taken)
    assert main(["study", str(path), "--out", str(out)]) == 0  # nothing is left to do
    again = capsys.readouterr()
    assert again.out == told.out and "4 of 4 cells are done" in again.err

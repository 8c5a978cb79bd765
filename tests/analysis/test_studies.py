"""Every study of the repository is a right declaration."""

import pytest

from sdewm.study.declaration import read_study
from tests.child_process import ROOT

FILES = sorted((ROOT / "analysis" / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_is_declared_rightly(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = read_study(path)
    assert study.name == path.stem and study.comparisons
    assert len(study.cells) == len(study.seeds) * len(study.arms)

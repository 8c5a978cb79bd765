"""Every study of the repository is a right declaration, of episodes that its script records."""

import sys

import pytest
import torch

from sdewm.data.dataset import read_dataset
from sdewm.study.end_points import check_on_episodes
from sdewm.study.study_file import read_study
from tests.child_process import ROOT

FILES = sorted((ROOT / "analysis" / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_is_declared_rightly(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = read_study(path)
    assert study.name == path.stem and study.comparisons
    assert len(study.cells) == len(study.seeds) * len(study.arms)


def test_the_episodes_of_images_fit_the_end_points_of_their_study(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "analysis")
    import make_study_data

    monkeypatch.setattr(sys, "argv", ["make_study_data.py"])
    monkeypatch.setattr(make_study_data, "DATA", tmp_path)
    monkeypatch.setattr(make_study_data, "RECORDINGS", {})
    monkeypatch.setattr(make_study_data, "IMAGES", {"images-test": ("1", "204")})
    assert make_study_data.main() == 0
    (episode,) = read_dataset(tmp_path / "images-test")
    assert episode["observation"].dtype == torch.uint8
    study = read_study(ROOT / "analysis" / "studies" / "cartpole_images.toml")
    check_on_episodes(study.end_points, tmp_path / "images-test")

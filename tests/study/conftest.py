"""A small study and its place."""

import pytest

from sdewm.study.rows import (
    Place,
)
from sdewm.study.study_file import read_study
from tests.study.declared import written


@pytest.fixture
def study(tmp_path):
    return read_study(written(tmp_path))


@pytest.fixture
def place(study, tmp_path):
    return Place(tmp_path / "out", study.digest, tmp_path / "study.toml")

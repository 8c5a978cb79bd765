"""A small study and its place."""

import pytest

from sdewm.study.declaration import read_study
from sdewm.study.rows import (
    Place,
)
from tests.study.declared import written


@pytest.fixture
def study(tmp_path):
    return read_study(written(tmp_path))


@pytest.fixture
def place(study, tmp_path):
    return Place(tmp_path / "out", study.digest, tmp_path / "study.toml")

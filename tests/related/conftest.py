"""The shipped world model with its episodes, measured by all tests of this folder."""

import pytest

from sdewm.study.end_points import Measurement
from tests.child_process import ROOT

SHIPPED = ROOT / "paper_checks" / "small_models"


@pytest.fixture(scope="session")
def measured():
    return Measurement(SHIPPED / "weight0-seed0", SHIPPED / "episodes")

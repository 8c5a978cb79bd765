"""Trends over a setting that doubles from arm to arm, and the verdict on them."""

from dataclasses import replace

import numpy as np
import pytest

from paper_checks.check_study import trend
from paper_checks.findings import Settings
from sdewm.study.study_file import read_study
from sdewm.study.trends import arms_over, slopes_per_doubling
from tests.analysis.study_rows import results_of
from tests.study.declared import written

SIZES = {"batch_8": 8, "batch_16": 16, "batch_32": 32, "batch_64": 64}


def trending(slope, scatter=0.01):
    """Values with this slope per doubling without penalty and none with it, and a scatter."""

    def value(arm, seed, updates, name):
        own = 0.0 if arm.endswith("penalty") else slope
        return (own + scatter * (seed - 1.5)) * np.log2(SIZES[arm.removesuffix("_penalty")])

    return results_of("cartpole_batch", 4, value)


def test_arms_are_grouped_by_their_other_settings():
    study = trending(0.0).study
    groups = arms_over(study, "batch_size")
    assert [*groups] == ["no penalty", "jacobian.weight=0.01"]
    assert groups["no penalty"] == {size: arm for arm, size in SIZES.items()}
    with pytest.raises(ValueError, match="arm='batch_8' of the study .* has no 'model.units'"):
        arms_over(study, "model.units")
    same = replace(study, arms={"batch_8": study.arms["batch_8"]})
    with pytest.raises(ValueError, match="no two arms that differ in 'batch_size'"):
        arms_over(same, "batch_size")


def test_slopes_are_of_the_seeds_that_all_arms_have():
    results = trending(0.2)
    arms = arms_over(results.study, "batch_size")["no penalty"]
    rows = [row for row in results.rows if (row["arm"], row["seed"]) != ("batch_8", "1")]
    found = slopes_per_doubling(rows, arms, "area noise", 8000)
    assert found == pytest.approx({0: 0.185, 2: 0.205, 3: 0.215})


@pytest.mark.parametrize(
    ("slope", "scatter", "outcome"),
    [
        (0.0, 0.01, "holds"),
        (0.05, 0.01, "holds"),
        (0.2, 0.01, "fails"),
        (-0.2, 0.01, "fails"),  # two-sided: a gain is a trend too
        (0.1, 0.01, "undecided"),
        (0.0, 0.2, "undecided"),  # an interval too wide to say anything
    ],
)
def test_no_trend_is_a_statement_about_both_directions(slope, scatter, outcome, monkeypatch):
    results = trending(slope, scatter)
    monkeypatch.setattr("paper_checks.check_study.read_results", lambda name: results)

    def verdict(mutate=lambda results: results):
        asked = {"study": "cartpole_batch", "setting": "batch_size", "margin": 0.1}
        return trend(Settings(), mutate, end_points=["area noise"], **asked).verdict.outcome

    assert verdict() == outcome
    lacking = [row for row in results.rows if (row["arm"], row["seed"]) != ("batch_8", "1")]
    assert verdict(lambda results: replace(results, rows=lacking)) == "undecided"


def test_a_study_without_the_setting_has_no_trend(tmp_path):
    with pytest.raises(ValueError, match="has no 'batch_size'"):
        arms_over(read_study(written(tmp_path)), "batch_size")

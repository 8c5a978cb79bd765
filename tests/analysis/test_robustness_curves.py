"""Returns of an agent behind filters: what is drawn and what the README says of it."""

import argparse
import json
import shutil

import numpy as np
import pytest

from paper_checks.cases.trained_models import AGENT, FOLDER, WITHOUT, trained_run
from sdewm.base.records import ROOT, read_table
from sdewm.robustness.statistics import compare, holm, t_interval
from sdewm.train.run_directory import read_run
from tests.analysis.study_rows import load

NOISES = (("none", 0.0), ("noise", 0.1))


@pytest.fixture(scope="module")
def script():
    return load("fig_robustness_curves")


def rows_of(script):
    """Returns 100 · seed, less by strength, more by the penalty."""
    alone = {"arm": script.ALONE, "seed": 0, "updates": 9, "low": 1.0, "high": 3.0}
    rows = [alone | {"family": "none", "strength": 0.0, "mean_return": 2.0}]
    rows.append(alone | {"family": "noise", "strength": 0.1, "mean_return": 2.0})
    for arm, gain in ((script.PLAIN, 0.0), ("penalty 0.1", 5.0)):
        for seed in range(3):
            for family, strength in (("none", 0.0), ("noise", 0.1)):
                value = 100.0 * seed - 50 * strength + gain * (1 + 0.1 * seed)
                rows.append(
                    {
                        "arm": arm, "seed": seed, "updates": 9, "family": family,
                        "strength": strength, "mean_return": value, "low": 0.0, "high": 0.0,
                    }
                )  # fmt: skip
    return rows


def test_means_are_over_models_and_the_unperturbed_ones_begin_each_curve(script):
    found = script.figure_rows(rows_of(script))
    assert {row["family"] for row in found} == {"noise"}
    row = next(r for r in found if (r["arm"], r["strength"]) == (script.PLAIN, 0.0))
    assert (row["value"], row["low"], row["high"]) == t_interval([0.0, 100.0, 200.0])
    alone = next(r for r in found if r["arm"] == script.ALONE)
    assert (alone["value"], alone["low"], alone["high"], alone["runs"]) == (2.0, 1.0, 3.0, 1)


def test_differences_are_paired_by_seed(script):
    found = script.differences(rows_of(script))
    assert [*found] == [("penalty 0.1", "none", 0.0), ("penalty 0.1", "noise", 0.1)]
    expected = compare([5.0, 5.5, 6.0], np.zeros(3))
    one = found["penalty 0.1", "noise", 0.1]
    assert one.difference == pytest.approx(expected.difference)
    assert one.difference.high < 8  # unpaired it would be a difference of seeds


def test_measured_rows_belong_to_the_weights_of_run_and_agent(script, tmp_path):
    given = argparse.Namespace(
        runs=[FOLDER / WITHOUT], policy=FOLDER / AGENT, episodes=2, seed=0, log=tmp_path / "log"
    )
    runs, facts = script.runs_of(given)
    assert trained_run(WITHOUT).weights_digest in runs[1][0]
    assert trained_run(AGENT).weights_digest in facts["policy"]
    assert facts["perturbations"] == " ".join(script.PERTURBATIONS)  # rows of others stay apart


def test_filters_that_the_names_of_the_arms_do_not_tell_apart_are_refused(script, tmp_path):
    """A model with noise in its latent would stand among those without penalty."""
    shutil.copytree(FOLDER / WITHOUT, tmp_path / "noisy")
    file = tmp_path / "noisy" / "config.json"
    config = json.loads(file.read_text())
    config["comparator"]["latent_noise"] = 0.2
    file.write_text(json.dumps(config | {"seed": 1}))
    given = argparse.Namespace(
        runs=[FOLDER / WITHOUT, tmp_path / "noisy"], policy=FOLDER / AGENT, episodes=2, seed=0
    )
    with pytest.raises(ValueError, match=r"comparator.latent_noise=0.2, .*expected runs that diff"):
        script.runs_of(given)
    config["comparator"] |= {"latent_noise": 0.0, "input_noise": 0.1}
    config["jacobian"]["weight"] = 0.01
    file.write_text(json.dumps(config))
    arms = [script.arm_of(read_run(run).config) for run in given.runs]
    assert arms == ["penalty 0", "noise 0.1 in training, penalty 0.01"]


def test_readme_says_what_the_committed_rows_show(script):
    rows, facts = read_table(ROOT / "figures" / "data" / "fig_robustness_curves.csv")
    found = script.differences(rows)
    told = " ".join((ROOT / "README.md").read_text("utf-8").split())
    gains = [found[f"penalty {weight}", "none", 0.0].difference for weight in ("0.001", "0.1")]
    assert all(one.low > 0 for one in gains)
    assert f"(by {gains[0].estimate:.0f} and {gains[1].estimate:.0f})" in told
    own = [
        one.difference
        for (arm, family, _), one in found.items()
        if arm.startswith("penalty") and family != "none"
    ]
    none = sum(one.low <= 0 for one in own)
    largest = max(one.estimate for one in own)
    lost = -min(one.estimate for one in own)
    text = f"gains at most {largest:.0f}, loses up to {lost:.0f}, and {none} of {len(own)} interv"
    assert text in told
    control = [found["noise 0.1 in training", *at].difference for at in NOISES]
    assert all(one.high < 0 for one in control)
    clean, noisy = (-one.estimate for one in control)
    assert f"(unperturbed by {clean:.0f}, under noise 0.1 by {noisy:.0f})" in told
    after = holm({str(key): one.t_p for key, one in found.items()})
    assert all(after[str(key)] > 0.05 for key in found if key[0].startswith("penalty"))
    assert min(after.values()) < 0.05  # the control's loss holds
    assert "holds after Holm's correction" in told
    assert facts["episodes"] == "4" and "from the same four start states" in told
    drawn = {(r["arm"], r["family"], r["strength"]): r["value"] for r in script.figure_rows(rows)}
    for (arm, family, strength), value in drawn.items():
        if arm.startswith("penalty") and strength > 0:  # filtering does not help
            assert value < drawn[script.ALONE, family, strength], (arm, family, strength)

"""Retention, area and tolerated strength of curves whose values are known."""

import numpy as np
import pytest

from sdewm.robustness.curves import RobustnessCurve, area, robustness_curves, tolerated, worst


def made(family="noise", slope=0.5, episodes=200, spread=10.0):
    strengths = np.array([0.0, 0.5, 1.0])
    means = 100 * (1 - slope * strengths)
    drawn = np.random.default_rng(0).normal(size=episodes) * spread
    return RobustnessCurve(family, strengths, means[:, None] + drawn - drawn.mean())


def test_a_straight_curve_has_its_area_and_its_tolerated_strength():
    curve = made()
    assert curve.retention() == pytest.approx([1.0, 0.75, 0.5])
    assert curve.area().estimate == pytest.approx(0.75)
    assert curve.tolerated(80.0).estimate == pytest.approx(0.4)


def test_intervals_are_those_of_paired_episodes():
    """A shift common to all strengths cancels nearly in the area, and not in the strength."""
    found = made().area()
    assert 0.74 < found.low < 0.75 < found.high < 0.76
    shuffled = made()
    source = np.random.default_rng(1)
    apart = RobustnessCurve(
        "noise", shuffled.strengths, np.stack([source.permutation(row) for row in shuffled.returns])
    )
    wide = apart.area()
    assert wide.high - wide.low > 2 * (found.high - found.low)
    strength = made().tolerated(80.0)
    assert strength.low < 0.4 < strength.high and strength.high - strength.low < 0.15


@pytest.mark.parametrize(
    ("means", "target", "expected"),
    [
        ([100, 90, 95], 80, 2.0),  # never below
        ([100, 70, 95], 80, 2 / 3),  # a later recovery does not count
        ([70, 60, 50], 80, 0.0),
    ],
)
def test_the_tolerated_strength(means, target, expected):
    found = tolerated(np.array([0.0, 1.0, 2.0]), np.array(means, float), target)
    assert found == pytest.approx(expected)


def test_draws_whose_clean_mean_is_below_the_target_count_as_0():
    noisy = made(episodes=10, spread=60.0)
    found, means = noisy.tolerated(80.0), []
    source = np.random.default_rng(0)
    for _ in range(2000):
        chosen = source.integers(10, size=10)
        means.append(noisy.returns[0, chosen].mean())
    below = np.mean(np.array(means) < 80.0)
    assert 0.025 < below < 0.5  # so many draws, and the lower end is one of them
    assert found.low == 0.0 and found.estimate == pytest.approx(0.4) and 0.4 < found.high <= 1.0
    assert made().tolerated(80.0).low > 0.3  # negative control: no such draws


def rows(**families):
    found = [{"perturbation": "none", "returns": [10.0, 12.0]}]
    found.append({"perturbation": "noise floor", "returns": [9.0, 12.0]})
    for family, values in families.items():
        found += [
            {"perturbation": f"{family}:{strength}", "returns": [value, value]}
            for strength, value in values.items()
        ]
    return found


def test_rows_become_curves_in_the_order_of_strengths():
    first, second = robustness_curves(rows(noise={0.4: 5.0, 0.1: 8.0, 0: 11.0}, mask={0.5: 1.0}))
    assert first.family == "noise" and first.strengths.tolist() == [0.0, 0.1, 0.4]
    assert first.returns[:, 0].tolist() == [10.0, 8.0, 5.0]
    assert worst([first, second]) is second
    assert area(first.strengths, first.returns.mean(1)) > area(
        second.strengths, second.returns.mean(1)
    )


def test_rows_of_two_evaluations_are_no_curve():
    """What evaluation.jsonl holds of a run that learnt on between two evaluations."""
    later = [{"perturbation": "none", "returns": [20.0, 24.0]}]
    later += [{"perturbation": "mask:0.5", "returns": [18.0, 18.0]}]
    with pytest.raises(ValueError, match="'none' is there twice, with different returns"):
        robustness_curves([*rows(noise={0.4: 5.0}), *later])
    again = [rows()[0], {"perturbation": "mask:0.5", "returns": [4.0, 4.0]}]  # of the same weights
    assert len(robustness_curves([*rows(noise={0.4: 5.0}), *again])) == 2


def test_what_cannot_be_a_curve_is_refused():
    with pytest.raises(ValueError, match="expected one of perturbation 'none'"):
        robustness_curves(rows()[1:])
    with pytest.raises(ValueError, match="noise:1 has 1 episodes, 'none' 2"):
        robustness_curves([*rows(), {"perturbation": "noise:1", "returns": [1.0]}])
    with pytest.raises(ValueError, match="the unperturbed mean is -1"):
        RobustnessCurve("noise", np.array([0.0, 1.0]), np.full((2, 3), -1.0)).area()
    with pytest.raises(ValueError, match="expected at least one family"):
        worst([])

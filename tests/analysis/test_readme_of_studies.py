"""What the README says about the studies is what their committed rows say."""

import math
import re

import numpy as np

from sdewm.base.records import ROOT, read_table
from sdewm.study.committed import DATA, read_results
from sdewm.study.rows import arms_of
from sdewm.study.verdicts import judge, paired, seen_of

LATENT = ("latent_error zero_drift:0.3 15", "latent_error drift:0.3 15")


def readme():
    """The README as one line."""
    return " ".join((ROOT / "README.md").read_text("utf-8").split())


def times(results, arm, end_point, digits):
    """The factor between an arm and its baseline, as the README prints it."""
    seen = paired(results.rows, arm, "baseline", end_point, results.study.updates)
    return f"{math.exp(seen.difference.estimate):.{digits}f}"


def mean_of(results, arm, end_point):
    """The mean over seeds after all updates."""
    return np.mean([*arms_of(results.rows, arm, end_point, results.study.updates).values()])


def test_readme_says_that_the_study_with_hidden_velocities_is_void():
    results = read_results("cartpole_hidden")
    controls, comparisons = judge(results.study, results.rows)
    assert [one.declared.arm for one in controls if one.outcome == "fails"] == ["penalty_1"]
    assert {one.outcome for one in comparisons} == {"void"}
    text = readme()
    assert controls[1].declared.end_point == "decoded noise:0"
    assert "void: its control requires that weight 1 worsens the decoded observations" in text


def test_readme_says_the_verdicts_with_hidden_velocities():
    results = read_results("cartpole_hidden_12")
    controls, comparisons = judge(results.study, results.rows)
    assert {one.outcome for one in controls} == {"holds"}
    assert len(results.study.seeds) == 12
    outcomes = {
        arm: [one.outcome for one in comparisons if one.declared.arm == arm]
        for arm in ("penalty_0001", "penalty_01")
    }
    assert outcomes["penalty_0001"] == ["undecided"] * 8
    assert sorted(outcomes["penalty_01"]) == ["refuted"] * 5 + ["undecided"] * 3
    text = readme()
    assert "twelve seeds per arm, both controls hold" in text
    assert "Weight 0.001 is undecided in all eight end points" in text
    assert "at 0.1 (exploratory) a gain is refuted in five of eight, undecided in three" in text
    ratios = {
        one.declared.end_point: float(np.exp(one.paired.difference.estimate))
        for one in comparisons
        if one.declared.arm == "penalty_01" and one.outcome == "refuted"
    }
    zero, drift, far = (
        f"{ratios[name]:.1f}"
        for name in (
            *("latent_error zero_drift:0.3 15", "latent_error drift:0.3 15"),
            "open_loop 25",
        )
    )
    assert f"{zero} times as large for zero drift and {drift} times for drift" in text
    assert f"those 25 steps ahead {far} times" in text


def test_readme_says_the_verdicts_of_the_study():
    """Each cell of the table of verdicts, against the declared comparisons."""
    results = read_results("cartpole")
    controls, comparisons = judge(results.study, results.rows)
    assert {one.outcome for one in controls} == {"holds"}
    verdicts = {
        (one.declared.claim, one.declared.arm, one.declared.end_point): one.outcome
        for one in comparisons
    }
    told = {}
    for line in (ROOT / "README.md").read_text("utf-8").splitlines():
        if found := re.match(r"  \| (C\d) [^|]*\| ([^|]*) \| ([^|]*) \|$", line):
            told[found[1]] = found[2], found[3]
    words = {
        "area shift": "shift", "area noise": "noise", "area mask": "masks",
        "latent_error drift:0.3 15": "drift", "latent_error zero_drift:0.3 15": "zero drift",
    }  # fmt: skip
    assert {*told} == {claim for claim, _, _ in verdicts} == {"C1", "C2", "C3", "C5"}
    for (claim, arm, end_point), outcome in verdicts.items():
        weak, strong = told[claim]
        if arm == "penalty_0001":
            parts = dict.fromkeys([words.get(end_point, "")], weak)
            for part in weak.split("; "):
                names, _, verdict = part.rpartition(": ")
                parts |= dict.fromkeys(names.split(", "), verdict)
            assert parts[words.get(end_point, "")] == outcome
        else:
            assert strong == outcome == "refuted"


def test_readme_says_what_the_study_of_agents_decides():
    results, text = read_results("cartpole_agents"), readme()
    controls, comparisons = judge(results.study, results.rows)
    assert {one.outcome for one in controls} == {"holds"} and len(results.study.seeds) == 8
    long, interaction, short, final = comparisons
    assert (long.declared.arm, long.declared.baseline) == ("horizon_50_penalty", "horizon_50")
    assert interaction.declared.minus_arm == short.declared.arm == "horizon_15_penalty"
    assert [one.declared.confirmatory for one in comparisons] == [True, True, False, False]
    outcomes = [one.outcome for one in comparisons]
    assert outcomes == ["refuted", "undecided", "refuted", "undecided"]
    assert {one.declared.end_point for one in comparisons[:3]} == {"return_area"}
    assert {one.paired.pairs for one in comparisons} == {8}
    assert results.study.arms["horizon_50_penalty"]["jacobian.weight"] == 0.01
    # End points are minus the logarithm of the area: a ratio of areas turns the interval over.
    factors = []
    for one in (long, short, interaction):
        mean, low, high = (math.exp(-end) for end in one.paired.difference)
        factors.append((f"{mean:.2f}", f"{high:.2f} to {low:.2f}"))
    (a, a_ends), (b, b_ends), (c, c_ends) = factors
    assert f"{a} times ({a_ends}) as large: a gain of a tenth is refuted" in text
    assert f"it is {b} times ({b_ends}), also refuted" in text
    assert f"is undecided (ratio of the two {c}, {c_ends}), and with it the claim" in text


def test_the_readme_says_what_the_table_of_batch_sizes_says():
    rows, facts = read_table(DATA / "table_batch_size.csv")
    text = readme()
    trends = [
        row
        for row in rows
        if row["arm"].startswith("per doubling") and row["end_point"].startswith("area")
    ]
    assert len(trends) == 6 and {row["pairs"] for row in trends} == {4}
    assert all(row["low"] < 0 < row["high"] for row in trends)
    assert facts["caption"].startswith("4 of 4 seeds, 8000 updates")
    study = read_results("cartpole_batch").study
    sizes = sorted({one["batch_size"] for one in study.arms.values()})
    assert f"batches of {', '.join(map(str, sizes[:-1]))} and {sizes[-1]}, four seeds" in text
    assert "no squared error under noise, masks or shifts has a [trend]" in text


def test_readme_says_what_the_level_of_an_interval_changes():
    """The two columns of its table of verdicts have different levels."""
    results = read_results("cartpole")
    study = results.study
    _, comparisons = judge(study, results.rows)
    first = [one.declared for one in comparisons if one.declared.confirmatory]
    assert len(first) == 8 and {one.arm for one in first} == {"penalty_0001"}
    second = [one.declared for one in comparisons if one.declared.arm in STRONG]
    assert not any(one.confirmatory for one in second)
    text = readme()

    def refuted(one, level):
        return seen_of(one, results.rows, study.updates, level).difference.low > -one.margin

    gained = {one.end_point for one in first if refuted(one, 0.95)}
    gained -= {one.end_point for one in first if refuted(one, 1 - 0.05 / 8)}
    assert gained == {"area noise", "area mask", LATENT[0]}
    assert "noise, masks and zero drift would be refuted in the first column too" in text
    lost = {(one.arm, one.end_point) for one in second if not refuted(one, 1 - 0.05 / 8)}
    assert lost == {*((arm, "area shift") for arm in STRONG), ("penalty_001", "open_loop 25")}
    assert "shift at both weights and 25 steps at 0.01 would be undecided in the second" in text


STRONG = ("penalty_001", "penalty_01")


def test_readme_says_what_held_perturbations_do():
    results = read_results("cartpole")
    declared = {one.end_point for one in results.study.comparisons}
    assert not any(name.endswith("-held") for name in declared)
    seen = {
        arm: paired(results.rows, arm, "baseline", "area noise-held", 8000).difference
        for arm in ("penalty_0001", *STRONG)
    }
    mean, low, high = (f"{math.exp(end):.2f}" for end in seen["penalty_0001"])
    assert f"noise raises the error to {mean} times ({low} to {high}) at 0.001" in readme()
    assert all(seen[arm].low < 0 < seen[arm].high for arm in STRONG)


def test_readme_says_what_competes_with_the_penalty():
    results, text = read_results("cartpole_comparators"), readme()
    controls, comparisons = judge(results.study, results.rows)
    assert {one.outcome for one in controls} == {"holds"} and len(results.study.seeds) == 6
    confirmatory = [one.declared.arm for one in comparisons if one.declared.confirmatory]
    assert confirmatory == ["unsquared_001"] * 8
    assert f"the other {len(comparisons) - 8} comparisons are exploratory" in text
    outcomes = {(one.declared.arm, one.declared.end_point): one.outcome for one in comparisons}
    assert [x for (arm, _), x in outcomes.items() if arm == "unsquared_001"] == ["undecided"] * 8
    for arm, outcome in (
        *(("unsquared_01", "refuted"), ("latent_noise_02", "support")),
        ("latent_drift_02", "undecided"),
    ):
        assert {outcomes[arm, name] for name in LATENT} == {outcome}
    zero, drift = (times(results, "unsquared_01", name, 1) for name in LATENT)
    assert f"{zero} times as large for zero drift and {drift} times for drift. Training" in text
    zero, drift = (times(results, "latent_noise_02", name, 2) for name in LATENT)
    clean = times(results, "latent_noise_02", "decoded noise:0", 1)
    far = times(results, "latent_noise_02", "open_loop 25", 1)
    assert (
        f"makes these {zero} and {drift} times as large, but those without perturbation {clean} "
        f"times, and those 25 steps ahead {far} times; with drift of the same energy the first two "
        "are undecided" in text
    )
    noise, masks, clean = (
        times(results, "latent_drift_02", name, digits)
        for name, digits in (("area noise", 2), ("area mask", 2), ("decoded noise:0", 1))
    )
    assert (
        f"while errors under noise and masks are lower ({noise} and {masks} times) and those "
        f"without perturbation {clean} times as large" in text
    )
    noise, masks = (times(results, "posterior", name, 2) for name in ("area noise", "area mask"))
    assert f"lowers errors under noise and masks ({noise} and {masks} times) without" in text
    for name in ("area noise", "area mask"):
        assert outcomes["posterior", name] == "undecided"
        seen = paired(results.rows, "posterior", "baseline", name, 8000).difference
        assert seen.high < -0.1  # were it not for the error without perturbation
    clean = times(results, "average", "decoded noise:0", 2)
    far = times(results, "average", "open_loop 25", 2)
    assert f"perturbation ({clean} times) and 25 steps ahead ({far} times)" in text


def test_no_gain_of_a_comparator_is_left_after_holms_correction():
    """Over the table's differences, and with 25 steps, which are not in the table, also alone."""
    lines, _ = read_table(DATA / "table_comparators.csv")
    gains = {
        ("latent_noise_02", LATENT[0]), ("latent_noise_02", LATENT[1]),
        ("posterior", "area noise"), ("posterior", "area mask"),
        ("latent_drift_02", "area noise"), ("latent_drift_02", "area mask"),
        ("average", "decoded noise:0"),
    }  # fmt: skip
    found = {(line["arm"], line["end_point"]): line["holm_p"] for line in lines}
    assert all(found[one] >= 0.05 for one in gains)
    assert found["matched_noise", "area noise"] < 0.05  # the control's gain is left
    assert "none of these gains has a p-value below 0.05" in readme()
    results = read_results("cartpole_comparators")
    seen = paired(results.rows, "average", "baseline", "open_loop 25", 8000)
    assert seen.t_p * len(lines) > 0.05


def test_readme_says_which_modes_and_norms_the_models_have():
    results, text = read_results("cartpole"), readme()
    weak, middle, strong = "penalty_0001", "penalty_001", "penalty_01"
    modes = {
        arm: f"{mean_of(results, arm, 'slow_modes'):.1f}"
        for arm in ("baseline", weak, middle, strong)
    }
    assert f"Without penalty the models have {modes['baseline']} modes of modulus above" in text
    assert f"strength, {modes[weak]}, without a measurable change" in text
    assert f"at 0.01 and 0.1 only {modes[middle]} and {modes[strong]}, fewer than" in text
    assert float(modes[middle]) < 4 < float(modes[weak])  # those of cart-pole
    norm = {
        arm: f"{math.exp(mean_of(results, arm, 'jacobian')):.1f}"
        for arm in ("baseline", weak, middle, strong)
    }
    assert (
        f"The norm is {norm['baseline']} without penalty and {norm[weak]}, {norm[middle]} and "
        f"{norm[strong]} with these weights, always above this floor" in text
    )
    declared = [one for one in results.study.comparisons if one.arm == weak]
    for one in declared:
        assert seen_of(one, results.rows, 8000).difference.low < 0, one.end_point


def test_an_arm_that_never_met_its_floor_is_another_name_of_the_plain_penalty():
    results = read_results("cartpole")
    assert results.study.arms["excess_01"] == {
        **results.study.arms["penalty_01"],
        "jacobian.excess_over": 4,
    }
    values = {
        arm: {
            (row["seed"], row["updates"], row["end_point"]): row["value"]
            for row in results.rows
            if row["arm"] == arm and row["end_point"] != "final_loss"  # the penalty is part of it
        }
        for arm in ("excess_01", "penalty_01")
    }
    assert values["excess_01"] == values["penalty_01"] and len(values["excess_01"]) > 1000
    assert "(`excess_01`) gave the same models as weight 0.1" in readme()


def test_readme_says_that_the_study_of_images_is_void():
    results, text = read_results("cartpole_images"), readme()
    controls, comparisons = judge(results.study, results.rows)
    assert results.seeds == len(results.study.seeds) == 6
    (failed,) = [one for one in controls if one.outcome == "fails"]
    assert (failed.declared.arm, failed.declared.end_point) == ("penalty_1", "decoded noise:0")
    assert {one.outcome for one in comparisons} == {"void"}
    mean, low, high = (f"{end:.2f}" for end in failed.paired.difference)
    assert f"beyond the interval (ln ratio {mean}, {low} to {high}): what is decoded" in text
    for name, words in ((LATENT[0], "as large"), ("area brightness", "")):
        seen = paired(results.rows, "penalty_01", "baseline", name, results.study.updates)
        mean, low, high = (f"{math.exp(end):.2f}" for end in seen.difference)
        assert f"{mean} times ({low} to {high}) {words}".strip() in text


def test_readme_says_how_good_the_models_of_images_are():
    lines, _ = read_table(DATA / "table_baselines.csv")
    own = {line["steps"]: line for line in lines if line["study"] == "cartpole_images"}
    assert [k for k, line in own.items() if line["high"] < line["copy_last"]] == [5, 15, 25, 50]
    assert "better than copying the last image 5, 15, 25 and 50 steps ahead" in readme()
    assert [k for k, line in own.items() if line["low"] > line["data_mean"]] == [25, 50]
    assert "from 25 steps on worse than the mean image" in readme()

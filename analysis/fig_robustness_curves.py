"""Does a penalty make a world model a better filter of perturbed observations (claim C1)?

    python analysis/fig_robustness_curves.py               redraw the committed table
    python analysis/fig_robustness_curves.py RUN… --policy paper_checks/small_models/agent

Filter, then act: the world model of each run filters the perturbed observations, and the agent of
--policy acts on what it decodes. Returns of different models then differ by the models alone. All
meet the same perturbations in the same episodes. The table holds one row for each run,
perturbation and strength. The runs differ in the weight of the penalty, in the noise on the
encoder's input in training, and in the seed; others are refused. Runs that were measured are in a
log, so that the same command resumes.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

from sdewm.base.records import Row
from sdewm.perturbations.parsing import parse_perturbations
from sdewm.plots.study_plots import robustness_of_filters
from sdewm.robustness.evaluation import FLOOR, NONE, perturbed_returns
from sdewm.robustness.statistics import Comparison, compare, t_interval
from sdewm.scripts.measured_runs import Facts, Runs, RunsTable, draw_runs, require_alike
from sdewm.train.config import Config
from sdewm.train.saved_agent import SavedAgent, saved_agent, trained_agent, weights_digest

PERTURBATIONS = ("noise:0.1,0.2,0.4", "mask:0.1,0.25,0.5", "shift:0.1,0.2,0.4")
ALONE, PLAIN = "no filter", "penalty 0"
APART = ("jacobian.weight", "comparator.input_noise")  # what `arm_of` names


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the runs, write the table and draw the figure."""
    rows, facts = draw_runs(
        TABLE, __doc__, arguments, lambda rows: robustness_of_filters(figure_rows(rows))
    )
    print(f"{facts['episodes']} episodes of each strength; returns less those of {PLAIN}:")
    for (arm, family, strength), one in differences(rows).items():
        mean, low, high = one.difference
        print(f"{arm}, {family} {strength:g}: {mean:.0f} [{low:.0f}, {high:.0f}]")


def runs_of(given: argparse.Namespace) -> tuple[Runs, Facts]:
    """The agent alone, and with each run as its filter."""
    actor = trained_agent(given.policy)
    runs = [(ALONE, partial(run_rows, actor, None, given))]
    filters = {str(place): saved_agent(place) for place in given.runs}
    require_alike(filters, APART)
    for place, saved in filters.items():
        key = f"{place} {weights_digest(saved.agent)}"
        runs.append((key, partial(run_rows, saved, actor, given)))
    policy = f"{given.policy.name} {weights_digest(actor.agent)}"
    return runs, {"policy": policy, "perturbations": " ".join(PERTURBATIONS)}


def run_rows(saved: SavedAgent, actor: SavedAgent | None, given: argparse.Namespace) -> list[Row]:
    """One row for each perturbation and strength, and for none at all."""
    perturbations = [one for word in PERTURBATIONS for one in parse_perturbations(word)]
    found = perturbed_returns(
        saved, perturbations, episodes=given.episodes, seed=given.seed, actor=actor
    )
    rows: list[Row] = []
    for row in found:
        family, _, strength = row["perturbation"].partition(":")
        if family != FLOOR:
            rows.append(
                {
                    "arm": ALONE if actor is None else arm_of(saved.config),
                    "seed": saved.config.seed,
                    "updates": saved.counters["updates"],
                    "family": family,
                    "strength": float(strength or 0.0),
                    "mean_return": row["mean_return"],
                    "low": row["low"],
                    "high": row["high"],
                }
            )
    return rows


def arm_of(config: Config) -> str:
    """What was different in the training of a world model."""
    noise, weight = config.comparator.input_noise, config.jacobian.weight
    penalty = f"penalty {weight:g}"
    if noise:
        return f"noise {noise:g} in training" + (f", {penalty}" if weight else "")
    return penalty


def differences(rows: Sequence[Row]) -> dict[tuple[str, str, float], Comparison]:
    """Arm, perturbation and strength: returns less those without penalty, paired by seed."""
    values: dict[tuple[str, str, float], dict[Any, float]] = {}
    for row in rows:
        key = (str(row["arm"]), str(row["family"]), float(row["strength"] or 0))
        values.setdefault(key, {})[row["seed"]] = float(row["mean_return"] or 0)
    found = {}
    for (arm, family, strength), own in values.items():
        plain = values.get((PLAIN, family, strength), {})
        seeds = sorted({*own} & {*plain})
        if arm not in (ALONE, PLAIN) and len(seeds) > 1:
            ours, theirs = ([one[seed] for seed in seeds] for one in (own, plain))
            found[arm, family, strength] = compare(ours, theirs)
    return found


def figure_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What is drawn: means over runs with their intervals; one run has that over its episodes."""
    families = [name for name in dict.fromkeys(row["family"] for row in rows) if name != NONE]
    found: list[dict[str, Any]] = []
    for family in families:
        own = [row for row in rows if row["family"] in (NONE, family)]
        for arm in dict.fromkeys(row["arm"] for row in own):
            for strength in sorted({float(row["strength"] or 0) for row in own}):
                same = [r for r in own if (r["arm"], r["strength"]) == (arm, strength)]
                values = [float(row["mean_return"] or 0) for row in same]
                ends: tuple[Any, ...] = (same[0]["mean_return"], same[0]["low"], same[0]["high"])
                value, low, high = t_interval(values) if len(values) > 1 else ends
                found.append(
                    {
                        "family": family,
                        "arm": arm,
                        "strength": strength,
                        "value": value,
                        "low": low,
                        "high": high,
                        "runs": len(values),
                    }
                )
    return found


TABLE = RunsTable(
    "fig_robustness_curves", "policy", "run whose agent acts", runs_of, episodes=(4, 2)
)

if __name__ == "__main__":
    main()

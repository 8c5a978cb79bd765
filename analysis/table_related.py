"""What related papers measure, on world models trained with several weights of the penalty.

    python analysis/table_related.py                     print the committed table again
    python analysis/table_related.py RUN… --data DIR     measure these runs on recorded episodes

figures/data/table_related.csv has a row for each run and measurement, and for each two seeds of an
arm whose predictions are averaged (ensemble). Printed are, for each measurement, the mean at weight
0 and the differences to it, paired by seed, with 95 % intervals by Student's t and what they say;
then the rank correlations of the indicators with the error under noise (end point "area noise" of
the study "cartpole"). A star marks the differences that hold at a family-wise level of 95 % over
all measurements and weights, by Holm's method on the p-values of the paired t-tests; of others
whose interval excludes zero the sentence says "perhaps". Runs that were
measured are in a log, so that the same command resumes.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sdewm.base.records import Row
from sdewm.plots.tables import number_text, text_table
from sdewm.related import clean_target, ensemble
from sdewm.related.readings import rank_correlation, reading
from sdewm.related.registry import INDICATORS, OF_RUNS
from sdewm.robustness.statistics import Comparison, Interval, compare, holm, t_interval
from sdewm.scripts.measured_runs import Facts, Runs, RunsTable, data_facts, require_alike
from sdewm.study.committed import DATA, Results, read_results
from sdewm.study.end_points import Measurement
from sdewm.study.rows import arms_of
from sdewm.train.saved_agent import saved_agent, weights_digest

STUDY = "cartpole"
FEWEST = 3  # pairs of seeds from which an interval is shown
Rows = Sequence[dict[str, Any]]
Entry = tuple[str, str, Interval, dict[str, Comparison], str]  # of a measurement, as in `line_of`


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the runs, write the table and print what it says."""
    parser = TABLE.parser(__doc__, DATA)
    given = parser.parse_args(arguments)
    table = given.out / f"{TABLE.stem}.csv"
    try:
        rows, _ = TABLE.rows(given, table)
        results = read_results(STUDY, given.out)
        lines, correlations = effects(rows, results), indicators(rows, results)
    except ValueError as problem:
        parser.error(str(problem))
    print(table)
    print(text_table([*lines[0]], [[*line.values()] for line in lines]))
    if correlations:
        print(f"\nSpearman's ρ with {clean_target.END_POINT!r}, over runs")
        print(text_table([*correlations[0]], [[*line.values()] for line in correlations]))


def runs_of(given: argparse.Namespace) -> tuple[Runs, Facts]:
    """All runs, then the ensembles of runs of one arm."""
    saved = {run: saved_agent(run) for run in given.runs}
    require_alike({str(run): one for run, one in saved.items()}, ["jacobian.weight"])
    keys = {run: f"{run} {weights_digest(one.agent)}" for run, one in saved.items()}
    runs = [(keys[run], partial(run_rows, run, given)) for run in given.runs]
    for group in groups(given.runs):
        runs.append((" + ".join(keys[run] for run in group), partial(group_rows, group, given)))
    return runs, data_facts(given.data)


def named(run: Path) -> tuple[str, int]:
    """Arm and seed of a run, from the name that a study gave it."""
    arm, _, seed = run.name.rpartition("-seed")
    if not arm or not seed.isdecimal():
        raise ValueError(f"run={run.name!r}: expected a run of a study, named <arm>-seed<n>.")
    return arm, int(seed)


def groups(runs: Sequence[Path]) -> list[list[Path]]:
    """Disjoint groups of runs of one arm, by rising seeds; a last one that is too small is left.

    Raises:
        ValueError: groups of two arms begin with one seed and go on with others: their difference
            would not be one of equal seeds.
    """
    arms: dict[str, list[Path]] = {}
    for run in sorted(runs, key=named):
        arms.setdefault(named(run)[0], []).append(run)
    size = ensemble.MODELS
    found = [
        own[k : k + size] for own in arms.values() for k in range(0, len(own) - size + 1, size)
    ]
    begun: dict[int, list[Path]] = {}
    for group in found:
        seeds = [named(run)[1] for run in group]
        other = begun.setdefault(seeds[0], group)
        if seeds != [named(run)[1] for run in other]:
            pair = " and ".join(" + ".join(run.name for run in one) for one in (other, group))
            raise ValueError(f"runs: {pair} are of different seeds; expected equal ones.")
    return found


def loaded(run: Path, given: argparse.Namespace) -> Measurement:
    """A run that differs from the baseline in the weight of the penalty only."""
    found = Measurement(run, given.data, seed=given.seed)
    config = found.config
    if config.comparator != type(config.comparator)() or config.jacobian.excess_over:
        raise ValueError(f"run={run.name!r}: expected runs with a penalty and nothing else.")
    return found


def row_of(runs: Sequence[Path], weight: float, name: str, value: float) -> Row:
    """A line of the table; the seed of a group is its first."""
    arm, seed = named(runs[0])
    label = " + ".join(run.name for run in runs)
    return {"run": label, "arm": arm, "weight": weight, "seed": seed, "measurement": name,
            "value": value}  # fmt: skip


def run_rows(run: Path, given: argparse.Namespace) -> list[Row]:
    """All measurements of one run."""
    found = loaded(run, given)
    weight = found.config.jacobian.weight
    return [row_of([run], weight, one.name, one.measure(found)) for one in OF_RUNS]


def group_rows(group: Sequence[Path], given: argparse.Namespace) -> list[Row]:
    """The measurement of a group of runs."""
    found = [loaded(run, given) for run in group]
    weight = found[0].config.jacobian.weight
    return [row_of(group, weight, ensemble.NAME, ensemble.measure(found))]


def values(rows: Rows, name: str, weight: float) -> dict[int, float]:
    """A measurement by seed."""
    return {
        int(row["seed"]): float(row["value"])
        for row in rows
        if (row["measurement"], row["weight"]) == (name, weight)
    }


def effects(rows: Rows, results: Results) -> list[dict[str, str]]:
    """One line for each measurement: means, differences, and what they say."""
    names = [(one.name, one.paper, one.meaning) for one in OF_RUNS]
    names.append((ensemble.NAME, ensemble.PAPER, ensemble.MEANING))
    entries: list[Entry] = []
    for name, paper, meaning in names:
        weights = sorted({row["weight"] for row in rows if row["measurement"] == name})
        base = values(rows, name, 0.0)
        found: dict[str, Comparison] = {}
        for weight in weights[1:]:
            own = values(rows, name, weight)
            seeds = sorted({*own} & {*base})
            if len(seeds) >= FEWEST:
                differences = compare([own[s] for s in seeds], [base[s] for s in seeds])
                found[f"{weight:g}"] = differences
        entries.append((name, paper, t_interval([*base.values()]), found, meaning))
    arms = (clean_target.ARM, clean_target.BASELINE)
    ours, theirs = (
        arms_of(results.rows, arm, clean_target.END_POINT, results.study.updates) for arm in arms
    )
    there = {clean_target.ARM: clean_target.difference(ours, theirs)}
    base = t_interval([*theirs.values()])
    meaning = clean_target.MEANING
    entries.append((clean_target.NAME, clean_target.PAPER, base, there, meaning))
    after = holm({f"{e[0]}/{w}": one.t_p for e in entries for w, one in e[3].items()})
    lines = [line_of(*entry, after) for entry in entries]
    columns = dict.fromkeys(name for line in lines for name in line)
    order = [name for name in columns if name != "reading"] + ["reading"]
    return [{name: line.get(name, "–") for name in order} for line in lines]


def line_of(
    name: str,
    paper: str,
    base: Interval,
    found: dict[str, Comparison],
    meaning: str,
    after: dict[str, float],
) -> dict[str, str]:
    """The texts of one measurement; `after`: p-values of all differences, adjusted by Holm."""
    line = {"measurement": name, "arXiv": paper, "weight 0": interval_text(base)}
    holding = [effect for effect in found if after[f"{name}/{effect}"] <= 0.05]
    for effect, one in found.items():
        line[effect] = interval_text(one.difference) + ("*" if effect in holding else "")
    word = "in" if name == clean_target.NAME else "at"
    said = reading({effect: one.difference for effect, one in found.items()}, holding, word)
    return line | {"reading": f"{said} ({meaning})"}


def interval_text(one: Interval) -> str:
    """An estimate with the ends of its interval."""
    estimate, low, high = (number_text(value, 3) for value in one)
    return f"{estimate} [{low}, {high}]"


def indicators(rows: Rows, results: Results) -> list[dict[str, str]]:
    """Rank correlations with the error under noise over all runs, and within arms."""
    end_point, updates = clean_target.END_POINT, results.study.updates
    lines = []
    for name in INDICATORS:
        own = [row for row in rows if row["measurement"] == name]
        errors = {arm: arms_of(results.rows, arm, end_point, updates) for arm in results.study.arms}
        pairs = [
            (row["arm"], float(row["value"]), errors[row["arm"]][row["seed"]])
            for row in own
            if row["seed"] in errors.get(row["arm"], {})
        ]
        if len(pairs) < 4 + len({arm for arm, _, _ in pairs}):
            continue
        arms, x, y = (list(side) for side in zip(*pairs, strict=True))
        lines.append(
            {
                "measurement": name,
                "runs": str(len(pairs)),
                "all runs": interval_text(rank_correlation(x, y)),
                "within arms": interval_text(rank_correlation(x, y, arms)),
            }
        )
    return lines


TABLE = RunsTable("table_related", "data", "directory of recorded episodes", runs_of)

if __name__ == "__main__":
    main()

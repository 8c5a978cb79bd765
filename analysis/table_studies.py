"""Tables of the studies: differences between arms with intervals, and verdicts.

    python analysis/table_studies.py                          all tables whose study has rows
    python analysis/table_studies.py table_encoder_error      this one

Computed from figures/data/study_NAME.csv and written to figures/data:

    table_study_verdicts   every declared comparison and control of every study, with its verdict
    table_encoder_error    predictions after errors of the latent state (C2)
    table_comparators      other forms of the penalty, and what it competes with
    table_perturbed_images the penalty on a model of images (C1)
    table_hidden           the same penalties where velocities have to be remembered
    table_batch_size       models trained with other batch sizes (C7), with the trend per doubling

Differences are of logarithms of which smaller is better, paired by training seed, with t intervals
at level .95; factor = exp(difference). p-values are those of the paired t test, also with Holm's
correction over the table, and of the exact sign-flip test.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdewm.base.checks import check_choice
from sdewm.base.records import manifest, write_table
from sdewm.plots.tables import text_table
from sdewm.robustness.statistics import holm, sign_flip_p, t_interval
from sdewm.study.committed import DATA, STUDIES, Results, read_results, table_of
from sdewm.study.declaration import Comparison, Study
from sdewm.study.rows import arms_of
from sdewm.study.trends import arms_over, slopes_per_doubling
from sdewm.study.verdicts import INTERVALS, judge, paired

ERRORS = ("area noise", "area mask", "area shift", "decoded noise:0")
LATENT = tuple(
    f"latent_error {kind}:{size} {steps}"
    for kind in ("zero_drift", "drift")
    for size, steps in (("0.1", 15), ("0.3", 15), ("1", 15), ("0.3", 50))
)
MAIN = (
    *(*ERRORS, "latent_error zero_drift:0.3 15", "latent_error drift:0.3 15"),
    *("open_loop 5", "open_loop 15", "open_loop 50", "gradient_tail", "jacobian", "memory"),
)
IMAGES = (
    *("area noise", "area mask", "area rotation", "area brightness", "decoded noise:0"),
    *("open_loop 5", "open_loop 15", "open_loop 50", "jacobian", "memory"),
)
VERDICTS = "table_study_verdicts"
Line = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table of one study: which end points, and lines of its own."""

    study: str
    end_points: tuple[str, ...]
    more: Callable[[Results, Sequence[str]], list[Line]] | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Write and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="names of tables")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the files")
    given = parser.parse_args(arguments)
    try:
        names = [check_choice("TABLE", name, (VERDICTS, *TABLES)) for name in given.tables]
        for name in names or there(given.data):
            lines, facts = made(name, given.data)
            write_table(given.data / f"{name}.csv", lines, facts)
            print(f"{given.data / name}.csv: {facts['caption']}\n{printed(lines)}\n")
    except ValueError as problem:
        parser.error(str(problem))


def there(data: Path) -> list[str]:
    """The tables that can be made."""
    studies = measured_studies(data)
    found = [name for name, one in TABLES.items() if one.study in studies]
    return [VERDICTS, *found] if found else []


def measured_studies(data: Path) -> dict[str, Results]:
    """The studies with rows of at least two seeds, so that there are differences."""
    known = sorted(path.stem for path in STUDIES.glob("*.toml"))
    found = {one: read_results(one, data) for one in known if table_of(one, data).is_file()}
    return {name: results for name, results in found.items() if results.seeds >= 2}


def made(name: str, data: Path) -> tuple[list[Line], dict[str, Any]]:
    """The lines of a table and its facts, with a caption."""
    if name == VERDICTS:
        found = measured_studies(data).values()
        lines = [line for results in found for line in verdicts(results)]
        facts = {"studies": ", ".join(f"{r.study.name} {r.study.digest}" for r in found)}
        caption = f"declared comparisons and controls. {INTERVALS}"
    else:
        one = TABLES[name]
        results = read_results(one.study, data)
        lines = differences(results, one.end_points)
        lines += one.more(results, one.end_points) if one.more else []
        facts = {"study": results.study.name, "digest": results.study.digest}
        pairs = {line["pairs"] for line in lines}
        seeds = f"{min(pairs)} to {max(pairs)}" if len(pairs) > 1 else f"{max(pairs)}"
        caption = f"{seeds} of {len(results.study.seeds)} seeds, {length(results.study)}"
    return lines, manifest(seed=0, **facts, caption=caption)


def length(study: Study) -> str:
    """How long each model was trained, with the rows of episodes that it saw."""
    if not study.data:
        return study.length
    config = study.config(study.cells[0])
    differ = any("batch_size" in settings for settings in study.arms.values())
    size = "batches of each arm's size" if differ else f"batches of {config.batch_size}"
    return f"{study.length} on {size} × {config.batch_length} policy_steps"


def pairs_of(study: Study) -> list[tuple[str, str]]:
    """The arms with their baselines, in the order of the declaration."""
    declared = (*study.comparisons, *study.controls)
    return list(dict.fromkeys((one.arm, one.baseline) for one in declared))


def differences(results: Results, end_points: Sequence[str]) -> list[Line]:
    """One line for each arm with its baseline and each end point."""
    study, lines = results.study, []
    for arm, baseline in pairs_of(study):
        for name in end_points:
            seen = paired(results.rows, arm, baseline, name, study.updates)
            if seen is None:
                continue
            values = arms_of(results.rows, baseline, name, study.updates).values()
            lines.append(
                {
                    "arm": arm,
                    "baseline": baseline,
                    "end_point": name,
                    "mean_of_baseline": float(np.mean([*values])),
                    "difference": seen.difference.estimate,
                    "low": seen.difference.low,
                    "high": seen.difference.high,
                    "factor": math.exp(seen.difference.estimate),
                    "pairs": seen.pairs,
                    "sign_flip_p": seen.sign_p,
                    "t_p": seen.t_p,
                }
            )
    corrected = holm({str(n): line["t_p"] for n, line in enumerate(lines)})
    return [line | {"holm_p": corrected[str(n)]} for n, line in enumerate(lines)]


def trends(results: Results, end_points: Sequence[str]) -> list[Line]:
    """Mean slope of each end point over log₂ of the batch size, for arms alike in all else."""
    lines = []
    for label, arms in arms_over(results.study, "batch_size").items():
        for name in end_points:
            found = slopes_per_doubling(results.rows, arms, name, results.study.updates)
            if len(found) < 2:
                continue
            slopes = [*found.values()]
            slope = t_interval(slopes)
            values = arms_of(results.rows, arms[min(arms)], name, results.study.updates)
            smallest = [values[seed] for seed in found]
            lines.append(
                {
                    "arm": f"per doubling of batch_size ({label})",
                    "baseline": arms[min(arms)],
                    "end_point": name,
                    "mean_of_baseline": float(np.mean(smallest)),
                    "difference": slope.estimate,
                    "low": slope.low,
                    "high": slope.high,
                    "factor": math.exp(slope.estimate),
                    "pairs": len(slopes),
                    "sign_flip_p": sign_flip_p(slopes),
                    "t_p": None,
                    "holm_p": None,
                }
            )
    return lines


def verdicts(results: Results) -> list[Line]:
    """One line for each declared comparison and control."""
    controls, comparisons = judge(results.study, results.rows)
    lines = []
    for one in (*controls, *comparisons):
        declared, seen = one.declared, one.paired
        compared = isinstance(declared, Comparison)
        ends = seen.difference if seen else (None, None, None)
        lines.append(
            {
                "study": results.study.name,
                "claim": declared.claim if compared else "control",
                "arm": declared.arm,
                "baseline": declared.against if compared else declared.baseline,
                "end_point": declared.end_point,
                "confirmatory": "yes" if compared and declared.confirmatory else "no",
                "level": one.level,
                "expected": f"below -{declared.margin:g}" if compared else declared.expected,
                "difference": ends[0],
                "low": ends[1],
                "high": ends[2],
                "pairs": seen.pairs if seen else 0,
                "declared_seeds": len(results.study.seeds),
                "verdict": one.outcome,
            }
        )
    return lines


def printed(lines: Sequence[Line]) -> str:
    """The table as text, numbers to three digits."""
    names = [*lines[0]]
    return text_table(names, [[_cell(line[name]) for name in names] for line in lines])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "–" if value is None else str(value)


TABLES = {
    "table_encoder_error": Table("cartpole", LATENT),
    "table_comparators": Table("cartpole_comparators", MAIN),
    "table_perturbed_images": Table("cartpole_images", IMAGES),
    "table_hidden": Table("cartpole_hidden_12", MAIN),
    "table_batch_size": Table("cartpole_batch", ERRORS, trends),
}


if __name__ == "__main__":
    main()

"""Enclosed rollouts of trained models: the bound over the largest distance that an attack finds.

python analysis/table_enclosure.py                     the shipped models
python analysis/table_enclosure.py RUN… --data DIR     other runs and recorded episodes

figures/data/table_enclosure.csv has a row for each run, set of initial errors and episode. The
errors are a ball in z or in the whole state (of up to 64 numbers), a ball in the observation that
follows, through the encoder, or the ellipsoid of the errors that white observation noise in one
frame causes: the root of their second moments, scaled so that 95 % of the copies are inside. Sets
in the state are also cut into slabs across the direction that is stretched most (`slabs`), and all
s e, |s| ≤ 1, of the first error e that such noise draws into twice as many parts.
`ratio_k` is the bound over the attack after k steps, empty where the enclosure abstains. `within_3`
is the last step up to which it is at most 3, and `seconds` are those of one core.

figures/data/table_enclosure_audit.csv has a row for each run and size: starts at several rows and
episodes, each of them attacked. A violation is a distance above the bound. Its probability is at
most `probability` with confidence 95 % (exact binomial).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.base.progress import counted
from sdewm.base.records import ROOT, Row, manifest, write_table
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.latent_sde.system import as_system
from sdewm.model_theorems.imagination import perturbed_initial_states
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.plots.tables import number_text, text_table
from sdewm.report.trained_run import TrainedRun, load_trained_run
from sdewm.theory.flow.rollout_enclosure import (
    RolloutEnclosure,
    enclose_rollouts,
    violation_bound,
)

SHIPPED = ROOT / "paper_checks" / "small_models"
RUNS = tuple(SHIPPED / name for name in ("weight0-seed0", "weight0.1-seed0", "agent"))
SEEN = 0.003  # radius in the observation, in the units of the environment
START, SHOWN = 5, (1, 5, 10, 15, 20, 30, 50)
NOISES, DRAWN, COPIES, INSIDE = (0.001, 0.01), (0.01, 0.1), 400, 0.95
WHOLE = 64
WITHIN, SLABS, LINE = 3.0, 16, 32
AUDIT_SIZES, AUDIT_STEPS, AUDIT_ROWS = (0.01, 0.03, 0.1), 8, 16


@dataclass(frozen=True)
class Errors:
    """A set of initial errors: radius · A e, |e| ≤ 1, followed for some steps."""

    name: str
    radius: float
    directions: Tensor | None  # None: the error is in the next observation
    steps: int
    slabs: int = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Enclose, attack, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", default=RUNS, help="directories of runs")
    parser.add_argument("--data", type=Path, default=SHIPPED / "episodes", help="recorded episodes")
    parser.add_argument("--episodes", type=int, default=2, help="of the first table (2); 0: none")
    parser.add_argument("--starts", type=int, default=100, help="of the audit (100); 0: none")
    parser.add_argument("--steps", type=int, default=50, help="steps of the first table (50)")
    parser.add_argument("--seed", type=int, default=0, help="of windows, noise and attack (0)")
    parser.add_argument("--out", type=Path, default=ROOT / "figures" / "data", help="of the tables")
    given = parser.parse_args(arguments)
    try:
        for name in ("episodes", "starts"):
            check_count(f"--{name}", getattr(given, name), minimum=0)
        check_count("--steps", given.steps)
        runs = [load_trained_run(run, given.data) for run in given.runs]
        for stem, rows in measured(runs, given):
            facts = manifest(seed=given.seed, data=given.data.name, start=START)
            write_table(given.out / f"{stem}.csv", rows, facts)
            print(text_table([*rows[0]], [[_cell(part) for part in row.values()] for row in rows]))
            print(given.out / f"{stem}.csv", end="\n\n", flush=True)
    except ValueError as problem:
        parser.error(str(problem))


def measured(
    runs: Sequence[TrainedRun], given: argparse.Namespace
) -> Iterator[tuple[str, list[Row]]]:
    """Name and rows of each table."""
    if given.episodes:
        yield "table_enclosure", [row for run in runs for row in tight(run, given)]
    if given.starts:
        yield "table_enclosure_audit", [row for run in runs for row in audit(run, given)]


def _cell(part: Any) -> str:
    return number_text(part, 4) if isinstance(part, (int, float)) else str(part or "")


def starts_of(run: TrainedRun, episodes: Episodes, row: int, seed: int) -> Tensor:
    """The posterior states of all episodes at a row."""
    return clean_paths(run.model, episodes.first_rows(row + 1), seed).states[:, row]


def sets_of_errors(
    run: TrainedRun, episodes: Episodes, steps: int, seed: int
) -> Iterator[list[Errors]]:
    """The sets of initial errors of each episode."""
    size, latent, few = run.model.state_size, run.model.latent, min(steps, 30)
    unit = torch.eye(size, dtype=torch.float64)
    balls = [
        Errors("z, ball 0.03", 0.03, unit[:, latent], steps),
        Errors("z, ball 0.1", 0.1, unit[:, latent], steps),
    ]
    if size <= WHOLE:
        balls.append(Errors("whole state, ball 0.03", 0.03, unit, few))
    balls += [replace(one, slabs=SLABS) for one in balls]
    balls.append(Errors(f"observation, ball {SEEN:g}", SEEN, None, few))
    found = {
        strength: perturbed_initial_states(
            run.model,
            episodes,
            ObservationPerturbation("noise", strength),
            start=START,
            copies=COPIES,
            mode="single_frame",
            seed=seed,
        ).errors
        for strength in (*NOISES, *DRAWN)
    }
    for e in range(len(episodes.rewards)):
        yield [
            *balls,
            *(
                replace(ellipsoid(strength, found[strength][e], latent, few), slabs=slabs)
                for strength in NOISES
                for slabs in (1, SLABS)
            ),
            *(
                line(f"z, a drawn error of noise {strength:g}", found[strength][e, 0], few)
                for strength in DRAWN
            ),
        ]


def ellipsoid(strength: float, errors: Tensor, latent: slice, steps: int) -> Errors:
    """The ellipsoid of samples of an error (K, D) that differs from zero in z only."""
    own = errors[:, latent]
    values, vectors = torch.linalg.eigh(own.T @ own / len(own))
    root = torch.zeros(errors.shape[1], len(values), dtype=torch.float64)
    root[latent] = vectors * values.sqrt()
    lengths = (own @ vectors / values.sqrt()).norm(dim=1)
    radius = float(lengths.quantile(INSIDE))
    return Errors(f"z, ellipsoid of noise {strength:g}", radius, root, steps)


def line(name: str, error: Tensor, steps: int) -> Errors:
    """All s e, |s| ≤ 1, of one error e (D,)."""
    size = float(error.norm())
    return Errors(name, size, error[:, None] / size, steps, LINE)


def tight(run: TrainedRun, given: argparse.Namespace) -> Iterator[Row]:
    """The rows of a run in the first table."""
    count = max(2, given.episodes)
    episodes = run.episodes(START + given.steps + 1, count, given.seed)
    states = starts_of(run, episodes, START, given.seed)
    every = sets_of_errors(run, episodes, given.steps, given.seed)
    for e, sets in zip(range(given.episodes), every, strict=False):
        for errors in sets:
            tube, seconds = enclosed(run, episodes, e, START, states[e], errors, given.seed)
            bounds = tube.bounds[0]  # of an error in the observation 0 at step 0
            ratio = torch.where(bounds > 0, bounds / tube.attack(given.seed)[0], 1.0)
            yield {
                "run": run.run.name,
                "errors": errors.name,
                "radius": errors.radius,
                "slabs": errors.slabs,
                "episode": e,
                "steps": errors.steps,
                **{f"ratio_{k}": _ratio(ratio, k) for k in SHOWN},
                "within_3": _last_within(ratio),
                "abstains": tube.abstains[0].step if tube.abstains else None,
                "reason": tube.abstains[0].reason if tube.abstains else None,
                "seconds": round(seconds, 1),
            }


def enclosed(
    run: TrainedRun,
    episodes: Episodes,
    episode: int,
    row: int,
    state: Tensor,
    errors: Errors,
    seed: int,
) -> tuple[RolloutEnclosure, float]:
    """The enclosure from a state under the actions that follow, and the seconds that it took."""
    actions = episodes.previous_actions[episode, row + 1 : row + 1 + errors.steps]
    seen = episodes.observations[episode, row + 1]
    system = as_system(run.model, actions=actions)
    begin = time.process_time()
    tube = enclose_rollouts(
        system,
        state,
        errors.radius,
        errors.directions,
        steps=errors.steps,
        paths=1,
        observation=None if errors.directions is not None else seen.double(),
        slabs=errors.slabs,
        seed=seed,
    )
    return tube, time.process_time() - begin


def _ratio(ratio: Tensor, k: int) -> float | None:
    known = k < len(ratio) and bool(torch.isfinite(ratio[k]))
    return round(float(ratio[k]), 4) if known else None


def _last_within(ratio: Tensor) -> int:
    """The last step up to which all ratios are at most `WITHIN`."""
    above = (~(ratio <= WITHIN)).nonzero()[:, 0]
    return int(above[0]) - 1 if len(above) else len(ratio) - 1


def audit(run: TrainedRun, given: argparse.Namespace) -> Iterator[Row]:
    """The rows of a run in the table of the audit; the starts are rows of other windows."""
    episodes = run.episodes(START + AUDIT_ROWS + AUDIT_STEPS, None, given.seed + 1)
    count = min(len(episodes.rewards), given.starts)
    if given.starts > count * AUDIT_ROWS:
        raise ValueError(f"--starts: at most {count * AUDIT_ROWS} for {count} episodes.")
    places = [(i % count, START + i // count) for i in range(given.starts)]
    states = {row: starts_of(run, episodes, row, given.seed) for row in {r for _, r in places}}
    directions = torch.eye(run.model.state_size, dtype=torch.float64)[:, run.model.latent]
    for radius in AUDIT_SIZES:
        errors = Errors("z", radius, directions, AUDIT_STEPS)
        violations, abstained, ratios = 0, 0, []
        work = enumerate(places)
        for i, (e, row) in counted(f"audit, {radius:g}", work, len(places)):
            tube, _ = enclosed(run, episodes, e, row, states[row][e], errors, given.seed + i)
            attacked = tube.attack(given.seed + i)
            violations += tube.violations(attacked).count
            abstained += len(tube.abstains)
            ratios.append(float((tube.bounds / attacked)[0, -1]))
        median = torch.tensor(ratios).median()
        yield {
            "run": run.run.name,
            "radius": radius,
            "steps": AUDIT_STEPS,
            "starts": len(places),
            "violations": violations,
            "probability": round(violation_bound(violations, len(places)), 4),
            "abstained": abstained,
            "median_ratio": _ratio(median[None], 0),
            "largest_ratio": _ratio(torch.tensor(ratios).max()[None], 0),
        }


if __name__ == "__main__":
    main()

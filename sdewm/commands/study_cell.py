"""One cell of a study: train its run, or go on with it, and measure it.

    python -m sdewm.commands.study_cell STUDY.toml FOLDER ARM SEED

The rows are left in FOLDER/DIGEST/ARM-seedSEED.json, written as a whole, and before them in
ARM-seedSEED.cost.json the seconds and the memory that the cell took.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sdewm.base.records import code_commit, dump_json, read_log, write_whole
from sdewm.commands.train import resume, train
from sdewm.study.declaration import Cell, Study
from sdewm.study.end_points import measure
from sdewm.study.episodes import require_episodes
from sdewm.study.rows import END, Place, Row
from sdewm.study.study_file import read_study
from sdewm.train.metrics import memory_metrics
from sdewm.train.run_directory import allow_module


def main(words: Sequence[str]) -> int:
    """Train and measure; the exit code of the training if it was stopped or failed."""
    file, folder, arm, seed = words
    study, cell = read_study(Path(file)), Cell(arm, int(seed))
    allow_module(study.env or None)  # the declaration names it, not the run alone
    commit = code_commit()  # of the code that runs: a later commit does not change it
    episodes = require_episodes(study)
    place = Place(Path(folder), study.digest, Path(file))
    run = place.run(cell)
    begun = (run / "config.json").exists()
    run.parent.mkdir(parents=True, exist_ok=True)
    code = resume([str(run)]) if begun else train(study.words(cell, run)[1:])
    if code:
        return code
    start = time.perf_counter()
    rows = measured(study, cell, run, episodes, commit)
    write_whole(place.cost(cell), dump_json(cost(run, time.perf_counter() - start)))
    write_whole(place.rows(cell), dump_json(rows, indent=1))
    return 0


def cost(run: Path, measuring: float) -> dict[str, float]:
    """Seconds of training and measuring, and the largest peak memory, in MB of 10⁶ bytes.

    Args:
        run: the run directory; training may have been interrupted and gone on with.
        measuring: seconds that this process has been measuring.
    """
    trained: list[dict[str, float]] = read_log(run / "metrics.jsonl")[0]  # type: ignore[assignment]
    memory = max(row["memory_mb"] for row in (*trained, memory_metrics()))
    return {"seconds": trained[-1]["seconds"] + measuring, "memory_mb": memory}


def measured(study: Study, cell: Cell, run: Path, episodes: str, commit: str) -> list[Row]:
    """All end points of a trained cell at all numbers of updates."""
    facts = {"study": study.name, "digest": study.digest, "arm": cell.arm, "seed": str(cell.seed)}
    command = " ".join(["sdewm", *study.words(cell, run)])
    rows = []
    data = Path(study.test_data) if study.test_data else None
    for updates in study.measured_at or (None,):
        found = measure(run, data, study.end_points, updates)
        for name, one in zip(study.end_points, found, strict=True):
            if not math.isfinite(one.value):
                raise ValueError(f"{cell.name}: {name} is {one.value}; expected a finite number.")
            numbers = {"value": repr(one.value), "standard_error": repr(one.standard_error)}
            source = {"episodes": episodes, "commit": commit, "command": command}
            rows.append(
                {**facts, "updates": str(updates or END), "end_point": name, **numbers, **source}
            )
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The recorded episodes of a study: that they are there, and that all rows are of the same ones."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from sdewm.base.fields import later_defaults
from sdewm.data.dataset import Dataset, read_dataset
from sdewm.study.declaration import Study
from sdewm.study.end_points import OF_AGENTS, OF_LOGS, ROWS, check_on_episodes
from sdewm.study.rows import Row
from sdewm.train.config import Config
from sdewm.train.sources import RECORDED, check_recorded_task


def require_episodes(study: Study, rows: Iterable[Row] = ()) -> str:
    """Refuse to run a study whose episodes are missing, not fit for it, or not those of its rows.

    It can be reported all the same.

    Args:
        study: the declaration.
        rows: the rows that are there already.

    Returns:
        Digest of all episodes, of training and of test; "" for a study of agents without any.

    Raises:
        ValueError: a directory is missing or no dataset, a perturbation is of other observations,
            the test episodes are of another task than what is learnt, fewer than two of them have
            the rows of a window, or rows were measured on other episodes.
    """
    found = []
    for name in ("data", "test_data"):
        if not getattr(study, name):
            continue
        directory = Path(getattr(study, name))
        if not directory.is_dir():
            raise ValueError(f"{name}={str(directory)!r}: there is no such directory.")
        found.append(read_dataset(directory).digest)
    if study.test_data:
        check_on_episodes(study.end_points, Path(study.test_data))
        _require_same_task(study)
        if any(name.partition(" ")[0] not in (*OF_AGENTS, *OF_LOGS) for name in study.end_points):
            _require_long(read_dataset(Path(study.test_data)))
    digest = hashlib.sha256(" ".join(found).encode()).hexdigest()[:12] if found else ""
    others = known_episodes(rows) - {digest}
    if others:
        raise ValueError(
            f"data={study.data!r}, test_data={study.test_data!r}: these episodes ({digest}) are "
            f"not those of the rows that are there ({', '.join(sorted(others))}). Give the "
            "episodes of these rows, or another --out."
        )
    return digest


def _require_same_task(study: Study) -> None:
    """Refuse test episodes of another environment, observation or action repeat."""
    test = Path(study.test_data)
    if study.data:
        facts = later_defaults(Config) | read_dataset(Path(study.data)).facts
        check_recorded_task(facts, test, f"data={study.data!r}")
        return
    for cell in study.cells[: len(study.arms)]:
        config = study.config(cell)
        settings = {name: getattr(config, name) for name in RECORDED}
        check_recorded_task(settings, test, f"arm={cell.arm!r}")


def _require_long(test: Dataset) -> None:
    """Refuse too few episodes with a window of `ROWS` rows, and say how many are left out."""
    there = sum(length >= ROWS for length in test.lengths)
    if there < 2:
        raise ValueError(
            f"test_data={str(test.directory)!r} has {there} episodes of at least {ROWS} rows; "
            "expected two, because end points are measured on windows of so many."
        )
    if there < test.episodes:
        sys.stderr.write(
            f"note: {test.episodes - there} of {test.episodes} episodes of {test.directory} have "
            f"fewer than {ROWS} rows; end points are measured on the others.\n"
        )


def require_same_episodes(rows: Iterable[Row], table: Path) -> None:
    """Refuse rows that were measured on different episodes, as far as these are on record.

    Raises:
        ValueError: there are two digests or more.
    """
    found = known_episodes(rows)
    if len(found) > 1:
        raise ValueError(f"{table} holds rows of different episodes: {', '.join(sorted(found))}.")


def known_episodes(rows: Iterable[Row]) -> set[str]:
    """Digests of the episodes of these rows, where they are on record."""
    return {row["episodes"] for row in rows if row.get("episodes")}

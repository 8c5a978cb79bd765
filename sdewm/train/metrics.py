"""The metrics of a run: means over updates, and the records of its rows."""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sdewm.base.records import RowLog, Value, dump_json, read_log, read_log_lines
from sdewm.train.event_files import EventFiles
from sdewm.train.row_callback import OnRow, RowCallback

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

# Columns that depend on the clock and the machine; all others are determined by config and seed.
CLOCK_COLUMNS = (
    "seconds",
    "updates_per_second",
    "env_frames_per_second",
    "memory_mb",
    "gpu_memory_mb",
)
COUNTERS = ("env_frames", "policy_steps", "updates")
RESULTS = {"env_frames": "evaluation/mean_return", "updates": "loss/total"}  # by TensorBoard's step
EXPLODED = 1e12  # a larger loss counts as divergence, long before float32 overflows at 3e38


class DivergedError(ArithmeticError):
    """A metric of an update is not finite, or a loss has exploded."""


class UpdateMeans:
    """Means of the metrics of the updates since the last row.

    The values remain on their device until they are needed, so that updates do not synchronise.

    >>> means = UpdateMeans()
    >>> for loss in (1.0, 2.0):
    ...     means.add({"loss/reward": torch.tensor(loss)})
    >>> means.check(last_update=2)
    >>> means.take(), means.take()
    ({'loss/reward': 1.5}, {})
    """

    def __init__(self) -> None:
        # Runs of updates with the same names: names, and per update one vector (names,).
        self._groups: list[tuple[tuple[str, ...], list[Tensor]]] = []

    def __len__(self) -> int:
        """Number of updates since the last row."""
        return sum(len(vectors) for _, vectors in self._groups)

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Add the metrics of one update: scalar tensors by name."""
        names = tuple(metrics)
        if not names:
            return
        if not self._groups or self._groups[-1][0] != names:
            self._groups.append((names, []))
        # Stacking copies: the update may reuse the memory of what it returned.
        values = [value.detach().float() for value in metrics.values()]
        self._groups[-1][1].append(torch.stack(values))  # (names,)

    def check(self, last_update: int) -> None:
        """Check that all metrics are finite and no loss exceeds `EXPLODED` in absolute value.

        Args:
            last_update: number of the update added last.

        Raises:
            DivergedError: the check fails; the message names the first such update and its terms.
        """
        number = last_update - len(self)
        for names, vectors in self._groups:
            for values in torch.stack(vectors).cpu().tolist():
                number += 1
                bad = {
                    name: value
                    for name, value in zip(names, values, strict=True)
                    if not math.isfinite(value) or ("loss" in name and abs(value) > EXPLODED)
                }
                if bad:
                    terms = ", ".join(f"{name} = {value:g}" for name, value in bad.items())
                    raise DivergedError(f"update {number}: {terms}")

    def take(self) -> dict[str, float]:
        """The mean of every metric over the updates that reported it; resets the means.

        Of gradient norms also the median (of an even number the lower of the two in the middle),
        the .99 quantile and the maximum.
        """
        columns: dict[str, list[Tensor]] = {}
        for names, vectors in self._groups:
            table = torch.stack(vectors).to("cpu", torch.float64)  # (updates, names)
            for place, name in enumerate(names):
                columns.setdefault(name, []).append(table[:, place])
        self._groups = []
        found = {name: float(torch.cat(parts).mean()) for name, parts in columns.items()}
        for name, parts in columns.items():
            if name.startswith("gradient_norm/"):
                values = torch.cat(parts)
                found[f"{name}_median"] = float(values.median())
                found[f"{name}_p99"] = float(values.quantile(0.99))
                found[f"{name}_max"] = float(values.max())
        return found

    def state_dict(self) -> list[Any]:
        """The values added since the last row."""
        return [[list(names), torch.stack(vectors)] for names, vectors in self._groups]

    def load_state_dict(self, state: Iterable[Any], device: torch.device) -> None:
        """Restore a `state_dict`, on the device of the metrics to come."""
        self._groups = [(tuple(names), list(table.to(device).unbind(0))) for names, table in state]


class RunLog:
    """The records of a run: `metrics.jsonl`, `evaluation.jsonl`, TensorBoard events, a callback.

    On resume, rows written after the checkpoint are removed, so that the files equal those of an
    uninterrupted run.

    Args:
        run: directory of the run.
        facts: the manifest, which is the first line of both files.
        step_name: the counter used as TensorBoard's step, "env_frames" or "updates".
        kept: numbers of metrics and evaluation rows at the checkpoint; None: a new run.
        step: the checkpoint's step; later TensorBoard events are removed.
        settings: the configuration by full names, for TensorBoard and the callback.
        on_row: a function (kind, row) that is given every row, see `RowCallback`.
    """

    def __init__(
        self,
        run: Path,
        facts: Mapping[str, Value],
        *,
        step_name: str,
        kept: tuple[int, int] | None = None,
        step: int = 0,
        settings: Mapping[str, Value] | None = None,
        on_row: OnRow | None = None,
    ) -> None:
        self.step_name, self.on_row = step_name, RowCallback(on_row)
        self.rows, self.evaluation_rows = kept or (0, 0)
        # A damaged row keeps its place, so that no row after the checkpoint moves into it.
        lines = read_log_lines(run / "metrics.jsonl")[0][: self.rows]
        rows = [row for row in lines if row is not None]
        if len(rows) < self.rows:
            sys.stderr.write(
                f"{run / 'metrics.jsonl'} has {len(rows)} rows, but the checkpoint counted "
                f"{self.rows}: the missing rows are lost.\n"
            )
        self._metrics = RowLog(run / "metrics.jsonl", facts, rows)
        evaluations = kept_evaluations(read_log(run / "evaluation.jsonl")[0], self.evaluation_rows)
        self._evaluations = RowLog(run / "evaluation.jsonl", facts, evaluations)
        purge = 0 if kept is None else step + 1  # of a start that was lost, or later events
        self._events = EventFiles(run, settings or {}, result=RESULTS[step_name], step=purge)
        place = run.resolve()
        about = {"name": place.name, "directory": str(place), "step_name": step_name}
        self.on_row("run", {**(settings or {}), **about})

    def add_row(self, row: Mapping[str, Value]) -> None:
        """Add one row of metrics with the counters; None marks a metric without a value."""
        self._metrics.append(row)
        self.rows += 1
        self._add_scalars(row, "train")
        self.on_row("metrics", row)

    def add_evaluation(self, row: Mapping[str, Any]) -> None:
        """Add one evaluation row with the counters."""
        self._evaluations.append(row)
        self.evaluation_rows += 1
        values = {name: row[name] for name in (*COUNTERS, "mean_return", "standard_error")}
        self._add_scalars(values, "evaluation")
        self.on_row("evaluation", row)

    def add_picture(self, name: str, image: np.ndarray, step: int) -> None:
        """Add an image (H, W, 3) uint8 to TensorBoard."""
        self._events.add_picture(name, image, step)

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        self._evaluations.close()
        self._events.close()

    def _add_scalars(self, row: Mapping[str, Any], group: str) -> None:
        values = {
            name if "/" in name else f"{group}/{name}": value
            for name, value in row.items()
            if name not in COUNTERS and value is not None
        }
        self._events.add_scalars(values, row[self.step_name])


def kept_evaluations(rows: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first `count` evaluations by the training run, and all rows of `sdewm evaluate`."""
    kept = []
    for row in rows:
        count -= row.get("by") == "train"
        if row.get("by") != "train" or count >= 0:
            kept.append(row)
    return kept


def append_evaluation(run: Path, row: Mapping[str, Any]) -> None:
    """Append a row to `evaluation.jsonl` and flush it, also while the run is being trained."""
    with (run / "evaluation.jsonl").open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        cut = file.read(1) not in (b"", b"\n")  # the last line was: the row gets one of its own
        file.write((b"\n" if cut else b"") + dump_json(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def machine_memory_mb() -> float:
    """Physical memory of the machine, in MB of 10⁶ bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6


def memory_metrics() -> dict[str, float]:
    """Peak memory of this process, and its peak on the GPU if it uses one, in MB of 10⁶ bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    metrics = {"memory_mb": round(peak * unit / 1e6, 1)}
    if torch.cuda.is_initialized():
        metrics["gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    return metrics

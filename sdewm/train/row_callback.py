"""A user's function that is given the rows of a run as they are written."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

OnRow = Callable[[str, dict[str, Any]], object]  # (kind, row)


class RowCallback:
    """Calls a function with each row; an error in it is reported once, and does not end the run.

    The function is called as `on_row(kind, row)`, where kind is

        "run"         once at the start of each session: the configuration by full names, and "name"
                      (of the run), "directory" and "step_name" (the counter that measures progress)
        "metrics"     a row of metrics.jsonl
        "evaluation"  a row of evaluation.jsonl, written by the training

    and row is a dictionary of its own. A resumed run repeats the rows after its checkpoint, in the
    files and here.

    >>> rows = RowCallback(lambda kind, row: print(kind, row["updates"]))
    >>> rows("metrics", {"updates": 250})
    metrics 250
    """

    def __init__(self, function: OnRow | None) -> None:
        self.function = function

    def __call__(self, kind: str, row: Mapping[str, Any]) -> None:
        """Call the function with a copy of the row."""
        if self.function is None:
            return
        try:
            self.function(kind, dict(row))
        except Exception:
            sys.stderr.write(
                f"{traceback.format_exc()}on_row raised this error and is not called any more; "
                "the training goes on.\n"
            )
            self.function = None

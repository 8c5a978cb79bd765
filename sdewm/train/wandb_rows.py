"""Rows of a run to Weights & Biases, an optional extra: pip install 'sdewm[wandb]'."""

from __future__ import annotations

import hashlib
import importlib
import os
from typing import Any

from sdewm.train.metrics import COUNTERS
from sdewm.train.row_callback import OnRow


def wandb_rows() -> OnRow:
    """A function for `Trainer(on_row=…)` that logs every number of every row.

    The project is "sdewm", or that of the environment variable WANDB_PROJECT; a run that is resumed
    at the same place continues its curves.

    Raises:
        ValueError: wandb is not installed.
    """
    try:
        wandb: Any = importlib.import_module("wandb")
    except ImportError as problem:
        raise ValueError(
            "on_row='wandb': wandb is not installed; pip install 'sdewm[wandb]'."
        ) from problem

    def on_row(kind: str, row: dict[str, Any]) -> None:
        if kind == "run":
            place = hashlib.sha256(row["directory"].encode()).hexdigest()[:16]
            project = os.environ.get("WANDB_PROJECT", "sdewm")
            wandb.init(project=project, id=place, resume="allow", name=row["name"], config=row)
            wandb.define_metric("*", step_metric=row["step_name"])
            return
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
        whole = {name for name in numbers if "/" in name or name in COUNTERS}
        wandb.log({n if n in whole else f"{kind}/{n}": value for n, value in numbers.items()})

    return on_row

"""TensorBoard event files of a run: scalars, pictures, the configuration, hyper-parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sdewm.base.records import Value

if TYPE_CHECKING:
    import numpy as np

FOLDER = "tensorboard"


class EventFiles:
    """Event files in tensorboard/<name of the run>, so that TensorBoard shows that name.

    The configuration is written as the text "config". It is also written as hyper-parameters, so
    that TensorBoard's table of runs shows it beside the last value of `result`.

    Args:
        run: directory of the run.
        settings: the configuration by full names, see `run_directory.flat_config`; empty: none.
        result: tag of the scalar that is the result of the run.
        step: of the text; events from this step on, of earlier files, are removed.
    """

    def __init__(self, run: Path, settings: Mapping[str, Value], *, result: str, step: int) -> None:
        from torch.utils.tensorboard.summary import hparams
        from torch.utils.tensorboard.writer import SummaryWriter  # a second to import

        place = event_folder(run)
        self._writer = SummaryWriter(str(place), purge_step=step)
        self._end = None
        if not settings:
            return
        text = json.dumps(dict(settings), indent=1, ensure_ascii=False)
        indented = "\n".join(f"    {line}" for line in text.splitlines())  # verbatim in Markdown
        self._writer.add_text("config", indented, step)
        plain = {name: "none" if value is None else value for name, value in settings.items()}
        experiment, start, self._end = hparams(plain, {result: 0.0})
        for summary in (experiment, start):
            self._writer._get_file_writer().add_summary(summary, step)
        self._writer.flush()

    def add_scalars(self, row: Mapping[str, float], step: int) -> None:
        """Add the values of a row by their tags."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def add_picture(self, name: str, image: np.ndarray, step: int) -> None:
        """Add an image (H, W, 3) uint8."""
        self._writer.add_image(name, image, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the files; the run has ended."""
        if self._end is not None:
            self._writer._get_file_writer().add_summary(self._end)
        self._writer.close()


def event_folder(run: Path) -> Path:
    """Folder of a run's event files: where there are some, else under the name of the run."""
    there = sorted((run / FOLDER).rglob("events.out.tfevents.*"))
    return there[0].parent if there else run / FOLDER / run.resolve().name

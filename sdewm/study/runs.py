"""The runs of a study: that they were begun with the settings that it declares."""

from __future__ import annotations

from pathlib import Path

from sdewm.study.declaration import Study
from sdewm.study.rows import Place
from sdewm.train.run_directory import config_changes, plain_config, read_run
from sdewm.train.sources import as_recorded


def require_declared_runs(study: Study, place: Place) -> None:
    """Refuse runs that were begun with other settings than those of their cells.

    The digest is that of the declaration, which names a preset. Where the preset has changed since,
    or a config.json was edited, cells would be compared that differ in more than their arms.

    Args:
        study: the declaration.
        place: where its runs are.

    Raises:
        ValueError: the first such run, with the settings that differ.
    """
    for cell in study.cells:
        run = place.run(cell)
        if not (run / "config.json").exists():
            continue
        declared = study.config(cell)
        if study.data:
            declared = as_recorded(declared, Path(study.data), ())
        if changes := config_changes(plain_config(declared), read_run(run).config):
            raise ValueError(
                f"run={str(run)!r} was begun with other settings than those that {place.file} and "
                f"the preset {study.preset!r} give now ({', '.join(changes)}): use the version of "
                "sdewm that began the study, or another --out."
            )

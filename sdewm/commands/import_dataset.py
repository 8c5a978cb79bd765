"""`sdewm import`: recordings of other projects as datasets."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.commands.parsing import parse
from sdewm.data.envs import check_env
from sdewm.data.episode_arrays import ObservationForm
from sdewm.data.imports.import_recording import Findings, import_recording, open_recording


@dataclass(frozen=True)
class Import:
    """Convert episodes that another project recorded to a dataset.

    It is then used like one of sdewm record. The same command resumes an interrupted import.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """Recording: a folder of npz files as dreamerv3-torch writes them, an HDF5 file as of D4RL
    (needs h5py), or minari:<dataset id> (needs minari)."""
    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIRECTORY")]
    """Directory of the dataset."""
    keys: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="NAME ...", help_behavior_hint="(default: the only one)"),
    ] = ()
    """Names of the observations that the model gets: vectors, to be concatenated, and at most one
    image."""
    channels: Annotated[
        Literal["first", "last"] | None,
        tyro.conf.arg(help_behavior_hint="(default: as their shape tells)"),
    ] = None
    """Place of the channels of images."""
    pixel_max: Annotated[
        int | None,
        tyro.conf.arg(metavar="{1,255}", help_behavior_hint="(required if not uint8)"),
    ] = None
    """Value of the brightest pixel of images that are not uint8."""
    resize: bool = False
    """Make images (64, 64, 3), as the world models of sdewm train take them."""
    env: Annotated[
        str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(default: as recorded)")
    ] = None
    """Environment of the episodes: dmc:<domain>_<task>, gym:<id> or own:<name>."""
    action_repeat: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: as recorded)")
    ] = None
    """Simulator steps (env_frames) per row."""


def import_dataset(words: list[str]) -> int:
    """Import the episodes, and print what the dataset holds and what is not known of it."""
    given = parse(Import, words, "import")
    form = ObservationForm(given.keys or None, given.channels, given.pixel_max, given.resize)
    repeat = given.action_repeat
    if repeat is not None:
        check_count("--action-repeat", repeat)
    if given.env is not None and not given.env.startswith("gym:"):
        check_env(given.env)  # one of gym: need not be installed here
    recording = open_recording(given.source)
    progress = Progress("episodes", recording.count)
    try:
        dataset, findings = import_recording(
            recording,
            given.data,
            form=form,
            env=given.env,
            action_repeat=repeat,
            progress=progress.update,
        )
    finally:
        progress.close()
    seen, acted = (dataset.fields[name].shape for name in ("observation", "previous_action"))
    print(
        f"{given.data}: {dataset.episodes} episodes, {dataset.rows} rows; observations {seen} "
        f"({dataset.facts['obs']}), actions {acted}"
    )
    arguments = ("env_kwargs",) if recording.env_kwargs else ()
    names = ("env", *arguments, "action_repeat", "policy")
    print(", ".join(f"{name}: {dataset.facts[name]}" for name in names))
    for line in _notes(dataset.episodes, findings):
        sys.stderr.write(f"note: {line}\n")
    return 0


def _notes(episodes: int, findings: Findings) -> list[str]:
    """What the user should know about the dataset."""
    lines = []
    if findings.largest_action > 1 + 1e-6:
        lines.append(
            f"actions reach {findings.largest_action:g} in size; the world models of sdewm train "
            "take actions in [-1, 1] and clip others."
        )
    if findings.first_actions:
        lines.append(
            f"{findings.first_actions} of {episodes} episodes hold an action in their first row, "
            "to which none led: it is set to 0. If row t holds the action taken after observation "
            "t, as in files of danijar/dreamerv3, all actions now stand a row too early: move them "
            "down by a row, and import again."
        )
    if findings.lost_ends:
        lines.append(
            f"{findings.lost_ends} of {episodes} episodes terminated, after a last observation "
            "that the source does not hold: their last action and reward are left out, and no row "
            "of theirs is terminal."
        )
    if findings.unknown_ends:
        lines.append(
            f"the source does not say whether {findings.unknown_ends} of {episodes} episodes "
            "terminated: no row of theirs is terminal."
        )
    return lines

"""Conversion of recordings of other projects to datasets of this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdewm.base.records import code_commit, command_line
from sdewm.data.dataset import UNKNOWN, Dataset, recorded_episodes, write_dataset
from sdewm.data.episode_arrays import (
    EpisodeRows,
    ObservationForm,
    episode_rows,
    select_observations,
)
from sdewm.data.imports.hdf5_file import open_hdf5
from sdewm.data.imports.minari_dataset import PREFIX, open_minari
from sdewm.data.imports.npz_folder import open_npz
from sdewm.data.imports.recording import Recording, StoredEpisode
from sdewm.data.observations import FRAME_SHAPE

HDF5 = (".hdf5", ".h5")


@dataclass
class Findings:
    """What was found out about the episodes on the way, for the user.

    Attributes:
        lost_ends: number of episodes that terminated in a row that is not recorded.
        unknown_ends: number of episodes of which it is not recorded whether they terminated.
        largest_action: in absolute value.
        first_actions: number of episodes whose first row holds an action other than 0, although
            rows hold the action that led to their observation.
    """

    lost_ends: int = 0
    unknown_ends: int = 0
    largest_action: float = 0.0
    first_actions: int = 0


def open_recording(source: str) -> Recording:
    """The recording `minari:<dataset id>`, a folder of npz files, an npz file or an HDF5 file.

    Raises:
        ValueError: there is no such recording, or a package that reads it is not installed.
    """
    path = Path(source).expanduser()
    if source.startswith(PREFIX):
        return open_minari(source)
    if not path.exists():
        raise ValueError(f"source={source!r} is not there.")
    if path.suffix in HDF5:
        return open_hdf5(path)
    if path.is_dir() or path.suffix == ".npz":
        return open_npz(path)
    raise ValueError(
        f"source={source!r}: expected a folder of npz files, a file .npz, .hdf5 or .h5, or "
        f"{PREFIX}<dataset id>."
    )


def import_recording(
    recording: Recording,
    directory: Path,
    *,
    form: ObservationForm,
    env: str | None = None,
    action_repeat: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Dataset, Findings]:
    """Write a recording as a dataset; the same call resumes an interrupted import.

    Facts that the recording does not hold are UNKNOWN in the dataset, unless they are given here.
    Its observations are named "pixels" if they are images (uint8), "proprio" if they are vectors
    (float32), and "both" if they are an image beside vectors. A row is terminal if it is the last
    of an episode that terminated, and the observation after the last action is recorded.

    Args:
        recording: opened by `open_recording`.
        directory: folder of the dataset.
        form: what is known about the observations.
        env: name of the environment, if the recording does not hold it.
        action_repeat: simulator steps per row, if the recording does not hold it.
        progress: called with the number of imported episodes.

    Raises:
        ValueError: a fact that contradicts the recording, an episode that cannot be converted, or a
            directory that holds another dataset.
        OSError: the disk is full or fails. Episodes already written remain.
    """
    known = {"env": (env, recording.env), "action_repeat": (action_repeat, recording.action_repeat)}
    for name, (given, recorded) in known.items():
        if given is not None and recorded not in (UNKNOWN, given):
            raise ValueError(f"{name}={given!r}: {recording.name} has {recorded!r}.")
    findings = Findings()
    obs = _kind(recording, form)
    facts = {
        name: recorded if given is None else given for name, (given, recorded) in known.items()
    }
    facts |= {
        "obs": obs,
        "policy": recording.policy,
        "seed": UNKNOWN,
        # The name of the environment alone, which is what may be given, does not tell the others.
        "env_kwargs": UNKNOWN if recording.env == UNKNOWN else dict(recording.env_kwargs),
        "time_limit": UNKNOWN if recording.env == UNKNOWN else None,
        "action_groups": list(recording.action_groups),
        "source": {
            "format": recording.format,
            "name": recording.name,
            "digest": recording.digest,
            "keys": None if form.keys is None else list(form.keys),
            "channels": form.channels,
            "pixel_max": form.pixel_max,
            "resize": form.resize,
        },
        "command": command_line(),
        "commit": code_commit(),
    }
    done = recorded_episodes(directory, facts)

    def missing() -> Iterator[dict[str, Tensor]]:
        for number, stored in enumerate(recording.read(), start=1):
            rows = _converted(stored, recording, form, findings)  # also of those that are there
            if number > done:
                yield rows
            if progress is not None:
                progress(number)

    return write_dataset(directory, missing(), facts), findings


def _kind(recording: Recording, form: ObservationForm) -> str:
    """What the observations are, from the first episode, which is checked whole.

    Raises:
        ValueError: there is no episode, or it cannot be converted.
    """
    first = next(recording.read(), None)
    if first is None:
        raise ValueError(f"{recording.name} holds no episodes.")
    _converted(first, recording, form, Findings())
    seen = select_observations(first.observations, form, first.name)
    if seen.image is None:
        return "proprio"
    if seen.rows.dtype == torch.uint8:
        return "pixels"
    if seen.image != FRAME_SHAPE:
        raise ValueError(
            f"keys={form.keys}: the image beside vectors has the shape {seen.image}; expected "
            f"{FRAME_SHAPE}, which resize makes."
        )
    return "both"


def _converted(
    stored: StoredEpisode, recording: Recording, form: ObservationForm, findings: Findings
) -> dict[str, Tensor]:
    """The fields of one episode."""
    rows = episode_rows(
        stored.observations,
        stored.actions,
        stored.rewards,
        convention=recording.convention,
        form=form,
        name=f"{stored.name} of {recording.name}",
    )
    if recording.convention == "previous" and np.any(np.asarray(stored.actions)[0]):
        findings.first_actions += 1
    return _fields(rows, stored, recording.convention, findings)


def _fields(
    rows: EpisodeRows, stored: StoredEpisode, convention: str, findings: Findings
) -> dict[str, Tensor]:
    """Rows with the flags of the dataset."""
    count = len(rows.rewards)
    flags = {
        name: torch.zeros(count, dtype=torch.bool)
        for name in ("is_first", "is_last", "is_terminal")
    }
    flags["is_first"][0] = flags["is_last"][-1] = True
    end_is_recorded = convention == "previous" or len(stored.actions) < count
    flags["is_terminal"][-1] = bool(stored.terminated) and end_is_recorded
    findings.lost_ends += bool(stored.terminated) and not end_is_recorded
    findings.unknown_ends += stored.terminated is None
    largest = float(rows.previous_actions.abs().max())
    findings.largest_action = max(findings.largest_action, largest)
    images = rows.observations.dtype == torch.uint8
    return {
        "observation": rows.observations if images else rows.observations.float(),
        "previous_action": rows.previous_actions.float(),
        "reward": rows.rewards.float(),
        **flags,
    }

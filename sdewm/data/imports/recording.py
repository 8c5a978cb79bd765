"""A recording of another project: its episodes as they are stored, and what it says about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sdewm.base.fields import Arguments
from sdewm.data.dataset import UNKNOWN


class StoredEpisode(NamedTuple):
    """One episode as it is stored, in the convention of its recording.

    Attributes:
        name: for messages.
        observations: (T, …), or a mapping of names to such.
        actions, rewards: as `episode_rows` takes them.
        terminated: whether the episode ended for good, not by a time limit; None: not recorded.
    """

    name: str
    observations: Any
    actions: Any
    rewards: Any
    terminated: bool | None


@dataclass(frozen=True)
class Recording:
    """A recording that can be read from its first episode on.

    Attributes:
        format: "npz", "hdf5" or "minari".
        name: of the folder, file or dataset.
        convention: of actions and rewards, see `sdewm.data.episode_arrays`.
        digest: identifies the content.
        count: number of episodes.
        read: () -> the episodes, in order.
        env: name of the environment; UNKNOWN if the recording does not say it.
        env_kwargs: further arguments of its constructor.
        action_repeat: simulator steps per row.
        policy: that acted.
        action_groups: classes of each group of one-hot actions; empty for continuous actions, and
            where it is not known.
    """

    format: str
    name: str
    convention: str
    digest: str
    count: int
    read: Callable[[], Iterator[StoredEpisode]]
    env: str = UNKNOWN
    env_kwargs: Arguments = field(default_factory=dict)
    action_repeat: int | str = UNKNOWN
    policy: str = UNKNOWN
    action_groups: tuple[int, ...] = ()


def files_digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of files, 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            whole.update(path.name.encode() + b"\0")
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]

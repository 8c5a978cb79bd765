"""The directory of a run; configuration and provenance are saved before its first step.

    config.json       the full configuration, from which `sdewm resume` rebuilds the run
    manifest.json     command, commit, seed, versions, hardware; the recorded dataset, if any
    resumes.jsonl     the same facts for each time the run was resumed
    metrics.jsonl, evaluation.jsonl, tensorboard/, pictures/, checkpoints/
    lock              held by the process that trains, so that no second one can

A run is a directory that holds a config.json.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sdewm.base.fields import dotted, later_defaults, read_facts, read_fields
from sdewm.base.records import RowLog, Value, dump_json, manifest, read_log, write_whole
from sdewm.train.config import Config

WEIGHTS_ONLY = "weights_only"  # in the manifest of a weights-only copy
PACKAGES = ("gymnasium", "dm_control", "mujoco", "safetensors", "tensorboard")


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """Configuration and provenance of a run.

    Attributes:
        config: its configuration.
        data: the recorded dataset of a world-model-only run, else None.
        manifest: command, commit, seed, versions and hardware at its start.
    """

    config: Config
    data: Path | None
    manifest: dict[str, Value]


@dataclasses.dataclass(frozen=True)
class _Manifest:
    """The entries of a manifest that are used."""

    data: str | None


_ALLOWED: set[str] = set()  # names of environments that this process was told to trust


def allow_module(env: str | None) -> None:
    """Honour `env`, such as gym:<module>:<id>, also where a config.json names it."""
    if env is not None:
        _ALLOWED.add(env)


def create_run(run: Path, config: Config, data: Path | None = None) -> RunFacts:
    """Create the directory of a new run and save its configuration and provenance.

    Raises:
        ValueError: the directory already holds a run, or other files.
    """
    check_new(run)
    facts = _facts(config, data)
    run.mkdir(parents=True, exist_ok=True)
    _write(run / "manifest.json", facts)
    _write(run / "config.json", dataclasses.asdict(config))  # last: with it, this is a run
    return RunFacts(config, data, facts)


def check_new(run: Path) -> None:
    """Check that a new run can be started in a directory.

    Raises:
        ValueError: the directory already holds a run, or other files.
    """
    if (run / "config.json").exists():
        raise ValueError(
            f"run={str(run)!r} already holds a run: resume it with `sdewm resume {run}`, "
            "or choose another directory."
        )
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise ValueError(f"run={str(run)!r} is not an empty directory: choose another one.")


def read_run(run: Path) -> RunFacts:
    """Read the configuration and provenance of a run.

    A run may have been received from others, and its environment's name may import a module: such a
    name is honoured only after `allow_module`.

    Raises:
        ValueError: there is no run, its files are damaged, or it names a module to import.
    """
    if not (run / "config.json").is_file():
        raise ValueError(
            f"run={str(run)!r} holds no run (no config.json): start one with `sdewm train`."
        )
    try:
        config = read_fields(Config, (run / "config.json").read_text("utf-8"))
        facts = read_facts(_Manifest, (run / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise ValueError(
            f"run={str(run)!r}: its files are damaged or were written by another version: {problem}"
        ) from problem
    if config.env.count(":") > 1 and config.env not in _ALLOWED:
        raise ValueError(
            f"run={str(run)!r} names env={config.env!r}, which would run code of the module "
            f"{config.env.split(':')[1]!r}: if you trust it, type the name, --env {config.env} "
            "(in Python: sdewm.train.run_directory.allow_module)."
        )
    data = facts["data"]
    return RunFacts(config, None if data is None else Path(data), facts)


def check_resumable(run: Path, facts: RunFacts) -> None:
    """Check that a run is not a weights-only copy (`weights_copy`).

    Raises:
        ValueError: it is a weights-only copy.
    """
    if facts.manifest.get(WEIGHTS_ONLY):
        raise ValueError(
            f"run={str(run)!r} holds only weights: it can be evaluated, recorded and analysed, "
            "but not resumed."
        )


def load_agent(
    load: Callable[[Mapping[str, Any]], object], state: Mapping[str, Any], run: Path
) -> None:
    """Restore an agent from a checkpoint of its run, by its method `load`.

    Raises:
        ValueError: the network sizes differ: config.json is not that of the checkpoint.
    """
    try:
        load(state)
    except (RuntimeError, KeyError, ValueError) as problem:
        lines = str(problem).splitlines()
        raise ValueError(
            f"run={str(run)!r}: its checkpoint does not fit {run / 'config.json'}, which must have "
            f"been edited since; undo the edit. {' '.join(line.strip() for line in lines[:2])}"
        ) from problem


def config_changes(saved: Mapping[str, Any] | None, config: Config) -> list[str]:
    """Fields in which a configuration differs from the stored one of a checkpoint, one text each.

    >>> saved = plain_config(Config())
    >>> config_changes(saved, Config(env_frames=600_000))
    ['env_frames: 500000 -> 600000']
    """
    if saved is None:  # a checkpoint of a version that did not store it
        return []
    before = _flat(later_defaults(Config)) | _flat(saved)
    now = _flat(plain_config(config))
    names = [*now, *(name for name in before if name not in now)]
    values = [(name, before.get(name, "absent"), now.get(name, "absent")) for name in names]
    return [f"{name}: {old} -> {new}" for name, old, new in values if old != new]


def plain_config(config: Config) -> dict[str, Any]:
    """The configuration as it stands in config.json."""
    return json.loads(dump_json(dataclasses.asdict(config)))


def flat_config(config: Config) -> dict[str, Value]:
    """The values of a configuration by their full names; sequences as texts.

    >>> flat_config(Config())["model.rssm.deter"]
    2048
    """
    found = _flat(plain_config(config))
    return {name: str(one) if isinstance(one, list) else one for name, one in found.items()}


def keep_facts(run: Path, facts: RunFacts) -> None:
    """Write the configuration and the manifest of a resumed run, if they have changed."""
    now = {"manifest.json": facts.manifest, "config.json": plain_config(facts.config)}
    for name, content in now.items():
        if json.loads((run / name).read_text("utf-8")) != json.loads(dump_json(content)):
            _write(run / name, content)


def note_resume(run: Path, config: Config, updates: int, changes: Sequence[str] = ()) -> None:
    """Record that the run is resumed after `updates` updates, with code version and machine.

    Args:
        run: directory of the run.
        config: its configuration.
        updates: updates of the checkpoint.
        changes: `config_changes` since the checkpoint.
    """
    rows, _ = read_log(run / "resumes.jsonl")
    log = RowLog(run / "resumes.jsonl", {"seed": config.seed}, rows)
    changed = "; ".join(changes) or None
    log.append({"from_updates": updates, "changed": changed, **_facts(config, None)})
    log.close()


@contextmanager
def locked(run: Path, name: str = "run") -> Iterator[None]:
    """Lock the run, or another directory, until the block or the process ends, however it ends.

    Raises:
        ValueError: another process holds the lock.
    """
    with (run / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"{name}={str(run)!r} is being trained by process {file.read() or '?'}: "
                "stop that process first, or choose another directory."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _flat(nested: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """Values by their full names."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        full = dotted(group, name)
        found.update(_flat(value, full) if isinstance(value, Mapping) else {full: value})
    return found


def _facts(config: Config, data: Path | None) -> dict[str, Value]:
    versions = {name: version(name) for name in PACKAGES}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return manifest(
        seed=config.seed,
        preset=config.preset,
        env=config.env,
        data=None if data is None else str(data.resolve()),
        **versions,
        processor=platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        torch_threads=torch.get_num_threads(),
        gpu=device,
        system=platform.platform(),
    )


def _write(path: Path, content: object) -> None:
    """Write JSON and flush it to disk."""
    write_whole(path, dump_json(content, indent=1) + "\n")

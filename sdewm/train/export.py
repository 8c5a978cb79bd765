"""Weights-only copies of runs, small enough to be distributed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdewm.base.records import dump_json, write_whole
from sdewm.train.checkpoint import Checkpoints
from sdewm.train.run_directory import WEIGHTS_ONLY, check_new, read_run


def learnt_networks(agent: Mapping[str, Any], *, behaviour: bool) -> dict[str, Any]:
    """The weights of a state of the agent that were trained."""
    names = ("world_model", "averaged_world_model", *(["behaviour"] if behaviour else []))
    return {name: agent[name] for name in names if name in agent}


def weights_copy(run: Path, to: Path) -> None:
    """Copy configuration, manifest and network weights of a run's newest valid checkpoint.

    The copy is a run directory that can be evaluated, recorded and analysed, but not resumed:
    optimiser moments, replay and logs are omitted. Of a recorded training dataset only the name is
    stored, not its path on this machine.

    Args:
        run: directory of a run.
        to: a new directory.

    Raises:
        ValueError: there is no run, or `to` is not empty.
        CheckpointError: there is no valid checkpoint.
    """
    check_new(to)
    facts = read_run(run)
    state = Checkpoints(run / "checkpoints").load()
    networks = learnt_networks(state["agent"], behaviour=facts.data is None)
    counters = state["counters"]
    Checkpoints(to / "checkpoints").save(
        counters["updates"], {"agent": networks, "counters": counters}
    )
    manifest = facts.manifest | {WEIGHTS_ONLY: True}
    if facts.data is not None:
        manifest["data"] = facts.data.name
    write_whole(to / "manifest.json", dump_json(manifest, indent=1) + "\n")
    shutil.copyfile(run / "config.json", to / "config.json")  # last: with it, this is a run

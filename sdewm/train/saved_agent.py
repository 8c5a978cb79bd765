"""Loading the agent of a run from its newest valid checkpoint."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from gymnasium.spaces import Box

from sdewm.data.dataset import UNKNOWN, is_complete, read_dataset
from sdewm.train.agent import Agent
from sdewm.train.checkpoint import Checkpoints, kept_weights
from sdewm.train.config import Config, check_config
from sdewm.train.run_directory import config_changes, load_agent, read_run
from sdewm.train.sources import check_environment, recorded_spaces


@dataclass(frozen=True)
class SavedAgent:
    """The agent of a run at its newest valid checkpoint.

    Attributes:
        config: its configuration.
        agent: the agent.
        counters: counters of the checkpoint.
        changed: fields of config.json that were edited since the checkpoint, in one text; None if
            there are none.
    """

    config: Config
    agent: Agent
    counters: dict[str, int]
    changed: str | None


def weights_digest(agent: Agent) -> str:
    """Digest of an agent's weights, which distinguishes runs of equal name."""
    digest = hashlib.sha256()
    for module in (agent.world_model, agent.behaviour):
        for weight in module.state_dict().values():
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def trained_agent(run: Path) -> SavedAgent:
    """The agent of a run with a trained policy; see `saved_agent`.

    Raises:
        ValueError: as `saved_agent`, or the policy was not trained (--world-model-only).
        CheckpointError: there is no valid checkpoint.
    """
    facts = read_run(run)
    if facts.data is not None:
        raise ValueError(
            f"run={str(run)!r} trains only a world model, on {facts.data}: it has no trained "
            "policy to evaluate or record."
        )
    return saved_agent(run)


def saved_agent(run: Path, updates: int | None = None, data: Path | None = None) -> SavedAgent:
    """The agent of a run at its newest valid checkpoint; edits of its configuration are told.

    The agent is placed on the CPU if the run's device is not available.

    Args:
        run: its directory.
        updates: number of updates after which weights were kept (keep_every_updates); None: the
            newest checkpoint.
        data: recorded episodes with its spaces, for a run with an unknown environment whose own
            dataset is gone.

    Raises:
        ValueError: there is no run, no weights of these updates were kept, its environment cannot
            be made here, or its configuration was edited and does not fit the checkpoint.
        CheckpointError: there is no valid checkpoint.
    """
    facts = read_run(run)
    config = facts.config
    state = _checkpoints(run, updates).load()
    changed = "; ".join(config_changes(state.get("config"), facts.config)) or None
    if changed is not None:
        sys.stderr.write(f"changed since the checkpoint: {changed}\n")
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        sys.stderr.write(f"device={config.device!r} is not available; using the CPU.\n")
        config = replace(config, device="cpu")
    check_config(config)
    agent = Agent(config, *_spaces(run, config, facts.data, data))
    load_agent(agent.load_networks, state["agent"], run)
    return SavedAgent(config, agent, state["counters"], changed)


def _spaces(
    run: Path, config: Config, learnt_from: Path | None, data: Path | None
) -> tuple[Box, Box]:
    """Observation and action space of a run: of its dataset, its environment, or other episodes."""
    if learnt_from is not None and is_complete(learnt_from):
        return recorded_spaces(read_dataset(learnt_from))
    if config.env != UNKNOWN:
        return check_environment(config)
    if data is None:
        raise ValueError(
            f"run={str(run)!r} was trained on {learnt_from}, which is not there any more; its "
            "environment is unknown."
        )
    return recorded_spaces(read_dataset(data))


def _checkpoints(run: Path, updates: int | None) -> Checkpoints:
    if updates is None:
        return Checkpoints(run / "checkpoints")
    found = kept_weights(run, updates)
    if not found.exist():
        there = sorted(int(path.name) for path in (run / "kept").glob("[0-9]*"))
        raise ValueError(
            f"updates={updates}: run={str(run)!r} has kept weights after {there} updates."
        )
    return found

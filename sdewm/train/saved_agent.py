"""The agent of a run at its newest good checkpoint."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from sdewm.train.agent import Agent
from sdewm.train.checkpoint import Checkpoints
from sdewm.train.config import Config, check_config
from sdewm.train.run_directory import load_agent, read_run
from sdewm.train.sources import check_environment


def trained_agent(run: Path) -> tuple[Config, Agent, dict[str, int]]:
    """Configuration, agent and counters of a run whose policy has learnt; see `saved_agent`.

    Raises:
        ValueError: as `saved_agent`, or the policy never learnt (--world-model-only).
        CheckpointError: there is no good checkpoint.
    """
    facts = read_run(run)
    if facts.data is not None:
        raise ValueError(
            f"run={str(run)!r} trains a world model alone, on {facts.data}: its policy has learnt "
            "nothing, so there is nothing to evaluate or record."
        )
    return saved_agent(run)


def saved_agent(run: Path) -> tuple[Config, Agent, dict[str, int]]:
    """Configuration, agent and counters of a run at its newest good checkpoint.

    On the CPU where the run's device is not there.

    Raises:
        ValueError: there is no run, its environment cannot be made here, or its configuration was
            edited and does not fit.
        CheckpointError: there is no good checkpoint.
    """
    facts = read_run(run)
    config = replace(facts.config, compile=False)
    state = Checkpoints(run / "checkpoints").load()
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        sys.stderr.write(f"device={config.device!r} is not here; the CPU is used.\n")
        config = replace(config, device="cpu")
    check_config(config)
    agent = Agent(config, *check_environment(config))
    load_agent(agent.load_networks, state["agent"], run)
    return config, agent, state["counters"]

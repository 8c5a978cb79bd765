"""The training loop: collect, update, log, evaluate, checkpoint, resume.

It does not depend on the algorithm: the agent provides a policy, an update and a state.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdewm.base.allocation import keep_freed_memory
from sdewm.base.compiling import missing_compiler
from sdewm.base.progress import Progress
from sdewm.data.rollout import EndlessEpisodeError
from sdewm.train.agent import Agent
from sdewm.train.checkpoint import Checkpoints, kept_weights, tensors_of
from sdewm.train.evaluation import EVALUATION_SEED, evaluate, evaluation_row
from sdewm.train.export import learnt_networks
from sdewm.train.metrics import (
    DivergedError,
    RunLog,
    UpdateMeans,
    machine_memory_mb,
    memory_metrics,
)
from sdewm.train.pictures import draw_open_loop, episode_frames, save_gif, save_picture
from sdewm.train.random_state import (
    preserve_rng_state,
    random_states,
    restore_random_states,
    seed_everything,
)
from sdewm.train.row_callback import OnRow
from sdewm.train.run_directory import (
    RunFacts,
    config_changes,
    flat_config,
    keep_facts,
    load_agent,
    locked,
    note_resume,
    plain_config,
)
from sdewm.train.signals import Interrupted, StopRequest
from sdewm.train.sources import DatasetSource, EnvironmentSource, Source

LONG = 2000  # updates from which compilation is worth its seconds
SAVING = 0.05  # largest share of the time that is spent on checkpoints


class Trainer:
    """Trains one run, from its first step or from its newest valid checkpoint.

    With an environment, the run ends when `env_frames` are collected and all due updates are made.
    With a recorded dataset, only the world model is trained, and the run ends after `updates`
    updates.

    Args:
        run: directory of the run, created by `create_run`.
        facts: its configuration, dataset and manifest.
        stop: request to save and stop, checked at every step.
        on_row: a function (kind, row) that is given every row as it is written, for logging of
            one's own; see `sdewm.train.row_callback.RowCallback`.

    Raises:
        ValueError: an environment or dataset that cannot be used.
    """

    def __init__(
        self,
        run: Path,
        facts: RunFacts,
        stop: StopRequest | None = None,
        on_row: OnRow | None = None,
    ) -> None:
        self.run, self.config, self.facts, self.on_row = run, facts.config, facts, on_row
        self.stop = stop or StopRequest()
        seed_everything(self.config.seed)
        self.source: Source
        if facts.data is None:
            self.source = EnvironmentSource(self.config)
        else:
            self.source = DatasetSource(self.config, facts.data)
        self.agent = Agent(self.config, *self.source.spaces)
        self._compiles = self._compile()
        self.source.attach(self.agent.policy("sample"), self.agent.latent_fields)
        self.replay = self.source.replay
        learns_all = facts.data is None
        self._learn = self.agent.update if learns_all else self.agent.update_world_model
        self.checkpoints = Checkpoints(run / "checkpoints")
        self.means = UpdateMeans()
        self.finished: list[tuple[float, int]] = []  # return and length of episodes since the row
        self.updates = self.evaluated = 0  # the latter: env_frames at the last evaluation
        self.seconds = 0.0  # of the sessions before this one
        self.interval = self.config.checkpoint_every_seconds
        self.note = ""  # for the progress line
        self._draws_episodes = True

    def _compile(self) -> str:
        """Compile the updates if it is asked for or pays; a line about it."""
        wanted, missing = self.config.compile, missing_compiler(torch.device(self.config.device))
        long = self.source.planned_updates >= LONG
        if long:
            keep_freed_memory()
        if wanted == "off" or (wanted == "auto" and not long):
            return "updates: not compiled"
        if missing is not None:
            return f"updates: not compiled, which takes longer; there is not {missing}"
        self.agent.compile()
        return "updates: compiled at the first, which takes up to a minute"

    def describe(self) -> list[str]:
        """Description of the run, line by line, with a warning if memory will be too small."""
        config, memory = self.config, self.replay.bytes / 1e6
        what = config.env if self.facts.data is None else f"{self.facts.data} ({config.env})"
        return [
            f"{self.run}: {what}, {config.obs}, preset {config.preset}, seed {config.seed}",
            *self.agent.describe(),
            self._compiles,
            f"replay: at most {self.replay.capacity} rows, {memory:.0f} MB on {config.device}",
            *self._memory_warning(),
        ]

    def _memory_warning(self) -> list[str]:
        """A warning if the rows that the run will collect do not fit into memory, else nothing."""
        steps = self.source.total / self.config.action_repeat  # reset rows come on top
        rows = min(self.replay.capacity, steps if self.facts.data is None else len(self.replay))
        needed = rows * self.replay.bytes / self.replay.capacity / 1e6
        there = machine_memory_mb()
        if torch.device(self.config.device).type != "cpu" or needed <= there:
            return []
        return [
            f"warning: the replay will grow to {needed:.0f} MB, more than the {there:.0f} MB of "
            "this machine; use a smaller --replay-capacity."
        ]

    def summary(self) -> str:
        """Progress of the run and its newest checkpoint, in one line."""
        counted = ", ".join(f"{count} {name}" for name, count in self._counters().items())
        return f"{counted}; {self.checkpoints.last}"

    def train(self) -> None:
        """Run to the end.

        Raises:
            ValueError: another process trains this run.
            Interrupted: the run was asked to stop; a checkpoint has been saved.
            DivergedError: a metric is not finite or a loss exploded; the previous checkpoint
                remains the newest.
            OSError: the disk is full or fails.
        """
        with ExitStack() as stack:
            stack.enter_context(locked(self.run))
            stack.enter_context(_deterministic(self.config.deterministic))
            stack.enter_context(_tensor_cores(torch.device(self.config.device)))
            stack.callback(self.source.close)
            kept = self._load() if self.checkpoints.exist() else None
            keep_facts(self.run, self.facts)
            source = self.source
            done = source.done(self.updates)
            manifest, step_name = self.facts.manifest, source.step_name
            self.log = RunLog(
                self.run,
                manifest,
                step_name=step_name,
                kept=kept,
                step=done,
                settings=flat_config(self.config),
                on_row=self.on_row,
            )
            stack.callback(self.log.close)
            # Steps of the prefill, without updates, say nothing about the time that remains.
            self.progress = Progress(str(self.run), source.total, done, estimate=self.updates > 0)
            stack.callback(self.progress.close)
            self.start = self.saved = self.row_time = time.monotonic()
            self.row_from = (self.updates, source.env_frames)
            try:
                self._loop()
            except (Interrupted, EndlessEpisodeError):
                self._save()
                raise
            except (ValueError, RuntimeError):  # weights that are not finite give such actions
                self._good_agent_state()
                raise

    def _loop(self) -> None:
        """Make one update, evaluation or environment step at a time, whichever is due first."""
        source, begun = self.source, (self.updates, self.evaluated, self.source.env_frames)
        while True:
            ended = source.done(self.updates) >= source.total
            if self.updates < source.due_updates():
                self._update()
            elif self._evaluation_is_due(ended):
                self._evaluate()
            elif ended:
                break
            else:
                self.finished += source.collect()
            self.progress.update(source.done(self.updates), self.note)
            if time.monotonic() - self.saved >= self.interval:
                self._save()
            self.stop.check()
        # Also of a run that was stopped after its last update, whose row was not written then.
        left = len(self.means) > 0
        if left:
            self._log_row()
        if left or begun != (self.updates, self.evaluated, source.env_frames):
            self._save()

    def _update(self) -> None:
        config = self.config
        if self.updates == 0:
            self.progress.count_from(self.source.done(self.updates))
        batch, windows = self.replay.sample(config.batch_size, config.batch_length, config.context)
        metrics, refreshed = self._learn(batch)
        self.replay.write(windows, refreshed)
        self.updates += 1
        self.means.add(metrics)
        if config.keep_every_updates and self.updates % config.keep_every_updates == 0:
            self._keep()
        if self.updates % config.log_every_updates == 0:
            self._log_row()

    def _log_row(self) -> None:
        self.means.check(self.updates)
        now, source = time.monotonic(), self.source
        passed = max(now - self.row_time, 1e-9)
        updates, frames = self.updates - self.row_from[0], source.env_frames - self.row_from[1]
        returns, lengths = zip(*self.finished, strict=True) if self.finished else ((), ())
        row = {
            **self._counters(),
            "seconds": round(self._seconds(), 3),
            "episodes": len(returns),
            "episode_return": float(np.mean(returns)) if returns else None,
            "episode_length": float(np.mean(lengths)) if lengths else None,
            **self.means.take(),
            "updates_per_second": round(updates / passed, 3),
            "env_frames_per_second": round(frames / passed, 3),
            **memory_metrics(),
        }
        self.log.add_row(row)
        self.row_time, self.row_from, self.finished = now, (self.updates, source.env_frames), []
        self.note = f"{row['updates_per_second']:.1f} updates/s"
        if returns:
            self.note = f"return {row['episode_return']:.4g}, {self.note}"

    def _evaluation_is_due(self, ended: bool) -> bool:
        """Whether env_frames passed a multiple of the interval or ended; never for a dataset."""
        if self.source.step_name == "updates":
            return False
        frames, every = self.source.env_frames, self.config.eval_every_env_frames
        return frames // every > self.evaluated // every or (ended and frames > self.evaluated)

    def _evaluate(self) -> None:
        begun, count = time.monotonic(), self.config.eval_episodes
        episodes = evaluate(
            self.agent.policy("mean"),
            self.config,
            episodes=count,
            progress=lambda done: self.stop.check(),
        )
        returns = [episode.total_reward for episode in episodes]
        lengths = [episode.length for episode in episodes]
        result = evaluation_row(returns, lengths, seed=EVALUATION_SEED)
        self.log.add_evaluation({**self._counters(), "by": "train", **result})
        self.evaluated = self.source.env_frames
        if self.config.pictures:
            self._draw(episodes[0].rows)
        self.row_time += time.monotonic() - begun  # the pace of the row is that of training

    def _draw(self, episode: Mapping[str, np.ndarray]) -> None:
        """Pictures of an evaluation's first episode."""
        step = self.source.done(self.updates)
        folder = self.run / "pictures"
        with preserve_rng_state():
            image = draw_open_loop(self.agent, episode)
        if image is not None:
            save_picture(folder / f"open_loop-{step:09d}.png", image)
            self.log.add_picture("pictures/open_loop", image, step)
        if not self._draws_episodes:
            return
        try:
            frames = episode_frames(self.config, episode, EVALUATION_SEED)
        except (ValueError, RuntimeError) as problem:  # other observations, no OpenGL
            self._draws_episodes = False
            sys.stderr.write(f"No GIFs of episodes are written: {problem}\n")
            return
        save_gif(folder / f"episode-{step:09d}.gif", frames)

    def _counters(self) -> dict[str, int]:
        source = self.source
        return {
            "env_frames": source.env_frames,
            "policy_steps": source.policy_steps,
            "updates": self.updates,
        }

    def _seconds(self) -> float:
        return self.seconds + time.monotonic() - self.start

    def _save(self) -> None:
        """Save a checkpoint; DivergedError if the agent has a value that is not finite."""
        begun = time.monotonic()
        state = {
            "agent": self._good_agent_state(),
            "config": plain_config(self.config),
            "source": self.source.state_dict(),
            "random": random_states(),
            "counters": self._counters(),
            "evaluated": self.evaluated,
            "seconds": self._seconds(),
            "kept": (self.log.rows, self.log.evaluation_rows),
            "means": self.means.state_dict(),
            "finished": self.finished,
        }
        self.checkpoints.save(self.updates, state, self.replay)
        self.saved = time.monotonic()
        longest = (self.saved - begun) / SAVING
        self.interval = max(self.config.checkpoint_every_seconds, longest)

    def _keep(self) -> None:
        """Keep the weights of this update for good; a resumed run keeps them once."""
        place = kept_weights(self.run, self.updates)
        if not place.exist():
            learnt = learnt_networks(self.agent.networks(), behaviour=self.facts.data is None)
            place.save(self.updates, {"agent": learnt, "counters": self._counters()})

    def _good_agent_state(self) -> dict[str, Any]:
        """State of the agent to be saved; DivergedError if a value in it is not finite."""
        self.means.check(self.updates)
        state = self.agent.state_dict()
        for name, tensor in tensors_of(state):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise DivergedError(f"update {self.updates}: {name} of the agent is not finite")
        return state

    def _load(self) -> tuple[int, int]:
        """Load the newest valid checkpoint; return the numbers of rows that it counted."""
        changes: list[str] = []

        def compare(state: Mapping[str, Any]) -> None:
            changes[:] = config_changes(state.get("config"), self.config)

        try:
            state = self.checkpoints.load(self.replay, compare)
            load_agent(self.agent.load_state_dict, state["agent"], self.run)
            self.source.load_state_dict(state["source"])
        except ValueError as problem:
            if not changes:
                raise
            raise ValueError(
                f"run={str(self.run)!r} cannot go on from its checkpoint, which was made with "
                f"another config.json; undo what does not fit ({', '.join(changes)}). {problem}"
            ) from problem
        if self.checkpoints.lost_rows:
            self.source.refill()
        restore_random_states(state["random"])
        self.updates, self.evaluated = state["counters"]["updates"], state["evaluated"]
        name, done = self.source.step_name, self.source.done(self.updates)
        if changes and done > self.source.total:
            raise ValueError(
                f"{name}={self.source.total}: the run has already made {done}; expected at least "
                "as many."
            )
        if changes:
            sys.stderr.write(f"changed since the checkpoint: {', '.join(changes)}\n")
        self.seconds, self.finished = state["seconds"], state["finished"]
        self.means.load_state_dict(state["means"], torch.device(self.config.device))
        note_resume(self.run, self.config, self.updates, changes)
        return state["kept"]


@contextmanager
def _tensor_cores(device: torch.device) -> Iterator[None]:
    """Context in which float32 products on a GPU are computed in TF32 (10 bits of mantissa)."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Context in which torch uses only bitwise reproducible operations, if `wanted`."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)

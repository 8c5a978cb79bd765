"""Trains the runs of the learning curves on a CPU, and draws them with fig_learning_curves.

    python analysis/sweep_learning.py                          all runs in turn; takes hours
    python analysis/sweep_learning.py --jobs 2                 two runs at a time
    python analysis/sweep_learning.py --only cartpole_pixels   parts of names, or patterns
    python analysis/sweep_learning.py --env-frames 3000        short runs, in a separate folder

Runs are written to runs/bench-learning. Finished runs are skipped and interrupted ones are resumed,
so the same command continues after an interrupt (Ctrl-C saves checkpoints). At the end all finished
runs are written to figures/data/fig_learning_curves.csv, replacing the same seeds there, and drawn
with the returns of uniformly random actions.
"""

import argparse
import difflib
import fnmatch
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdewm.base.checks import check_count
from sdewm.base.progress import format_seconds
from sdewm.base.records import ROOT, Row, manifest, read_log, read_table, write_table
from sdewm.commands.train import train_arguments
from sdewm.data.rollout import RandomPolicy
from sdewm.train.evaluation import EVALUATION_SEED, evaluate
from sdewm.train.signals import Interrupted, StopRequest
from sdewm.train.sources import check_environment


@dataclass(frozen=True)
class Task:
    """A task: environment, length of its runs, and further flags of `sdewm train`."""

    env: str
    obs: str
    env_frames: int
    flags: tuple[str, ...] = ()


# One action a frame, as the task is defined; half of the usual updates; DreamerV2's discount. With
# the usual learning rates of actor and critic, 0.001, a good policy is often lost again.
CARTPOLE = (
    *("--action-repeat", "1", "--train-ratio", "128", "--behaviour.discount", "0.99"),
    *("--optimiser.actor-lr", "1e-4", "--optimiser.critic-lr", "3e-4"),
    *("--eval-every-env-frames", "2500", "--no-pictures"),
)
TASKS = (
    # Pictures would draw DeepMind Control in software; pixel updates take three times as long.
    Task("dmc:cartpole_swingup", "proprio", 100_000, ("--no-pictures",)),
    Task("own:cartpole_pixels", "pixels", 50_000, ("--train-ratio", "128")),
    Task("gym:CartPole-v1", "proprio", 30_000, CARTPOLE),
)
PRESET, SEEDS = "tiny", (0, 1, 2)
RUNS, FIGURES = ROOT / "runs" / "bench-learning", ROOT / "figures"
TRAINER = (sys.executable, "-m", "sdewm.cli")
DRAWER = ROOT / "analysis" / "fig_learning_curves.py"
POLL_SECONDS = 0.2
RANDOM_EPISODES = 10


@dataclass(frozen=True)
class Run:
    """One seed of a task."""

    directory: Path
    task: Task
    seed: int

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def words(self) -> list[str]:
        """The command that starts the run, without the word `sdewm`."""
        task = self.task
        return [
            *("train", "--preset", PRESET, "--env", task.env, "--obs", task.obs),
            *("--env-frames", str(task.env_frames), "--seed", str(self.seed)),
            *(*task.flags, "--run", shown(self.directory)),
        ]

    @property
    def begun(self) -> bool:
        return (self.directory / "config.json").exists()

    @property
    def finished(self) -> bool:
        """Whether the run has its final evaluation."""
        rows, _ = read_log(self.directory / "evaluation.jsonl")
        frames = [row["env_frames"] for row in rows if row.get("by") == "train"]
        return any(frame >= self.task.env_frames for frame in frames)  # type: ignore[operator]

    def check(self) -> None:
        """Check that an existing run was started with the same command.

        Raises:
            ValueError: it was started with another command.
        """
        if not self.begun:
            return
        facts = json.loads((self.directory / "manifest.json").read_text("utf-8"))
        if shlex.split(facts["command"])[-len(self.words) :] != self.words:
            raise ValueError(
                f"{shown(self.directory)} was started with {facts['command']}; expected sdewm "
                f"{shlex.join(self.words)}. Move that run away first."
            )

    def start(self, threads: int) -> tuple[subprocess.Popen[str], threading.Thread]:
        """Start or resume the run; the thread copies its output to stderr."""
        words = ["resume", shown(self.directory)] if self.begun else self.words
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [*TRAINER, *words],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # so that Ctrl-C reaches it once, from this process
        )
        copier = threading.Thread(target=self._copy, args=(process,), daemon=True)
        copier.start()
        return process, copier

    def _copy(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                say(f"{self.name} | {line.rstrip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", default=[], help="runs whose names contain or match these patterns"
    )
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at a time (default: 1)")
    parser.add_argument(
        "--env-frames", type=int, help="length of every run in env_frames, for a trial"
    )
    given = parser.parse_args(arguments)
    try:
        check_count("--jobs", given.jobs)
        runs, out = all_runs(given.env_frames)
        chosen = select(runs, given.only)
        for run in runs:
            run.check()
    except ValueError as problem:
        parser.error(str(problem))
    stop = StopRequest()
    with stop.listening():
        try:
            failed = train([run for run in chosen if not run.finished], given.jobs, stop)
        except Interrupted as interrupted:
            say("Interrupted; repeat the same command to resume.")
            return interrupted.exit_code
    if finished := [run for run in runs if run.finished]:
        draw(finished, out)
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def all_runs(env_frames: int | None) -> tuple[list[Run], Path]:
    """The runs and the folder of the figure; a trial has separate folders."""
    tasks, runs, out = TASKS, RUNS, FIGURES
    if env_frames is not None:
        check_count("--env-frames", env_frames)
        tasks = [Task(task.env, task.obs, env_frames, task.flags) for task in TASKS]
        runs = RUNS.with_name(f"{RUNS.name}-{env_frames}")
        out = runs / "figures"
    found = [
        Run(runs / f"{task.env.split(':')[1]}-{task.obs}-seed{seed}", task, seed)
        for task in tasks
        for seed in SEEDS
    ]
    return found, out


def select(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """The runs whose names contain or match a pattern; all runs without patterns."""
    names = [run.name for run in runs]
    chosen = set() if patterns else set(names)
    for pattern in patterns:
        matched = [n for n in names if pattern in n or fnmatch.fnmatchcase(n, pattern)]
        if not matched:
            near = difflib.get_close_matches(pattern, names, 1, 0.0)[0]
            raise ValueError(f"--only {pattern}: no such run; did you mean {near}?")
        chosen.update(matched)
    return [run for run in runs if run.name in chosen]


def train(waiting: list[Run], jobs: int, stop: StopRequest) -> list[str]:
    """Train the runs, `jobs` at a time; return the names of those that failed.

    Raises:
        Interrupted: the sweep was asked to stop; all runs have saved and ended.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    start, total, failed = time.monotonic(), len(waiting), []
    say(f"{total} runs to train, {jobs} at a time with {threads} threads each")
    running: dict[Run, tuple[subprocess.Popen[str], threading.Thread]] = {}
    waiting = [*waiting]
    try:
        while waiting or running:
            stop.check()
            while waiting and len(running) < jobs:
                running[waiting[0]] = waiting[0].start(threads)
                waiting.pop(0)
            for run, (process, copier) in [*running.items()]:
                if process.poll() is None:
                    continue
                copier.join()
                del running[run]
                failed += [run.name] if process.returncode else []
                done, passed = total - len(waiting) - len(running), time.monotonic() - start
                left = format_seconds(passed / done * (total - done))
                text = f"exit code {process.returncode}" if process.returncode else "finished"
                say(
                    f"[{done}/{total}] {format_seconds(passed)} elapsed, about {left} left · "
                    f"{run.name}: {text}"
                )
            time.sleep(POLL_SECONDS)
    finally:
        for process, _ in running.values():
            process.send_signal(signal.SIGINT)
        for process, copier in running.values():
            process.wait()
            copier.join()
    return failed


def random_returns(runs: Sequence[Run]) -> Path:
    """A table of the returns of random actions, for the tasks and seeds of these runs."""
    table = runs[0].directory.parent / "random.csv"
    rows: list[Row] = []
    facts = manifest(seed=0)
    for run in runs:
        task = run.task
        config = train_arguments(run.words[1:]).config
        space = check_environment(config)[1]
        seed = EVALUATION_SEED + run.seed
        policy = RandomPolicy(space, seed=seed)
        found = evaluate(policy, config, episodes=RANDOM_EPISODES, seed=seed)
        value = statistics.fmean(episode.total_reward for episode in found)
        fixed = {"label": "random", "env": task.env, "obs": task.obs, "seed": run.seed}
        after = {"run": "none", "preset": PRESET, "hardware": "any", "commit": facts["commit"]}
        for frames in (0, task.env_frames):
            point = {"protocol": "random", "env_frames": frames, "return": value}
            rows.append(fixed | point | after | {"command": facts["command"]})
    write_table(table, rows, facts)
    return table


def draw(runs: Sequence[Run], out: Path) -> None:
    """Write the table and draw the figure; other curves of the table remain."""
    table = out / "data" / f"{DRAWER.stem}.csv"
    sources = [*([table] if table.exists() else []), *(run.directory for run in runs)]
    known = read_table(table)[0] if table.exists() else []
    there = {(r["env"], r["obs"], r["seed"]) for r in known if r["label"] == "random"}
    if missing := [r for r in runs if (r.task.env, r.task.obs, r.seed) not in there]:
        say(f"random actions: {RANDOM_EPISODES} episodes for each of {len(missing)} runs")
        sources.append(random_returns(missing))
    words = [shown(DRAWER), *map(shown, sources), "--out", shown(out)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, check=True
    )


def shown(path: Path) -> str:
    """The path relative to the root of the repository, where commands run."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

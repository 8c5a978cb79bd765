"""Speed of environments and replay; `table_bench.py` runs this script and stores the rows.

python analysis/bench_environments.py --list                  the names with their threads
python analysis/bench_environments.py env_own_pixels          one row, as JSON

env_…                 simulator steps per second of one environment under random actions, including
                      the collection of rows, in one process
workers_…             simulator steps per second of four environments in separate processes, against
                      four environments in one process
render_fast_vs_full   rendering one frame of a task with render="fast", against render="full"
replay_sample/…       drawing one batch with the shapes of a preset, against copying as many bytes
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from gymnasium.spaces import Box

from sdewm.data.envs import make_env
from sdewm.data.opengl import choose_opengl
from sdewm.data.replay import Field, Replay
from sdewm.data.rollout import Collector, RandomPolicy
from sdewm.data.vector import EpisodeVector, make_vector
from sdewm.scripts.benchmark import BenchRow, Measure, bench_row, in_turns, run_script
from sdewm.train.config import Config
from sdewm.train.presets import preset

ROUNDS = 7
REPEAT = 2  # simulator steps per policy step
WORKERS = 4
ENVIRONMENTS = {  # with the steps of one run
    "cartpole_proprio": ("dmc:cartpole_swingup", "proprio", 500),
    "own_pixels": ("own:cartpole_pixels", "pixels", 200),
}
DRAWN, FRAMES = "dmc:walker_walk", 10
REPLAYS: dict[str, tuple[Config, tuple[int, ...]]] = {
    "tiny_proprio": (preset("tiny"), (5,)),
    "dreamerv3_12m_pixels": (preset("dreamerv3-12m"), (64, 64, 3)),
}
REPLAY_ROWS, SAMPLES = 8000, 20  # more than a cache holds; in one run


def vector_of(name: str, envs: int, workers: bool) -> EpisodeVector:
    env, obs, _ = ENVIRONMENTS[name]
    return make_vector(
        env,
        envs=envs,
        workers=workers,
        obs=obs,
        action_repeat=REPEAT,
        render="full",
        seed=0,
    )


def stepping(vector: EpisodeVector, steps: int) -> Callable[[], None]:
    """A function that makes `steps` steps of all environments."""
    space = vector.single_action_space
    assert isinstance(space, Box)
    collector = Collector(vector, RandomPolicy(space, seed=0), REPEAT)

    def run() -> None:
        for _ in range(steps):
            collector.step()

    return run


def speed(name: str, device: torch.device) -> Iterator[BenchRow]:
    steps, vector = ENVIRONMENTS[name][2], vector_of(name, 1, False)
    times = in_turns({"": stepping(vector, steps)}, device, ROUNDS)[""]
    vector.close()
    yield bench_row(f"env_{name}", [steps * REPEAT / each for each in times], "env_frames/s")


def workers(name: str, device: torch.device) -> Iterator[BenchRow]:
    steps = ENVIRONMENTS[name][2]
    vectors = {"theirs": vector_of(name, WORKERS, False), "ours": vector_of(name, WORKERS, True)}
    runs = {who: stepping(vector, steps) for who, vector in vectors.items()}
    times = in_turns(runs, device, ROUNDS)
    for vector in vectors.values():
        vector.close()
    yield bench_row(
        f"workers_{name}",
        [WORKERS * steps * REPEAT / each for each in times["ours"]],
        "env_frames/s",
        ratios=[a / b for a, b in zip(times["theirs"], times["ours"], strict=True)],
        baseline=f"{WORKERS} in one process",
    )


def rendering(device: torch.device) -> Iterator[BenchRow]:
    """The time of a step includes the physics, about 0.1 ms, which is negligible here."""
    runs = {}
    for render in ("full", "fast"):
        env = make_env(DRAWN, obs="pixels", action_repeat=REPEAT, render=render, seed=0, index=0)
        env.reset()
        runs[render] = partial(frames, env, np.zeros(env.action_space.shape or (), np.float32))
    times = in_turns(runs, device, ROUNDS)
    yield bench_row(
        "render_fast_vs_full",
        [1e3 * each / FRAMES for each in times["fast"]],
        "ms/frame",
        ratios=[a / b for a, b in zip(times["full"], times["fast"], strict=True)],
        baseline=f"render='full', {DRAWN}",
        aim=">= 5",
    )


def frames(env, action: np.ndarray) -> None:
    for _ in range(FRAMES):
        env.step(action)


def sampling(name: str, device: torch.device) -> Iterator[BenchRow]:
    config, shape = REPLAYS[name]
    kind = torch.uint8 if len(shape) == 3 else torch.float32
    fields = {
        "observation": Field(shape, kind),
        "previous_action": Field((1,), torch.float32),
        "reward": Field((), torch.float32),
        **{flag: Field((), torch.bool) for flag in ("is_first", "is_last", "is_terminal")},
    }
    replay = Replay(fields, capacity=REPLAY_ROWS, envs=1, device=device, seed=0)
    replay.extend(
        {name: torch.ones(1, REPLAY_ROWS, *x.shape, dtype=x.dtype) for name, x in fields.items()}
    )
    sample = partial(replay.sample, config.batch_size, config.batch_length)
    size = sum(value.numel() * value.element_size() for value in sample()[0].values())
    # As long as the memory sampled from, so that what is copied is as little in the cache.
    source = torch.ones(max(1, replay.bytes // size), size, dtype=torch.uint8, device=device)
    places = torch.randint(len(source), (SAMPLES,), generator=torch.Generator().manual_seed(0))

    def draw() -> None:
        for _ in range(SAMPLES):
            sample()

    def copy() -> None:
        for place in places.tolist():
            source[place].clone()

    times = in_turns({"ours": draw, "theirs": copy}, device, ROUNDS)
    yield bench_row(
        f"replay_sample/{name}",
        [1e6 * each / SAMPLES for each in times["ours"]],
        "us",
        ratios=[a / b for a, b in zip(times["ours"], times["theirs"], strict=True)],
        baseline=f"copy of {size / 1e6:.3g} MB",
    )


def jobs(device: str) -> dict[tuple[str, ...], Measure]:
    """The measurements for a kind of device, by the names of their rows."""
    found: dict[tuple[str, ...], Measure] = {}
    if device == "cpu":
        for name in ENVIRONMENTS:
            found[f"env_{name}",] = partial(speed, name)
            found[f"workers_{name}",] = partial(workers, name)
        try:
            choose_opengl(required=True)
            found["render_fast_vs_full",] = rendering
        except RuntimeError as problem:
            print(f"render_fast_vs_full is left out: {problem}", file=sys.stderr)
    for name in REPLAYS:
        found[f"replay_sample/{name}",] = partial(sampling, name)
    return found


if __name__ == "__main__":
    run_script(jobs, threads=(1,))

"""Run time of the training update and its parts; `table_bench.py` runs this and stores the rows.

python analysis/bench_training.py --list                            the names with their threads
python analysis/bench_training.py --threads 2 update_tiny           one row, as JSON
python analysis/bench_training.py --device cuda --list              the rows of a GPU

An update is `Agent.update` on a batch drawn beforehand, of random rows with the shapes of the
environment. Compared functions are timed in alternation. The rows of an update of preset P:

update_P            the full update
update_P_compiled   the full update compiled, against uncompiled
penalty_P           the update with the Jacobian penalty, one probe on every row, against without
update_P_part/…     parts of the full update: losses of the world model; imagination with the losses
                    of actor and critic; backward pass; optimiser
share_of_flops_P    fraction of the measured time that the matrix products and convolutions (as
                    counted by torch) would take at the speed of a large matrix product
share_of_latency_P  fraction of the measured time that the sequential operations would take if each
                    had the least possible duration: 12 in each step of the posterior, twice as many
                    in its backward pass, 12 in each step of imagination
"""

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sdewm.scripts.benchmark import BenchRow, Measure, bench_row, in_turns, now, run_script, seconds
from sdewm.train.agent import Agent
from sdewm.train.config import Config
from sdewm.train.presets import preset

ROUNDS = 9
WARM_UP = 2  # of these rounds' runs, untimed
UPDATES = {"cpu": 5, "cuda": 20}  # in one run
MATMUL = {"cpu": 1024, "cuda": 8192}  # rows of the matrices that set the pace
STEP_OPERATIONS, CHAIN = 12, 1000
PENALTY_WEIGHT = 0.01  # its size costs nothing


@dataclass(frozen=True)
class Case:
    """The configuration updated, the unit, and the aim with its least number of threads."""

    config: Config
    observation: tuple[int, ...]
    actions: int
    device: str
    unit: str
    aim: str
    aim_threads: int = 1


CASES = {
    "tiny": Case(preset("tiny"), (5,), 1, "cpu", "updates/s", ">= 15", 2),  # cartpole_swingup
    "dreamerv3_12m_pixels": Case(
        preset("dreamerv3-12m", precision="bfloat16", compile=True),
        (64, 64, 3),
        6,  # walker_walk
        "cuda",
        "ms",
        "<= 11",
    ),
}
PARTS = {
    "world_model_forward": ("before model_losses", "after model_losses"),
    "behaviour_forward": ("before behaviour_losses", "after behaviour_losses"),
    "backward": ("after behaviour_losses", "before step"),
    "optimiser": ("before step", "after step"),
}


class Updates:
    """An agent on a device, and a batch for it; a call makes some updates."""

    def __init__(self, case: Case, device: torch.device, **changes: Any) -> None:
        config = replace(case.config, device=str(device), **changes)
        infinite = float("inf")
        pixels = len(case.observation) == 3
        low, high = (0, 255) if pixels else (-infinite, infinite)
        space = Box(low, high, case.observation)
        self.agent = Agent(config, space, Box(-1.0, 1.0, (case.actions,)))
        self.batch = random_batch(self.agent, case, device)
        self.count, self.device = UPDATES[device.type], device
        if config.compile:
            say("compiling the update: a minute or more …")
            say(f"compiled in {seconds(self.once, device):.0f} s")

    def once(self) -> None:
        self.agent.update(self.batch)

    def __call__(self) -> None:
        for _ in range(self.count):
            self.once()


def random_batch(agent: Agent, case: Case, device: torch.device) -> dict[str, Tensor]:
    """Random rows as returned by the replay; one row is the first of an episode."""
    config, generator = agent.config, torch.Generator().manual_seed(0)
    shape = (config.batch_size, config.context + config.batch_length)
    flags = {name: torch.zeros(shape, dtype=torch.bool) for name in ("is_last", "is_terminal")}
    first = torch.zeros(shape, dtype=torch.bool)
    first[0, shape[1] // 2] = True
    if len(case.observation) == 3:
        seen = torch.randint(256, (*shape, *case.observation), generator=generator).byte()
    else:
        seen = torch.randn(*shape, *case.observation, generator=generator)
    batch = {
        "observation": seen,
        "previous_action": 2 * torch.rand(*shape, case.actions, generator=generator) - 1,
        "reward": torch.rand(shape, generator=generator),
        "is_first": first,
        **flags,
    }
    for name, field in agent.latent_fields.items():
        batch[name] = torch.zeros(*shape, *field.shape, dtype=field.dtype)
    return {name: value.to(device) for name, value in batch.items()}


def in_unit(each: Sequence[float], unit: str) -> list[float]:
    """Seconds of one update in the unit of a row."""
    return [1 / one if unit == "updates/s" else 1e3 * one for one in each]


def whole(name: str, device: torch.device) -> Iterator[BenchRow]:
    case, updates = CASES[name], Updates(CASES[name], device)
    times = in_turns({"": updates}, device, ROUNDS, WARM_UP)[""]
    ours = in_unit([each / updates.count for each in times], case.unit)
    aim = case.aim if torch.get_num_threads() >= case.aim_threads else ""
    config = case.config
    batch = f"batch of {config.batch_size}×{config.batch_length}"
    yield bench_row(f"update_{name}", ours, case.unit, baseline=batch, aim=aim)


def compared(
    name: str, device: torch.device, row: str, baseline: str, aim: str = "", **changes: Any
) -> Iterator[BenchRow]:
    """An agent with changes compared with one without; an aim "<=" refers to the cost."""
    case = CASES[name]
    runs = {"theirs": Updates(case, device), "ours": Updates(case, device, **changes)}
    times = in_turns(runs, device, ROUNDS, WARM_UP)
    costs = [a / b for a, b in zip(times["ours"], times["theirs"], strict=True)]
    ratios = costs if aim.startswith("<=") else [1 / cost for cost in costs]
    ours = in_unit([each / runs["ours"].count for each in times["ours"]], case.unit)
    yield bench_row(row, ours, case.unit, ratios=ratios, baseline=baseline, aim=aim)


def compiled(name: str, device: torch.device) -> Iterator[BenchRow]:
    yield from compared(name, device, f"update_{name}_compiled", "not compiled", compile=True)


def penalty(name: str, device: torch.device) -> Iterator[BenchRow]:
    jacobian = replace(CASES[name].config.jacobian, weight=PENALTY_WEIGHT)
    yield from compared(
        name, device, f"penalty_{name}", "without penalty", "<= 1.08", jacobian=jacobian
    )


def parts(name: str, device: torch.device) -> Iterator[BenchRow]:
    """Times of the parts; on a GPU each is synchronised, so their sum exceeds that of an update."""
    updates = Updates(CASES[name], device)
    marks: dict[str, float] = {}
    for owner, method in (
        (updates.agent, "model_losses"),
        (updates.agent, "behaviour_losses"),
        (updates.agent.optimiser, "step"),
    ):
        setattr(owner, method, marked(getattr(owner, method), method, marks, device))
    taken: dict[str, list[float]] = {part: [] for part in PARTS}
    wholes = []
    for number in range((WARM_UP + ROUNDS) * updates.count):
        total = seconds(updates.once, device)
        if number >= WARM_UP * updates.count:
            wholes.append(total)
            for part, (start, end) in PARTS.items():
                taken[part].append(marks[end] - marks[start])
    for part, times in taken.items():
        shares = [a / b for a, b in zip(times, wholes, strict=True)]
        row = f"update_{name}_part/{part}"
        yield bench_row(row, in_unit(times, "ms"), "ms", ratios=shares, baseline="whole update")


def marked(
    call: Callable[..., Any], name: str, marks: dict[str, float], device: torch.device
) -> Callable[..., Any]:
    """A wrapper of `call` that records the times before and after it in `marks`."""

    def run(*arguments: Any, **named: Any) -> Any:
        marks[f"before {name}"] = now(device)
        result = call(*arguments, **named)
        marks[f"after {name}"] = now(device)
        return result

    return run


def shares(name: str, device: torch.device) -> Iterator[BenchRow]:
    """Ideal times over the time of the update; the machine's speed is measured in alternation."""
    case, updates = CASES[name], Updates(CASES[name], device)
    with FlopCounterMode(display=False) as counter:
        Updates(case, device, compile=False).once()
    work = counter.get_total_flops()
    config, rows = case.config, MATMUL[device.type]
    kind = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    matrix = torch.randn(rows, rows, device=device).to(kind)
    waiting = STEP_OPERATIONS * (3 * config.batch_length + config.behaviour.imagination_horizon)
    runs = {"update": updates, "product": lambda: matrix @ matrix, "chain": chain(config, device)}
    times = in_turns(runs, device, ROUNDS, WARM_UP)
    ours = [each / updates.count for each in times["update"]]
    products = [work * each / (2 * rows**3) for each in times["product"]]
    chains = [waiting * each / CHAIN for each in times["chain"]]
    speed = 2 * rows**3 / statistics.median(times["product"])
    told = {
        "flops": (products, f"{work / 1e9:.4g} GFLOP at {speed / 1e9:.4g} GFLOP/s"),
        "latency": (
            chains,
            f"{waiting} operations of {statistics.median(times['chain']) / CHAIN * 1e6:.3g} us",
        ),
    }
    for ideal, (least, text) in told.items():
        ratios = [a / b for a, b in zip(least, ours, strict=True)]
        row = f"share_of_{ideal}_{name}"
        yield bench_row(row, in_unit(ours, case.unit), case.unit, ratios=ratios, baseline=text)


def chain(config: Config, device: torch.device) -> Callable[[], object]:
    """Small sequential operations; on a GPU in a CUDA graph."""
    state = torch.ones(config.batch_size, config.model.rssm.hidden, device=device)

    def run() -> None:
        for _ in range(CHAIN):
            state.mul_(1.0)

    if device.type != "cuda":
        return run
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def jobs(device: str) -> dict[tuple[str, ...], Measure]:
    """The measurements for a kind of device, by the names of their rows."""
    found = {}
    for name, case in CASES.items():
        if case.device != device:
            continue
        found[f"update_{name}",] = partial(whole, name)
        if not case.config.compile:
            found[f"update_{name}_compiled",] = partial(compiled, name)
        found[f"penalty_{name}",] = partial(penalty, name)
        found[tuple(f"update_{name}_part/{part}" for part in PARTS)] = partial(parts, name)
        ideals = ("flops", "latency")
        found[tuple(f"share_of_{ideal}_{name}" for ideal in ideals)] = partial(shares, name)
    return found


if __name__ == "__main__":
    run_script(jobs, threads=(1, 2))

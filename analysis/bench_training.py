"""Run time of the training update and its parts; `table_bench.py` runs this and stores the rows.

python analysis/bench_training.py --list                            the names with their threads
python analysis/bench_training.py --threads 2 update_tiny           one row, as JSON
python analysis/bench_training.py --device cuda --list              the rows of a GPU

An update is `Agent.update` on a batch drawn beforehand, of random rows with the shapes of the
environment. Compared functions are timed in alternation. The rows of an update of preset P:

update_P            the full update, compiled
update_P_compiled   the same against not compiled
update_P_since      the same against commit BASELINE, not compiled, each in its own process
world_model_P_since the update of the world model alone, likewise
startup_P           seconds from the start of Python to the first update, with nothing compiled yet
startup_P_cached    the same when the compiled parts are on the disk
penalty_P           the update with the Jacobian penalty, one probe on every row, against without
penalty_P_quarter   the same on a quarter of the rows, drawn anew for each update
update_P_graph      the update as a CUDA graph, against the update without (on a GPU)
update_P_part/…     parts of the full update: losses of the world model; imagination with the losses
                    of actor and critic; backward pass; optimiser
share_of_flops_P    fraction of the measured time that the matrix products and convolutions (as
                    counted by torch) would take at the speed of a large matrix product
share_of_latency_P  fraction of the measured time that the sequential operations would take if each
                    had the least possible duration: 12 in each step of the posterior, twice as many
                    in its backward pass, 12 in each step of imagination
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sdewm.scripts.benchmark import BenchRow, Measure, bench_row, in_turns, now, run_script, seconds
from sdewm.train.agent import Agent
from sdewm.train.config import Config
from sdewm.train.presets import preset

HERE = Path(__file__).resolve().parent
ROUNDS, STARTS = 9, 3
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
    since: bool = False  # compared with BASELINE


BASELINE = "15ecc86"
CASES = {
    "tiny": Case(  # cartpole_swingup
        preset("tiny"), (5,), 1, "cpu", "updates/s", ">= 15", 2, since=True
    ),
    "dreamerv3_12m_pixels": Case(
        preset("dreamerv3-12m", precision="bfloat16"),
        (64, 64, 3),
        6,  # walker_walk
        "cuda",
        "ms",
        "<= 11",
    ),
}
ANALYSES = {
    "world_model_forward": ("before model_losses", "after model_losses"),
    "behaviour_forward": ("before behaviour_losses", "after behaviour_losses"),
    "backward": ("after behaviour_losses", "before step"),
    "optimiser": ("before step", "after step"),
}


class Updates:
    """An agent on a device, and a batch for it; a call makes some updates."""

    def __init__(
        self, case: Case, device: torch.device, compiled: bool = True, **changes: Any
    ) -> None:
        config = replace(case.config, device=str(device), **changes)
        infinite = float("inf")
        pixels = len(case.observation) == 3
        low, high = (0, 255) if pixels else (-infinite, infinite)
        space = Box(low, high, case.observation)
        self.agent = Agent(config, space, Box(-1.0, 1.0, (case.actions,)))
        self.batch = random_batch(self.agent, case, device)
        self.count, self.device = UPDATES[device.type], device
        if compiled:
            self.agent.compile()
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
    name: str,
    device: torch.device,
    row: str,
    baseline: str,
    aim: str = "",
    theirs: Mapping[str, Any] = MappingProxyType({}),
    **changes: Any,
) -> Iterator[BenchRow]:
    """An agent with changes compared with another; an aim "<=" refers to the cost."""
    case = CASES[name]
    runs = {"theirs": Updates(case, device, **theirs), "ours": Updates(case, device, **changes)}
    times = in_turns(runs, device, ROUNDS, WARM_UP)
    costs = [a / b for a, b in zip(times["ours"], times["theirs"], strict=True)]
    ratios = costs if aim.startswith("<=") else [1 / cost for cost in costs]
    ours = in_unit([each / runs["ours"].count for each in times["ours"]], case.unit)
    yield bench_row(row, ours, case.unit, ratios=ratios, baseline=baseline, aim=aim)


def compiled(name: str, device: torch.device) -> Iterator[BenchRow]:
    row = f"update_{name}_compiled"
    yield from compared(name, device, row, "not compiled", theirs={"compiled": False})


def recorded(name: str, device: torch.device) -> Iterator[BenchRow]:
    row = f"update_{name}_graph"
    yield from compared(name, device, row, "no CUDA graph", theirs={"cuda_graph": "off"})


def penalty(name: str, device: torch.device) -> Iterator[BenchRow]:
    """With one probe on every row, and on a quarter of the rows."""
    for ending, fraction, aim in (("", 1.0, "<= 1.2"), ("_quarter", 0.25, "<= 1.08")):
        config = CASES[name].config.jacobian
        jacobian = replace(config, weight=PENALTY_WEIGHT, fraction=fraction)
        row = f"penalty_{name}{ending}"
        yield from compared(name, device, row, "without penalty", aim, jacobian=jacobian)


class Served:
    """Updates in a process of their own, with the code below `tree`."""

    def __init__(self, tree: Path, how: str, **environment: str) -> None:
        words = [sys.executable, str(HERE / "serve_updates.py"), how, str(torch.get_num_threads())]
        own = os.environ | {"PYTHONPATH": str(tree)} | environment
        start = now(torch.device("cpu"))
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own, cwd=tree
        )
        if self._line() != "ready":
            raise RuntimeError(f"{' '.join(words)} did not start.")
        self.startup = now(torch.device("cpu")) - start

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def seconds(self, kind: str) -> float:
        """Seconds of one update."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{kind}\n")
        self.process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        self.process.communicate()


def since(name: str, device: torch.device) -> Iterator[BenchRow]:
    """Updates of this version and of the baseline in turns."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        packed = subprocess.run(
            ["git", "archive", BASELINE, "sdewm"], cwd=HERE.parent, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
        served = {"theirs": Served(tree, "plain"), "ours": Served(HERE.parent, "compiled")}
        for row, kind, aim in (
            (f"update_{name}_since", "whole", "<= 0.5"),
            (f"world_model_{name}_since", "model", "<= 0.45"),
        ):
            taken: dict[str, list[float]] = {who: [] for who in served}
            for number in range(WARM_UP + ROUNDS):
                for who, one in served.items():
                    passed = one.seconds(kind)
                    if number >= WARM_UP:
                        taken[who].append(passed)
            costs = [a / b for a, b in zip(taken["ours"], taken["theirs"], strict=True)]
            ours = in_unit(taken["ours"], "ms")
            yield bench_row(row, ours, "ms", ratios=costs, baseline=f"commit {BASELINE}", aim=aim)
        for one in served.values():
            one.close()


def startup(name: str, device: torch.device) -> Iterator[BenchRow]:
    """From the start of Python to the end of the first update."""
    for ending, aim in (("", "<= 20"), ("_cached", "<= 8")):
        taken = []
        for _ in range(STARTS):
            with tempfile.TemporaryDirectory() as folder:
                cache = {"TORCHINDUCTOR_CACHE_DIR": folder}
                for _ in range(2 if ending else 1):
                    one = Served(HERE.parent, "compiled", **cache)
                    one.close()
                taken.append(one.startup)
        aim = aim if torch.get_num_threads() > 1 else ""  # on two cores
        yield bench_row(f"startup_{name}{ending}", taken, "s", baseline="", aim=aim)


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
    taken: dict[str, list[float]] = {part: [] for part in ANALYSES}
    wholes = []
    for number in range((WARM_UP + ROUNDS) * updates.count):
        total = seconds(updates.once, device)
        if number >= WARM_UP * updates.count:
            wholes.append(total)
            for part, (start, end) in ANALYSES.items():
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
        Updates(case, device, compiled=False).once()
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
        found[f"update_{name}_compiled",] = partial(compiled, name)
        found[f"penalty_{name}", f"penalty_{name}_quarter"] = partial(penalty, name)
        if device == "cuda":
            found[f"update_{name}_graph",] = partial(recorded, name)
        if case.since:
            found[f"update_{name}_since", f"world_model_{name}_since"] = partial(since, name)
            found[f"startup_{name}", f"startup_{name}_cached"] = partial(startup, name)
        found[tuple(f"update_{name}_part/{part}" for part in ANALYSES)] = partial(parts, name)
        ideals = ("flops", "latency")
        found[tuple(f"share_of_{ideal}_{name}" for ideal in ideals)] = partial(shares, name)
    return found


if __name__ == "__main__":
    run_script(jobs, threads=(1, 2))

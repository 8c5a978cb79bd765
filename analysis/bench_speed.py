"""Speed of path simulation; `table_bench.py` runs this script and stores the rows.

python analysis/bench_speed.py --list                      every name with its numbers of threads
python analysis/bench_speed.py --threads 1 normal_torch/float32         one row, as JSON

Competing functions are timed in alternation, A B C A B C …. A ratio is the median over the rounds;
`low` and `high` are the minimum and maximum. The rows ou_compiled_vs_c_loop and _vs_diffrax exist
where gcc and diffrax do.
"""

import ctypes
import importlib.util
import math
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torchsde import sdeint

import sdewm
from sdewm.base.compiling import Compiled
from sdewm.scripts.benchmark import BenchRow, Measure, bench_row, in_turns, run_script
from sdewm.sde.compiled import CompiledEuler
from sdewm.sde.examples import TanhWorldModel
from sdewm.sde.examples.tanh_world_model import TanhNetwork
from sdewm.sde.noise import GaussianNoise, TwoPointNoise
from sdewm.sde.noise.block import split_mix
from sdewm.sde.solve import solve_path
from sdewm.theory.expansion.error_variation import ErrorVariation

STEP = 2.0**-10  # sums of it are exact, so that torchsde takes as many steps as we do
DTYPES = {"float32": torch.float32, "float64": torch.float64}
SLOW = "torchsde default"
COMPILER = "gcc"
HAS_C = shutil.which(COMPILER) is not None
HAS_DIFFRAX = importlib.util.find_spec("diffrax") is not None
Contestants = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Row:
    """The function timed, its baseline ("" for none), and the quantity compared.

    "speed": their time over ours; "cost": our time over theirs; "difference": the value is the
    largest difference of the results.
    """

    name: str
    ours: str
    theirs: str = ""
    aim: str = ""
    compared: str = "speed"


@dataclass(frozen=True)
class Race:
    """Functions timed in alternation; `scale` converts the seconds of one run into `unit`."""

    settings: str
    rows: Sequence[Row]
    contestants: Callable[[torch.device], Contestants]
    scale: float
    unit: str
    rounds: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the rows."""
        return tuple(row.name + self.settings for row in self.rows)

    def measure(self, device: torch.device) -> Iterator[BenchRow]:
        """All rows of the race."""
        contestants = self.contestants(device)
        runs = {who: contestants[who] for row in self.rows for who in (row.ours, row.theirs) if who}
        # This compiles, too. The default is too slow for a run without a purpose.
        results = {who: run() for who, run in runs.items() if not who.startswith(SLOW)}
        seconds = in_turns(runs, device, self.rounds, warm_up=0)
        times = {who: [self.scale * each for each in row] for who, row in seconds.items()}
        for row, name in zip(self.rows, self.names, strict=True):
            ours, theirs = times[row.ours], times.get(row.theirs, [])
            if row.compared == "difference":
                found = largest_difference(results[row.ours], results[row.theirs])
                kind = {"values": [found], "unit": "difference"}
            else:
                pairs = zip(theirs, ours, strict=True) if row.theirs else ()
                ratios = [b / a if row.compared == "cost" else a / b for a, b in pairs]
                kind = {"values": ours, "unit": self.unit, "ratios": ratios}
            yield bench_row(name, **kind, baseline=row.theirs, aim=row.aim)


def largest_difference(a: object, b: object) -> float:
    assert isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
    return float((a - b).abs().max())


class OrnsteinUhlenbeck:
    """dx = −0.8 x dt + 0.5 dB in every component; or with another drift."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, drift: Callable[[torch.Tensor], torch.Tensor] = lambda y: -0.8 * y) -> None:
        self.drift = drift

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.drift(y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.full_like(y, 0.5)


def euler_loop(system: OrnsteinUhlenbeck, x: torch.Tensor, steps: int) -> torch.Tensor:
    """A plain loop over Euler–Maruyama steps, with torch's normals drawn in each step."""
    t, scale = torch.zeros((), dtype=x.dtype, device=x.device), math.sqrt(STEP)
    for _ in range(steps):
        x = x + system.f(t, x) * STEP + system.g(t, x) * (scale * torch.randn_like(x))
    return x


def torchsde_alone(system: object, x: torch.Tensor, steps: int, method: str) -> None:
    """torchsde with its default Brownian motion."""
    ends = torch.tensor([0.0, steps * STEP], dtype=x.dtype, device=x.device)
    sdeint(system, x, ends, dt=STEP, method=method)


class CLoop:
    """The same steps in C (ornstein_uhlenbeck.c), compiled for this machine: float32 on one thread.

    This is what to compare with: it draws its normals where they are used and stores none.
    """

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            compiled, library = (str(Path(folder) / name) for name in ("loop.o", "loop.so"))
            flags = ["-O3", "-march=native", "-ffast-math", "-fPIC"]
            source = str(Path(__file__).with_name("ornstein_uhlenbeck.c"))
            subprocess.run([COMPILER, *flags, "-c", source, "-o", compiled], check=True)
            # Linked without -ffast-math: with it, loading the library would make all later
            # arithmetic of this thread round subnormal numbers to zero.
            subprocess.run([COMPILER, "-shared", compiled, "-o", library, "-lm"], check=True)
            self.simulate = ctypes.CDLL(library).simulate
        self.simulate.argtypes = [
            ctypes.c_void_p,
            *(ctypes.c_long, ctypes.c_long),
            *(ctypes.c_float, ctypes.c_uint64),
        ]

    def __call__(self, x: torch.Tensor, steps: int) -> torch.Tensor:
        ends = x.clone()
        self.simulate(ends.data_ptr(), ends.numel(), steps, STEP, 1)
        return ends


def diffrax_loop(x: torch.Tensor, steps: int, tree: bool) -> Callable[[], object]:
    """Euler steps of diffrax, with its virtual Brownian tree or its fast noise for fixed steps."""
    import diffrax
    import jax
    from jax import numpy as jnp

    start, t1 = jnp.asarray(x.numpy()), steps * STEP
    shape = jax.ShapeDtypeStruct(start.shape, start.dtype)

    @jax.jit
    def ends(key: jax.Array) -> jax.Array:
        if tree:
            path = diffrax.VirtualBrownianTree(0.0, t1, tol=STEP / 2, shape=shape, key=key)
        else:
            path = diffrax.UnsafeBrownianPath(shape=shape, key=key)
        drift = diffrax.ODETerm(lambda t, y, _: -0.8 * y)
        noise = diffrax.ControlTerm(lambda t, y, _: diffrax_diagonal(jnp.full_like(y, 0.5)), path)
        solution = diffrax.diffeqsolve(
            diffrax.MultiTerm(drift, noise),
            diffrax.Euler(),
            0.0,
            t1,
            STEP,
            start,
            max_steps=steps + 1,
            adjoint=diffrax.DirectAdjoint() if tree else diffrax.ForwardMode(),
        )
        return solution.ys[-1]

    keys = iter(jax.random.split(jax.random.key(0), 1 << 12))
    return lambda: ends(next(keys)).block_until_ready()


def diffrax_diagonal(values: Any) -> Any:
    """A diagonal diffusion for diffrax."""
    import lineax

    return lineax.DiagonalLinearOperator(values)


def exhaust(stream: Iterable[object]) -> None:
    deque(stream, maxlen=0)


def ornstein_uhlenbeck(
    dtype: torch.dtype, batch: int, steps: int, device: torch.device
) -> Contestants:
    """Every route to the end points in four dimensions, and the draws alone."""
    x, system = torch.ones(batch, 4, dtype=dtype, device=device), OrnsteinUhlenbeck()
    grid = {"drivers": 4, "steps": steps, "t1": steps * STEP}
    plain, normals = GaussianNoise(**grid), GaussianNoise(**grid, compiled=True)
    bits, euler = TwoPointNoise(**grid, compiled=True), CompiledEuler(system)
    words, counters = Compiled(split_mix), torch.arange(batch * 4, device=device)
    return {
        "solve, our noise": lambda: solve_path(system, x, plain)[:, 0],
        "solve, our compiled noise": lambda: solve_path(system, x, normals)[:, 0],
        "solve, two-point noise": lambda: solve_path(system, x, bits)[:, 0],
        "compiled step": lambda: euler.solve(x, normals),
        "compiled step, two-point noise": lambda: euler.solve(x, bits),
        f"{SLOW}, euler": lambda: torchsde_alone(system, x, steps, "euler"),
        f"{SLOW}, srk": lambda: torchsde_alone(system, x, steps, "srk"),
        "PyTorch loop": lambda: euler_loop(system, x, steps),
        "torch.randn": lambda: exhaust(torch.randn_like(x) for _ in range(steps)),
        "our normals": lambda: exhaust(plain.stream(0, batch, dtype, device)),
        "our compiled normals": lambda: exhaust(normals.stream(0, batch, dtype, device)),
        "our compiled two-point": lambda: exhaust(bits.stream(0, batch, dtype, device)),
        "random words": lambda: exhaust(words(counters) for _ in range(steps)),
        **(other_libraries(x, steps) if device.type == "cpu" else {}),
    }


def other_libraries(x: torch.Tensor, steps: int) -> Contestants:
    """A C loop and diffrax, where they are; both in float32."""
    found: Contestants = {}
    if x.dtype == torch.float32 and HAS_C:
        loop = CLoop()
        found["C loop"] = lambda: loop(x, steps)
    if x.dtype == torch.float32 and HAS_DIFFRAX:
        found["diffrax"] = diffrax_loop(x, steps, tree=False)
        found["diffrax, tree"] = diffrax_loop(x, steps, tree=True)
    return found


def solvers(precision: str, batch: int) -> list[Race]:
    """Solvers for the Ornstein–Uhlenbeck process.

    Runs have 1000 steps, and fewer at batch 65536 if the cost per step is constant. The cost per
    step of torchsde's Brownian tree grows with the number of steps; srk is timed on a short run,
    which favours srk.
    """
    large, rounding = batch > 1024, "<= 1e-5" if precision == "float32" else "<= 1e-13"

    def race(steps: int, rounds: int, *rows: Row) -> Race:
        contestants = partial(ornstein_uhlenbeck, DTYPES[precision], batch, steps)
        return Race(f"/{precision}/{batch}", rows, contestants, 1e6 / steps, "us/step", rounds)

    plain, fast, two = "solve, our noise", "solve, our compiled noise", "two-point noise"
    step, bits, loop = "compiled step", f"compiled step, {two}", "PyTorch loop"
    tree, twice, most = f"{SLOW}, euler", ">= 2" * large, ">= 0.9" * large
    return [
        race(
            64 if large else 1000,
            9,
            Row("ou_solve_vs_loop", plain, loop, ">= 1"),
            Row("ou_solve_compiled_noise_vs_loop", fast, loop, ">= 1"),
            Row("ou_solve_two_point_vs_loop", f"solve, {two}", loop),
            Row("ou_compiled_vs_loop", step, loop, twice),
            Row("ou_compiled_two_point_vs_loop", bits, loop, twice),
            Row("ou_compiled_vs_our_normals", step, "our compiled normals", most),
            Row("ou_compiled_vs_torch_normals", step, "torch.randn", most),
            Row("ou_compiled_difference", step, plain, rounding, "difference"),
            Row("ou_two_point_difference", bits, f"solve, {two}", rounding, "difference"),
        ),
        race(
            512 if large and precision == "float64" else 1000,
            2 if large else 3,
            Row("ou_solve_vs_default", plain, tree, ">= 12"),
            Row("ou_solve_compiled_noise_vs_default", fast, tree, ">= 12"),
        ),
        race(64 if large else 500, 2, Row("ou_solve_vs_srk", plain, f"{SLOW}, srk")),
    ]


def limits(batch: int) -> list[Race]:
    """The compiled step against other libraries in float32, on one thread."""
    large = batch > 1024
    rows = [Row("ou_compiled_vs_c_loop", "compiled step", "C loop")] * HAS_C
    rows += [Row("ou_compiled_vs_diffrax", "compiled step", "diffrax")] * HAS_DIFFRAX
    if not large:
        tree = Row("ou_compiled_vs_diffrax_tree", "compiled step", "diffrax, tree")
        rows += [tree] * HAS_DIFFRAX
    steps = 64 if large else 1000
    contestants = partial(ornstein_uhlenbeck, torch.float32, batch, steps)
    return [
        Race(f"/float32/{batch}", [row], contestants, 1e6 / steps, "us/step", 5) for row in rows
    ]


def numbers(precision: str) -> list[Race]:
    """The cost of a random number, at batch 65536 in four dimensions; one race for each row."""
    rows = [
        Row("normal_torch", "torch.randn"),
        Row("normal_ours", "our normals", "torch.randn"),
        Row("normal_ours_compiled", "our compiled normals", "torch.randn"),
        Row("two_point_ours_compiled", "our compiled two-point", "torch.randn"),
        Row("random_words", "random words", "torch.randn"),  # float32 takes one for two normals
    ]
    contestants = partial(ornstein_uhlenbeck, DTYPES[precision], 65536, 32)
    scale = 1e9 / (65536 * 4 * 32)
    return [Race(f"/{precision}", [row], contestants, scale, "ns/number", 9) for row in rows]


def bandwidth() -> Race:
    """A copy of 256 MB compared with 256 compiled steps, which read and write a state of 1 MB."""

    def contestants(device: torch.device) -> Contestants:
        source, target = (torch.ones(1 << 26, device=device) for _ in range(2))
        runs = ornstein_uhlenbeck(torch.float32, 65536, 256, device)
        return {"copy of 256 MB": lambda: target.copy_(source)} | runs

    copy, steps = "copy of 256 MB", "compiled step, two-point noise"
    rows = [Row("memory_copy", copy), Row("ou_compiled_two_point_vs_copy", steps, copy)]
    return Race("/float32", rows, contestants, 1e3, "ms/256 MB", 7)


def variations(precision: str, name: str) -> Race:
    """Path with first and second variation along one direction, through solve_path.

    "network": drift a 4-64-4 tanh network, constant noise, constant drift error. "world_model":
    drift, diffusion and the error's diffusion are such networks, two drivers.
    """
    batch, steps, dtype = 4096, 32, DTYPES[precision]

    def contestants(device: torch.device) -> Contestants:
        if name == "network":
            network = TanhNetwork(4, 64, 4, 1.0, torch.Generator().manual_seed(0))
            vars(network).update({k: w.to(device, dtype) for k, w in vars(network).items()})
            system, drivers = OrnsteinUhlenbeck(network), 4
            error = sdewm.Perturbation(drift=lambda t, y: torch.ones_like(y))
        else:
            system, drivers = TanhWorldModel(state_size=4, width=64), 2
            error = sdewm.Perturbation(diffusion=system.error_diffusion)
        noise = GaussianNoise(drivers=drivers, steps=steps, t1=steps * STEP)
        x = torch.linspace(-1, 1, batch * 4, dtype=dtype, device=device).view(batch, 4)
        fused, nested = (ErrorVariation(system, error, drivers, fused=f) for f in (True, False))
        start = fused.initial(x)
        return {
            "plain solve": lambda: solve_path(system, x, noise),
            "variations": lambda: solve_path(fused, start, noise),
            "nested jvp": lambda: solve_path(nested, start, noise),
        }

    rows = [
        Row("variation", "variations", "plain solve", "<= 6", "cost"),
        Row("variation_nested", "nested jvp", "plain solve", "", "cost"),
    ]
    return Race(f"/{name}/{precision}/{batch}", rows, contestants, 1e6 / steps, "us/step", 5)


def all_races() -> list[Race]:
    races = [*(race for precision in DTYPES for race in numbers(precision)), bandwidth()]
    races += [variations(p, name) for name in ("network", "world_model") for p in DTYPES]
    return races + [r for b in (1024, 65536) for p in DTYPES for r in solvers(p, b)]


LIMITS = [race for batch in (1024, 65536) for race in limits(batch)]


def jobs(device: str) -> dict[tuple[str, ...], Measure]:
    """The races for a kind of device, by the names of their rows."""
    races = all_races() + (LIMITS if device == "cpu" else [])
    return {race.names: race.measure for race in races}


if __name__ == "__main__":
    alone = [name for race in LIMITS for name in race.names]
    run_script(jobs, threads=(1, 2), one_thread=alone)

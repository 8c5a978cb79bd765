"""Analyses of a model with 1536 components; `table_bench.py` runs this script and stores the rows.

python analysis/bench_wide_models.py --list                  every name with its threads
python analysis/bench_wide_models.py wide_model/divergence   one row, as JSON

The model is an RSSM with 512 deterministic components and 32 groups of 32 one-hot classes, with
random weights. Its noise is used by products with the factor; the baseline is the same model when
it gives the factor as a matrix, 1536 × 1024 for each state.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

import sdewm
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import INTERFACE
from sdewm.model_theorems.representation_error import measure_representation_error
from sdewm.model_theorems.stability import model_lyapunov
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.scripts.benchmark import BenchRow, Measure, bench_row, in_turns, run_script

H, S, K, U, D, A = 512, 32, 32, 256, 6, 2  # h, groups, classes, units, observation, action
ROUNDS, AIM = 3, "<= 0.33"
BASELINE = "the factor of the noise as a matrix"
GRID: dict[str, Any] = {"start": 5, "horizon": 2, "copies": 2, "paths": 2}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.cell = nn.Linear(S * K + A, U), nn.GRUCell(U, H)
        self.prior = nn.Sequential(nn.Linear(H, U), nn.SiLU(), nn.Linear(U, S * K))
        self.posterior = nn.Sequential(nn.Linear(H + U, U), nn.SiLU(), nn.Linear(U, S * K))
        self.encoder = nn.Linear(D, U)

    def recurrent(self, h, z, a):
        return self.cell(torch.tanh(self.inputs(torch.cat([z, a], -1))), h)

    def embedded(self, h, embed):
        return self.posterior(torch.cat([h, embed], -1))


class WithMatrix:
    """A model that gives the matrix of its noise alone."""

    def __init__(self, model: sdewm.RSSM) -> None:
        for name in INTERFACE:
            setattr(self, name, getattr(model, name))


def models() -> dict[str, Any]:
    torch.manual_seed(0)
    net = Network()
    model = sdewm.RSSM(
        net.recurrent,
        net.prior,
        net.embedded,
        net.encoder,
        deter=H,
        onehot=(S, K),
    )
    return {"factor": model, "matrix": WithMatrix(model)}


def analyses(model: Any) -> Mapping[str, Callable[[], object]]:
    """What is timed."""
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(2, 20, *size, generator=generator) for size in ((D,), (A,), ()))
    episodes, noise = Episodes(*drawn), ObservationPerturbation("noise", 0.1)
    return {
        "measure": partial(measure_representation_error, model, episodes, noise, draws=2),
        "exponents": partial(
            model_lyapunov, model, episodes, start=5, steps=10, discard=2, exponents=4
        ),
        "divergence": partial(sdewm.diverge_on_model, model, episodes, noise, grades=(), **GRID),
    }  # fmt: skip


def timed(name: str, device: torch.device) -> Iterator[BenchRow]:
    runs = {kind: analyses(model)[name] for kind, model in models().items()}
    times = in_turns(runs, device, ROUNDS)
    ratios = [ours / theirs for ours, theirs in zip(*times.values(), strict=True)]
    yield bench_row(
        f"wide_model/{name}", times["factor"], "s", ratios=ratios, baseline=BASELINE, aim=AIM
    )


def jobs(device: str) -> dict[tuple[str, ...], Measure]:
    """The measurements, on the CPU only, by the names of their rows."""
    if device != "cpu":
        return {}
    names = ("measure", "exponents", "divergence")
    return {(f"wide_model/{name}",): partial(timed, name) for name in names}


if __name__ == "__main__":
    run_script(jobs, threads=(1,))

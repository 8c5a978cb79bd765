"""The Jacobian penalty in a trainer that knows nothing of sdewm: eager, compiled, under autocast.

    python analysis/recipe_foreign_trainer.py                       all three, and what it costs
    python analysis/recipe_foreign_trainer.py --only eager --rounds 3

The trainer fits a small recurrent state-space model to sequences of a random linear system, in
plain torch. The lines marked PENALTY are all that the penalty adds. The cost is the processor time
of an update with them divided by that of one without, which other programs on the machine hardly
change; both are timed in turn, and the table gives the median over the rounds with the quartiles.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdewm import check_step
from sdewm.base.checks import check_count
from sdewm.base.compiling import missing_compiler
from sdewm.jacobian.penalty import InputProjection, jacobian_penalty, rademacher_probes
from sdewm.plots.tables import text_table

OBSERVATION, ACTION, DETER, STOCH = 8, 2, 128, 16
BATCH, LENGTH = 64, 6  # a compiler unrolls the steps, and needs a time for each
WEIGHT = 0.01
SITUATIONS = ("eager", "compiled", "autocast")


class WorldModel(nn.Module):
    """h' = GRU([z, a], h); prior p(z' | h') and posterior q(z' | h', o'), both Gaussian."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(STOCH + ACTION, DETER)
        self.prior = nn.Sequential(nn.Linear(DETER, DETER), nn.SiLU(), nn.Linear(DETER, 2 * STOCH))
        self.posterior = nn.Linear(DETER + OBSERVATION, 2 * STOCH)
        self.decoder = nn.Linear(DETER + STOCH, OBSERVATION)

    def moments(self, output: Tensor) -> tuple[Tensor, Tensor]:
        mean, free = output.chunk(2, -1)
        return mean, functional.softplus(free) + 0.1

    def losses(self, batch: "Batch") -> tuple[Tensor, Tensor, Tensor]:
        """The negative bound on the likelihood, and the states (T, B, …) that were visited."""
        h = batch.observations.new_zeros(BATCH, DETER)
        z = batch.observations.new_zeros(BATCH, STOCH)
        total, visited = torch.zeros(()), []
        for t in range(LENGTH):
            h = self.cell(torch.cat([z, batch.actions[t]], 1), h)
            mean, std = self.moments(self.posterior(torch.cat([h, batch.observations[t]], 1)))
            own, spread = self.moments(self.prior(h))
            z = mean + std * batch.noise[t]
            seen = self.decoder(torch.cat([h, z], 1))
            ratio = (std / spread).square()
            kl = 0.5 * (ratio + ((mean - own) / spread).square() - 1 - ratio.log()).sum(1)
            error = 0.5 * (seen - batch.observations[t]).square().sum(1)
            total = total + (error + kl.clamp(min=1.0)).mean()
            visited.append((h, z))
        states = (torch.cat(part).detach() for part in zip(*visited, strict=True))
        return total / LENGTH, *states


@dataclass(frozen=True)
class Batch:
    """Sequences, time first, the noise of their latents, and the probes of the penalty."""

    observations: Tensor  # (T, B, O)
    actions: Tensor  # (T, B, A)
    noise: Tensor  # (T, B, Z)
    probes: Tensor  # (1, T·B, R + Z)


def draw_batch(generator: torch.Generator) -> Batch:
    """A batch of the linear system o' = A o + B a + noise."""
    fixed = torch.randn(OBSERVATION, OBSERVATION, generator=torch.Generator().manual_seed(1))
    matrix = 0.95 * torch.linalg.qr(fixed)[0]
    actions, disturbance, noise = (
        torch.randn(LENGTH, BATCH, size, generator=generator)
        for size in (ACTION, OBSERVATION, STOCH)
    )
    observations = [torch.zeros(BATCH, OBSERVATION)]
    for t in range(1, LENGTH):
        push = torch.cat([actions[t], torch.zeros(BATCH, OBSERVATION - ACTION)], 1)
        observations.append(observations[-1] @ matrix.T + push + 0.1 * disturbance[t])
    like = (torch.empty(LENGTH * BATCH, DETER), torch.empty(LENGTH * BATCH, STOCH))
    probes = rademacher_probes(1, like, generator)  # PENALTY, outside of what is compiled
    return Batch(torch.stack(observations), actions, noise, probes)


def latent_step(model: WorldModel, actions: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    """(h, z) to (h', mean', std'): a smooth map, and no sample of z'."""

    def step(h: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        h = model.cell(torch.cat([z, actions], 1), h)
        return h, *model.moments(model.prior(h))

    return step


def loss_of(model: WorldModel, batch: Batch, penalised: bool) -> Tensor:
    """The loss of one update; the same function is called, compiled, or run under autocast."""
    loss, h, z = model.losses(batch)
    if penalised:
        step = latent_step(model, batch.actions.flatten(0, 1))
        penalty = jacobian_penalty(step, (h, z), InputProjection(batch.probes))  # PENALTY
        loss = loss + WEIGHT * penalty  # PENALTY
    return loss


class Trainer:
    """Adam on `loss_of`.

    Args:
        situation: "eager", "compiled" or "autocast" (bfloat16).
        penalised: whether the penalty is added.
    """

    def __init__(self, situation: str, penalised: bool) -> None:
        torch.manual_seed(0)
        self.model, self.penalised = WorldModel(), penalised
        self.optimiser = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.loss_of = torch.compile(loss_of) if situation == "compiled" else loss_of
        self.half = situation == "autocast"

    def update(self, batch: Batch) -> float:
        """One update; the loss before it."""
        with torch.autocast("cpu", torch.bfloat16) if self.half else nullcontext():
            loss = self.loss_of(self.model, batch, self.penalised)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())


def require_sound(batch: Batch) -> None:
    """Look at the step once before training, as `jacobian_penalty` itself does outside a compiler.

    Raises:
        ValueError: it is not sound, for example a straight-through sample.
    """
    model = WorldModel()
    with torch.no_grad():
        _, h, z = model.losses(batch)
    for finding in check_step(latent_step(model, batch.actions.flatten(0, 1)), (h, z)):
        raise ValueError(str(finding))


def cost(situation: str, rounds: int, updates: int) -> list[float]:
    """Processor time with the penalty over that without, in each round."""
    trainers = [Trainer(situation, penalised) for penalised in (True, False)]
    generator = torch.Generator().manual_seed(2)
    for trainer in trainers:
        for _ in range(2):  # compiles, and fills caches
            trainer.update(draw_batch(generator))
    ratios = []
    for _ in range(rounds):
        batches = [draw_batch(generator) for _ in range(updates)]
        seconds = []
        for trainer in trainers:
            start = time.process_time()
            for batch in batches:
                trainer.update(batch)
            seconds.append(time.process_time() - start)
        ratios.append(seconds[0] / seconds[1])
    return ratios


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the cost of the penalty in each situation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SITUATIONS, default=SITUATIONS)
    parser.add_argument("--rounds", type=int, default=11, help="timed rounds (default: 11)")
    parser.add_argument("--updates", type=int, default=5, help="updates a round (default: 5)")
    given = parser.parse_args(arguments)
    try:
        check_count("--rounds", given.rounds, 2)
        check_count("--updates", given.updates)
    except ValueError as problem:
        parser.error(str(problem))
    require_sound(draw_batch(torch.Generator().manual_seed(3)))
    rows = []
    for situation in given.only:
        missing = missing_compiler(torch.device("cpu")) if situation == "compiled" else None
        if missing is not None:
            rows.append([situation, f"left out: there is not {missing}", "", ""])
            continue
        with warnings.catch_warnings():  # torch's compiler warns of its own use of torch.jit
            warnings.simplefilter("ignore", DeprecationWarning)
            found = cost(situation, given.rounds, given.updates)
        low, median, high = statistics.quantiles(found, n=4)
        rows.append([situation, *(f"{value:.3g}" for value in (median, low, high))])
    print(text_table(["situation", "time with / without", "quartile", "quartile"], rows))


if __name__ == "__main__":
    main()

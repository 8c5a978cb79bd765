"""The end points of a study, measured on a trained world model and recorded episodes.

"open_loop K"               mean ln squared error of the observation predicted K policy steps ahead
"decoded NAME:STRENGTH"     mean ln squared error of the observation decoded from filtered latents,
                            when the encoder sees the perturbed one; strength 0: the clean error
"area NAME"                 mean ln of the area under that error as a function of the strength,
                            over the strengths of `STRENGTHS`
"latent_error KIND:SIZE K"  mean ln squared distance of predictions K policy steps ahead from
                            latents with and without an injected error, in units of the distance
                            between episodes; KIND: zero_drift or drift; SIZE in standard deviations
                            of z
"jacobian"                  mean ln ‖J‖_F of the step (h, z) → (h', mean z', deviation of z'), which
                            is the Jacobian that the penalty penalises by default
"slow_modes"                mean number of eigenvalues of the step (h, z) → (h', mean z') with
                            |λ| > .9
"memory"                    mean ln (Σ |λ|²)^½ of that step, its least ‖J‖_F of any coordinates
"imagined_spread K"         ln ratio of the standard deviations of imagined and recorded
                            observations K policy steps ahead; below 0: imagination collapses
"gradient_tail"             ln ratio of two means over the rows of metrics.jsonl that end after the
                            warm-up: of the .99 quantile and of the median of the gradient norm of
                            the world model between two rows; of the preset tiny the first row, of
                            updates 1 to 250, counts, and 200 of these are of the warm-up
"final_loss"                mean loss over the rows of metrics.jsonl that end in the last 1000
                            updates, each row counting once; it contains the penalty, so that arms
                            with different penalties differ in it by that too
"return_area"               of agents: −ln of the area under the returns of the evaluations during
                            training, per env_frame, by the trapezoidal rule
"final_return"              of agents: −ln of the mean return of the last of them

Errors of vectors are in variances of the test episodes. Means are over the test episodes of at
least 100 rows, of logarithms, because errors of a few windows would dominate a mean of errors. Of
those with an ln, smaller is better, except "jacobian", "memory" and "imagined_spread", which only
describe, as do "slow_modes" and "final_loss", which are no logarithms: no comparison can be
declared of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_choice
from sdewm.base.records import read_log
from sdewm.base.stats import Estimate
from sdewm.data.dataset import read_dataset
from sdewm.data.recorded_episodes import Episodes, read_episodes
from sdewm.latent_sde.models import RSSMModel
from sdewm.model.rssm import State
from sdewm.model_theorems.episode_statistics import mean_estimate
from sdewm.model_theorems.stability import jacobian_sizes, step_eigenvalues
from sdewm.open_loop.errors import squared_error
from sdewm.open_loop.predictions import OpenLoop, open_loop
from sdewm.perturbations.observation import HELD, ObservationPerturbation, kind_of
from sdewm.perturbations.parsing import observation_perturbation
from sdewm.train.saved_agent import saved_agent
from sdewm.train.sources import RECORDED, check_recorded_task

CONTEXT, ROWS, EVERY, SAMPLES, SETTLED = 20, 100, 10, 4, 10
SLOW, LAST_UPDATES = 0.9, 1000
STRENGTHS = {
    "noise": (0.0, 0.05, 0.1, 0.2, 0.4),
    "mask": (0.0, 0.05, 0.1, 0.25, 0.5),
    "shift": (0.0, 0.05, 0.1, 0.2, 0.4),
    "rotation": (0.0, 5.0, 10.0, 20.0, 30.0),
    "brightness": (0.0, 0.05, 0.1, 0.2, 0.4),
}
ERRORS = ("zero_drift", "drift")


def check_end_point(name: str, *, agents: bool = False, episodes: bool = True) -> str:
    """Return the name of an end point, or raise ValueError.

    Args:
        name: of the end point.
        agents: whether agents are measured, which have returns.
        episodes: whether there are test episodes.

    >>> check_end_point("open_loop 25")
    'open_loop 25'
    """
    kind, _, argument = str(name).partition(" ")
    check_choice(f"end_point={name!r}, kind", kind, MEASURES)
    if kind in OF_AGENTS and not agents:
        raise ValueError(f"end_point={name!r}: world models have no returns; give env.")
    if kind not in (*OF_AGENTS, *OF_LOGS) and not episodes:
        raise ValueError(f"end_point={name!r} needs test_data.")
    if kind in ("open_loop", "imagined_spread"):
        _check_steps(name, argument)
    elif kind == "decoded":
        observation_perturbation(argument)
    elif kind == "area":
        check_choice(f"end_point={name!r}, perturbation", argument.removesuffix(HELD), STRENGTHS)
        _perturbations(argument)
    elif kind == "latent_error":
        _latent_error(name, argument)
    elif argument:
        raise ValueError(f"end_point={name!r}: {kind!r} takes nothing after it.")
    return name


def check_on_episodes(names: Sequence[str], data: Path) -> None:
    """Refuse end points whose perturbation does not fit the recorded observations.

    Raises:
        ValueError: such as a rotation of vectors, or any where obs="both".
    """
    dataset = read_dataset(data)
    images = next(iter(dataset))["observation"].dtype == torch.uint8
    observations = kind_of(dataset.facts["obs"], images)
    for name in names:
        kind, _, argument = name.partition(" ")
        found = []
        if kind == "decoded":
            found = [observation_perturbation(argument)]
        elif kind == "area":
            found = _perturbations(argument)[-1:]
        for one in found:
            try:
                one.check_fits(observations)
            except ValueError as problem:
                raise ValueError(f"end_point={name!r}: {problem}") from problem


def _check_steps(name: str, word: str) -> int:
    if not (word.isdecimal() and 1 <= int(word) <= ROWS - CONTEXT):
        raise ValueError(f"end_point={name!r}: expected 1 to {ROWS - CONTEXT} policy steps.")
    return int(word)


def _perturbations(word: str) -> list[ObservationPerturbation]:
    name, held = word.removesuffix(HELD), word.endswith(HELD)
    return [ObservationPerturbation(name, strength, held) for strength in STRENGTHS[name]]


def _latent_error(name: str, argument: str) -> tuple[str, float, int]:
    error, _, steps = argument.partition(" ")
    kind, _, size = error.partition(":")
    check_choice(f"end_point={name!r}, error", kind, ERRORS)
    try:
        value = float(size)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"end_point={name!r}: expected a size above 0, such as drift:0.3.")
    return kind, value, _check_steps(name, steps)


def windows(data: Path, seed: int = 0) -> Episodes:
    """The windows on which every model is measured, one of each episode that has so many rows."""
    return read_episodes(data, steps=ROWS, count=None, window_seed=seed)


def unit_of(episodes: Episodes) -> np.ndarray:
    """What errors of observations are divided by: 255 for images, else standard deviations."""
    images = episodes.observations.dtype == torch.uint8
    return np.asarray(255.0 if images else episodes.observations.double().flatten(0, 1).std(0))


class Measurement:
    """A run at one number of updates, with the test episodes on which it is measured.

    All runs are measured on the same windows and noise.

    Args:
        run: directory of the run.
        data: recorded test episodes; None: only what needs none can be measured.
        updates: after which the weights were kept; None: those of the newest checkpoint.
        seed: of windows and noise.

    Raises:
        ValueError: the run or the episodes cannot be used.
    """

    def __init__(
        self, run: Path, data: Path | None, updates: int | None = None, seed: int = 0
    ) -> None:
        self.run, self.data, self.seed = run, data, seed
        saved = saved_agent(run, updates)
        self.config = saved.config
        self.updates = saved.counters["updates"]
        self.world_model = saved.agent.world_model
        self.model = RSSMModel(self.world_model)

    @cached_property
    def episodes(self) -> Episodes:
        """Windows of the test episodes."""
        if self.data is None:
            raise ValueError("test_data: none was given.")
        task = {name: getattr(self.config, name) for name in RECORDED}
        check_recorded_task(task, self.data, f"run={str(self.run)!r}")
        return windows(self.data, self.seed)

    @cached_property
    def unit(self) -> np.ndarray:
        """What errors are divided by."""
        return unit_of(self.episodes)

    @cached_property
    def predicted(self) -> OpenLoop:
        """Open-loop predictions, as far as the windows go."""
        return open_loop(
            self.model,
            self.episodes,
            context=CONTEXT,
            horizon=ROWS - CONTEXT,
            samples=SAMPLES,
            seed=self.seed,
        )

    @cached_property
    def eigenvalues(self) -> Tensor:
        """|λ| of the step, largest first: (E, T', D)."""
        return step_eigenvalues(self.model, self.episodes, every=EVERY, seed=self.seed)

    @property
    def scale(self) -> np.ndarray:
        """What predictions are divided by: those of images are in [0, 1] already."""
        return np.ones(()) if self.unit.ndim == 0 else self.unit

    def open_loop(self, argument: str) -> Estimate:
        """See the head of this file; so the other measures."""
        found, at = self.predicted, slice(int(argument) - 1, int(argument))
        truth = found.observations[:, at] / self.scale
        rollouts = found.rollout.observations[:, :, at]
        errors = [squared_error(one / self.scale, truth) for one in rollouts]
        return mean_estimate(np.log(np.mean(errors, 0)[:, 0]))

    def imagined_spread(self, argument: str) -> Estimate:
        """Over samples and episodes together; the standard error is not known."""
        at, found = int(argument) - 1, self.predicted
        imagined = (found.rollout.observations[:, :, at] / self.scale).std((0, 1))
        real = (found.observations[:, at] / self.scale).std(0)
        return Estimate(float(np.log(imagined.mean() / real.mean())), math.nan)

    def decoded(self, argument: str) -> Estimate:
        """The error of decoded observations under one perturbation."""
        return mean_estimate(np.log(self._decoded_error(observation_perturbation(argument))))

    def area(self, argument: str) -> Estimate:
        """The area under that error, by the trapezoidal rule."""
        perturbations = _perturbations(argument)
        errors = np.stack([self._decoded_error(one) for one in perturbations])  # (S, E)
        strengths = np.array([one.strength for one in perturbations])
        mean = np.trapezoid(errors, strengths, axis=0) / (strengths[-1] - strengths[0])
        return mean_estimate(np.log(mean))

    def _decoded_error(self, perturbation: ObservationPerturbation) -> np.ndarray:
        """Mean over rows of the squared error of decoded observations: (E,)."""
        if perturbation.strength:
            return self._decoded(perturbation)
        return self._decoded_clean

    @cached_property
    def _decoded_clean(self) -> np.ndarray:
        """That without perturbation, which is the same for all of them."""
        return self._decoded(None)

    @torch.no_grad()
    def _decoded(self, perturbation: ObservationPerturbation | None) -> np.ndarray:
        clean, generator = self.episodes.observations, torch.Generator().manual_seed(self.seed)
        if perturbation:
            perturbation.check_fits(kind_of(self.config.obs, clean.dtype == torch.uint8))
        seen = perturbation(clean, generator) if perturbation else clean
        rssm, shape = self.model.rssm, tuple(clean.shape[:2])
        state, _ = rssm.filter(
            self.model.embed(seen),
            self.episodes.previous_actions.double(),
            torch.zeros(shape, dtype=torch.bool),
            self.model.draw_noise(shape, generator),
        )
        errors = []  # window by window: decoded images of all of them are large
        for features, truth in zip(state.features[:, None], clean[:, None], strict=True):
            decoded = self.model.world_model.decoder.predict(features)[:, SETTLED:].numpy()
            truth = truth[:, SETTLED:].double().numpy() / self.unit
            errors.append(squared_error(decoded / self.scale, truth).mean(1))
        return np.concatenate(errors)

    @torch.no_grad()
    def latent_error(self, argument: str) -> Estimate:
        """Distance of predictions with and without the error, under the same noise."""
        kind, size, steps = _latent_error(argument, argument)
        generator = torch.Generator().manual_seed(self.seed)
        rssm, model = self.model.rssm, self.model
        head = self.episodes.first_rows(CONTEXT)
        actions = self.episodes.previous_actions.double()
        shape = tuple(head.rewards.shape)
        embeds, noise = model.embed(head.observations), model.draw_noise(shape, generator)
        first = torch.zeros(shape, dtype=torch.bool)
        clean, _ = rssm.filter(embeds, actions[:, :CONTEXT], first, noise)
        deviation = clean.stoch.flatten(0, 1).std(0)
        rows = CONTEXT if kind == "zero_drift" else 1
        drawn = torch.randn(shape[0], rows, len(deviation), generator=generator).double()
        drawn = drawn if kind == "zero_drift" else drawn.sign()
        error = (size * deviation * drawn).expand(shape[0], CONTEXT, -1)
        wrong, _ = rssm.filter(embeds, actions[:, :CONTEXT], first, noise, error=error)
        states = [State(*(part[:, -1] for part in both)) for both in (clean, wrong)]
        for k in range(steps):
            drawn = model.draw_noise((shape[0],), generator)
            states = [rssm.imagine_step(one, actions[:, CONTEXT + k], drawn) for one in states]
        right, off = (
            model.world_model.decoder.predict(one.features).numpy() / self.scale for one in states
        )
        distance = squared_error(off[:, None], right[:, None])[:, 0]
        ceiling = squared_error(np.roll(right, 1, 0)[:, None], right[:, None]).mean()
        return mean_estimate(np.log(distance / ceiling))

    def jacobian(self, argument: str) -> Estimate:
        """The size of the Jacobian that the penalty penalises."""
        sizes = jacobian_sizes(self.model, self.episodes, every=EVERY, seed=self.seed)
        return mean_estimate(sizes["frobenius"].log().mean(1).numpy())

    def slow_modes(self, argument: str) -> Estimate:
        """Their number."""
        return mean_estimate((self.eigenvalues > SLOW).double().sum(2).mean(1).numpy())

    def memory(self, argument: str) -> Estimate:
        """(Σ |λ|²)^½."""
        return mean_estimate(self.eigenvalues.square().sum(2).log().mul(0.5).mean(1).numpy())

    def gradient_tail(self, argument: str) -> Estimate:
        """From the rows of the log after the warm-up."""
        warm = self.config.optimiser.warmup_updates
        rows = [row for row in self._log() if row["updates"] > warm]
        if not rows:
            raise ValueError(
                f"run={str(self.run)!r} has no log between {warm} updates, the warm-up, and "
                f"{self.updates}."
            )
        tail, middle = (
            np.mean([row[f"gradient_norm/model_{name}"] for row in rows])
            for name in ("p99", "median")
        )
        return Estimate(float(np.log(tail / middle)), math.nan)

    def final_loss(self, argument: str) -> Estimate:
        """From the last rows of the log."""
        last = self.updates - LAST_UPDATES
        losses = [row["loss/total"] for row in self._log() if row["updates"] > last]
        return Estimate(float(np.mean(losses)), math.nan)

    def return_area(self, argument: str) -> Estimate:
        """From the evaluations during training."""
        frames, returns = self._evaluations()
        if len(frames) < 2:
            raise ValueError(f"run={str(self.run)!r} has {len(frames)} evaluations; expected two.")
        mean = float(np.trapezoid(returns, frames) / (frames[-1] - frames[0]))
        return Estimate(-_positive_log("area", mean), math.nan)

    def final_return(self, argument: str) -> Estimate:
        """From the last evaluation during training."""
        return Estimate(-_positive_log("return", self._evaluations()[1][-1]), math.nan)

    def _evaluations(self) -> tuple[list[float], list[float]]:
        """env_frames and mean returns."""
        rows, _ = read_log(self.run / "evaluation.jsonl")
        own = [row for row in rows if row.get("by") == "train"]
        if not own:
            raise ValueError(f"run={str(self.run)!r} has no evaluation.")
        return [row["env_frames"] for row in own], [row["mean_return"] for row in own]  # type: ignore[return-value]

    def _log(self) -> list[dict[str, float]]:
        rows, _ = read_log(self.run / "metrics.jsonl")
        found = [row for row in rows if row["updates"] <= self.updates]  # type: ignore[operator]
        if not found:
            raise ValueError(f"run={str(self.run)!r} has no log up to {self.updates} updates.")
        return found  # type: ignore[return-value]


def _positive_log(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}={value:g}: its logarithm needs a number above 0.")
    return math.log(value)


MEASURES: dict[str, Callable[[Measurement, str], Estimate]] = {
    "open_loop": Measurement.open_loop,
    "decoded": Measurement.decoded,
    "area": Measurement.area,
    "latent_error": Measurement.latent_error,
    "jacobian": Measurement.jacobian,
    "slow_modes": Measurement.slow_modes,
    "memory": Measurement.memory,
    "imagined_spread": Measurement.imagined_spread,
    "gradient_tail": Measurement.gradient_tail,
    "final_loss": Measurement.final_loss,
    "return_area": Measurement.return_area,
    "final_return": Measurement.final_return,
}
OF_AGENTS, OF_LOGS = ("return_area", "final_return"), ("gradient_tail", "final_loss")
DESCRIPTIVE = ("jacobian", "slow_modes", "memory", "imagined_spread", "final_loss")


def measure(
    run: Path, data: Path | None, end_points: Sequence[str], updates: int | None = None
) -> list[Estimate]:
    """The end points of a run after a number of updates; standard errors are over episodes.

    Raises:
        ValueError: the run or the episodes cannot be used, or an unknown end point.
    """
    names = [check_end_point(name, agents=True) for name in end_points]
    measured, found = Measurement(run, data, updates), []
    for name in names:
        kind, _, argument = name.partition(" ")
        found.append(MEASURES[kind](measured, argument))
    return found

"""The interface of a world model to the theory: mean and factor of the next state (S21).

A step of a recurrent state-space model, with all noise explicit, is

    h' = f(h, z, a),    z' = m(h', o') + s(h', o') ξ,    ξ ~ N(0, I),

where m and s are those of the posterior if an observation o' is given, and of the prior otherwise.
On the state x = (h, z) the step is x' = F(x) + G(x) ξ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.latent_sde.model_parts import (
    Decoder,
    FunctionDecoder,
    HeadMean,
    Part,
    Rows,
    StateFunction,
    consecutive,
    initial_row,
    sensible_moments,
)
from sdewm.latent_sde.noise_factor import (
    CategoricalFactor,
    DenseFactor,
    DiagonalFactor,
    FactoredModel,
    NoiseFactor,
    StepFactor,
    no_noise,
)
from sdewm.model.heads import ScalarHead
from sdewm.model.latents import CategoricalLatent, Latent
from sdewm.model.rssm import State
from sdewm.model.world_model import WorldModel

# What torch, and libraries outside torch, raise when they are given what they do not take.
REFUSALS = (RuntimeError, IndexError, TypeError, AttributeError)


INTERFACE = (
    *("state_size", "noise_size", "latent", "surrogate"),
    *("initial", "embed", "law", "moments", "draw_noise", "sample"),
)


class LatentModel(Protocol):
    """Interface of a world model: what every analysis asks for, and nothing else.

    A model may have further parts. An analysis that needs one that is absent, or None, leaves out
    what depends on it, or refuses, and names the part (`model_parts.missing_part`):

        decoder  `predict(states)`: observations (B, *shape), images in [0, 1]; `loss(states,
                 observations)`: (B,)
        reward   states (B, D) -> mean rewards (B,)
        critic   states (B, D) -> values (B,)
        policy   states (B, D) -> actions (B, A), differentiable
        kl       (seen (B, D), embed (B, E), imagined (B, D)) -> (B,), in nats: divergence of the
                 posterior of z at `seen`, given the embed, from the prior of z at `imagined`
        step_moments  (state (B, D), action (B, A)) -> mean of the next state (B, D) under the
                 prior, and standard deviations of its noise (B, N); by default N = D·M, the entries
                 of the noise factor
        frozen   True if no function of the model ever changes, so that embeds of recorded
                 observations, and checks that were passed, are kept

    Everything is in float64, and treats the rows of a batch independently. `sdewm.check_model`
    checks it.

    Attributes:
        state_size: D.
        noise_size: M, the number of components of ξ; 0 for a deterministic model.
        latent: the components z of the state, which the encoder determines.
        surrogate: description of the Gaussian law that replaces non-Gaussian noise; "" if `sample`
            is the mean plus the factor times the noise.
    """

    state_size: int
    noise_size: int
    latent: slice
    surrogate: str

    def initial(self, count: int) -> Tensor:
        """The states (count, D) before the first row of an episode."""
        ...

    def embed(self, observations: Tensor) -> Tensor:
        """Embeds (…, E) of observations (…, *shape), the input of `law`, in float64."""
        ...

    def law(self, state: Tensor, action: Tensor, embed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean F (B, D) and factor G (B, D, M) of the next state; the prior if `embed` is None."""
        ...

    def moments(self, predicted: Tensor, embed: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, Z) of the posterior of z, given the rest of the state."""
        ...

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Noise for `sample`."""
        ...

    def sample(
        self, state: Tensor, action: Tensor, embed: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next state (B, D) drawn by the model, and the predicted state passed to `moments`."""
        ...


class RecurrentModel:
    """A recurrent state-space model as a `LatentModel`: a deterministic part h and a latent z.

    One-hot latents are not differentiable. Group by group, they are replaced by a Gaussian law with
    their mean π and covariance diag π − ππᵀ = C Cᵀ, C = diag √π − π √πᵀ (S27); z may then be any
    vector. A subclass gives the functions `_deterministic` (h' of state and action), `_stats` (the
    parameters of the law of z) and `_encoded`.

    Args:
        deter: size of h.
        distribution: the law of z given its parameters.
        noise_size: M; 0 for a deterministic latent.
        initial: the state (D,) before the first row; None: zero.
    """

    decoder: Decoder | None = None
    reward: StateFunction | None = None
    critic: StateFunction | None = None
    policy: StateFunction | None = None
    frozen = False

    def __init__(
        self, deter: int, distribution: Latent, noise_size: int, initial: Tensor | None = None
    ) -> None:
        self.distribution, self.deter_size = distribution, deter
        self.state_size, self.noise_size = deter + distribution.size, noise_size
        self.latent = slice(deter, self.state_size)
        self.categorical = isinstance(distribution, CategoricalLatent)
        self.surrogate = "Gaussian of the same mean and covariance" if self.categorical else ""
        self._first = torch.zeros(self.state_size).double() if initial is None else initial

    def _deterministic(self, state: Tensor, action: Tensor) -> Tensor:
        """Next h (B, H) after states (B, D) and actions (B, A)."""
        raise NotImplementedError

    def _stats(self, deter: Tensor, embed: Tensor | None) -> Tensor:
        """Parameters of the posterior of z, or of the prior if `embed` is None."""
        raise NotImplementedError

    def _encoded(self, observations: Tensor) -> Tensor:
        """Embeds (N, E) of observations (N, *shape), images uint8, all others float64."""
        raise NotImplementedError

    def initial(self, count: int) -> Tensor:
        """The state before the first row, `count` times: (count, D)."""
        return self._first.expand(count, -1).clone()

    def embed(self, observations: Tensor) -> Tensor:
        """The encoder's output, computed for a few hundred observations at a time."""
        lead = observations.shape[: observations.dim() - self._observation_dim(observations)]
        flat = observations.reshape(-1, *observations.shape[len(lead) :])
        if flat.is_floating_point():
            flat = flat.double()
        with torch.no_grad():
            parts = [self._encoded(part) for part in flat.split(256)]
        return torch.cat(parts).reshape(*lead, -1)

    def _observation_dim(self, observations: Tensor) -> int:
        return 3 if observations.dtype == torch.uint8 else 1

    def split(self, state: Tensor) -> State:
        """The parts h and z of the state (…, D)."""
        return State(state[..., : self.deter_size], state[..., self.latent])

    def moments(self, predicted: Tensor, embed: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, Z) of the posterior of z given h."""
        stats = self._stats(self.split(predicted).deter, embed)
        return self.distribution.mean(stats), self.distribution.std(stats)

    def step_moments(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, D) of the next state under the prior, and standard deviation of z (B, Z)."""
        deter = self._deterministic(state, action)
        stats = self._stats(deter, None)
        mean, std = self.distribution.mean(stats), self.distribution.std(stats)
        return torch.cat([deter, mean], -1), std

    def law(self, state: Tensor, action: Tensor, embed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and factor (B, D, M) of the next state."""
        mean, factor = self.factored_law(state, action, embed)
        return mean, factor.matrix()

    def factored_law(
        self, state: Tensor, action: Tensor, embed: Tensor | None
    ) -> tuple[Tensor, NoiseFactor]:
        """Mean (B, D) and factor of the next state, whose matrix is not formed."""
        deter = self._deterministic(state, action)
        stats = self._stats(deter, embed)
        law, around = self.distribution, (self.deter_size, 0)
        mean = law.mean(stats)
        if isinstance(law, CategoricalLatent):
            factor = CategoricalFactor(mean.unflatten(1, (law.groups, law.classes)), around)
        elif self.noise_size == 0:
            factor = no_noise(state)
        else:
            factor = DiagonalFactor(law.std(stats), around)
        return torch.cat([deter, mean], 1), factor

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normals (…, M), or uniforms (…, S) for one-hot latents."""
        return self.distribution.draw_noise(shape, generator).double()

    def sample(
        self, state: Tensor, action: Tensor, embed: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next state (B, D) drawn by the model, and the same with the mean of z.

        z is one-hot if the model's latent is categorical.
        """
        deter = self._deterministic(state, action)
        stats = self._stats(deter, embed)
        drawn, mean = self.distribution.sample(stats, noise), self.distribution.mean(stats)
        return torch.cat([deter, drawn], 1), torch.cat([deter, mean], 1)

    @property
    def kl(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """Divergence of the posterior from the prior, see `LatentModel`; None without noise."""
        return self._kl if self.noise_size else None

    def _kl(self, seen: Tensor, embed: Tensor, imagined: Tensor) -> Tensor:
        """KL(posterior of z at `seen` ‖ prior of z at `imagined`), in nats: (B,)."""
        posterior = self._stats(self.split(seen).deter, embed)
        return self.distribution.kl(posterior, self._stats(self.split(imagined).deter, None))


class RSSMModel(RecurrentModel):
    """A trained `WorldModel` as a `LatentModel`: a copy in float64 without gradients.

    Args:
        world_model: a world model of `sdewm.model`.
        critic: a value head on its features.
        policy: states (B, D) -> actions (B, A) in float64, for example `system.mean_policy(actor)`.
    """

    frozen = True

    def __init__(
        self,
        world_model: WorldModel,
        critic: ScalarHead | None = None,
        policy: StateFunction | None = None,
    ) -> None:
        self.world_model = copy.deepcopy(world_model).double().requires_grad_(False).eval()
        self.rssm = self.world_model.rssm
        super().__init__(self.rssm.deter_size, self.rssm.latent, self.rssm.latent.size)
        self._first = self._first.to(next(self.world_model.parameters()).device)
        self.decoder, self.reward = self.world_model.decoder, HeadMean(self.world_model.reward)
        self.critic = None if critic is None else HeadMean(critic)
        self.policy = policy

    def _encoded(self, observations: Tensor) -> Tensor:
        return self.world_model.encoder(observations)

    def _deterministic(self, state: Tensor, action: Tensor) -> Tensor:
        # The model divides by max(1, |a|) without gradient: the same values, not the derivative.
        return self.rssm.deterministic(self.split(state), action.clamp(-1, 1))

    def _stats(self, deter: Tensor, embed: Tensor | None) -> Tensor:
        return self.rssm.prior(deter) if embed is None else self.rssm.posterior(deter, embed)


class StepModel:
    """Any world model as a `LatentModel`, given by a step function and, optionally, an encoder.

    Args:
        step: (state (B, D), action (B, A), noise (B, M)) -> next state (B, D), row by row, in
            float64, linear in the noise.
        state_size: D.
        noise_size: M; 0 for a deterministic model, whose noise (B, 0) the step ignores.
        encoder: (state (B, D), observation (B, …)) -> mean and standard deviation, each (B, Z), of
            the components `latent`, given the state that `step` predicts without noise; for a
            deterministic model these components alone (B, Z); None for a model that is used without
            observations.
        latent: the components that the encoder determines, one after the other; all by default.
        initial: the state (D,) before the first row of an episode; None: zero.
        decoder: state (B, D) -> predicted observation (B, *shape); images in [0, 1].
        reward: state (B, D) -> mean reward (B,).
        critic: state (B, D) -> value (B,).
        policy: state (B, D) -> action (B, A).

    Raises:
        ValueError: a size out of range, a `latent` that is no slice of consecutive components, a
            noise_size other than 0 that differs from the number of components of the encoder, or
            an initial state of another shape.

    >>> model = StepModel(lambda x, a, v: 0.5 * x + a + 0.1 * v, state_size=2, noise_size=2)
    >>> mean, factor = model.law(torch.ones(1, 2), torch.ones(1, 2), None)
    >>> mean, factor[0]
    (tensor([[1.5000, 1.5000]]), tensor([[0.1000, 0.0000],
            [0.0000, 0.1000]]))
    """

    surrogate = ""

    def __init__(
        self,
        step: Callable[[Tensor, Tensor, Tensor], Tensor],
        *,
        state_size: int,
        noise_size: int,
        encoder: Callable[[Tensor, Tensor], tuple[Tensor, Tensor] | Tensor] | None = None,
        latent: slice | None = None,
        initial: Tensor | None = None,
        decoder: StateFunction | None = None,
        reward: StateFunction | None = None,
        critic: StateFunction | None = None,
        policy: StateFunction | None = None,
    ) -> None:
        self.state_size = check_count("state_size", state_size)
        self.noise_size = check_count("noise_size", noise_size, minimum=0)
        self.step, self.encoder = step, encoder
        self.latent = consecutive(latent, state_size)
        if encoder is not None and noise_size not in (0, self.latent.stop - self.latent.start):
            raise ValueError(
                f"noise_size={noise_size}: with an encoder, expected the number of components in "
                f"latent={self.latent}, or 0 for a deterministic model."
            )
        zero = torch.zeros(state_size).double()
        self._first = zero if initial is None else initial_row("initial", initial, state_size)
        self.decoder = None if decoder is None else FunctionDecoder(decoder)
        self.reward, self.critic, self.policy = reward, critic, policy

    def initial(self, count: int) -> Tensor:
        """The state before the first row, `count` times: (count, D)."""
        return self._first.expand(count, -1).clone()

    def embed(self, observations: Tensor) -> Tensor:
        """A copy of the observations themselves, (…, E)."""
        return observations.to(torch.float64, copy=True)

    def law(self, state: Tensor, action: Tensor, embed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and factor (B, D, M) with the columns step(x, a, e_k) − step(x, a, 0)."""
        mean, factor = self.factored_law(state, action, embed)
        return mean, factor.matrix()

    def factored_law(
        self, state: Tensor, action: Tensor, embed: Tensor | None
    ) -> tuple[Tensor, NoiseFactor]:
        """Mean (B, D) and factor of the next state, from one call of the step."""
        mean = self.step(state, action, self._no_noise(state))
        if embed is not None:
            return self._observed(mean, embed)
        if self.noise_size == 0:
            return mean, no_noise(state)
        return mean, StepFactor(self.step, state, action, mean, self.noise_size)

    def _no_noise(self, state: Tensor) -> Tensor:
        return state.new_zeros(len(state), self.noise_size)

    def _observed(self, predicted: Tensor, embed: Tensor) -> tuple[Tensor, NoiseFactor]:
        """Mean and factor of the next state with the components `latent` from the encoder."""
        of_latent, std = self.moments(predicted, embed)
        before, after = predicted[:, : self.latent.start], predicted[:, self.latent.stop :]
        mean = torch.cat([before, of_latent, after], 1)
        if self.noise_size == 0:
            return mean, no_noise(predicted)
        return mean, DiagonalFactor(std, (before.shape[1], after.shape[1]))

    def checked_functions(self, rows: Rows, prior: bool) -> dict[str, Part]:
        """What `sdewm.check_model` looks at: the step, and the encoder of embeds."""
        state, size = (len(rows.state), self.state_size), self.latent.stop - self.latent.start
        found = {"step": Part(self.step, (rows.state, rows.action, rows.noise), (state,))}
        if rows.embed is not None:
            given, moments = (rows.predicted, rows.embed), ((len(rows.state), size),) * 2
            encoder = self.moments if self.noise_size == 0 else self.encoder
            assert encoder is not None  # with embeds
            sensible = partial(sensible_moments, encoder, self.noise_size)
            found["encoder"] = Part(sensible, given, moments)
        return found

    def moments(self, predicted: Tensor, embed: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's mean and standard deviation (B, Z); ValueError without an encoder."""
        if self.encoder is None:
            raise ValueError("encoder=None: a StepModel needs an encoder to take observations.")
        value = self.encoder(predicted, embed)
        if self.noise_size == 0 and isinstance(value, Tensor):
            return value, torch.zeros_like(value)
        return cast(tuple[Tensor, Tensor], value)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normals (…, M)."""
        return torch.randn(
            *shape, self.noise_size, generator=generator, device=generator.device
        ).double()

    def sample(
        self, state: Tensor, action: Tensor, embed: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next state (B, D), and the next state without noise."""
        predicted = self.step(state, action, self._no_noise(state))
        if embed is None:
            return self.step(state, action, noise), predicted
        mean, factor = self._observed(predicted, embed)
        return mean + factor.product(noise), predicted


def factored_law(
    model: LatentModel, state: Tensor, action: Tensor, embed: Tensor | None
) -> tuple[Tensor, NoiseFactor]:
    """Mean (B, D) and factor of the next state of any model, without the matrix where it can be."""
    if isinstance(model, FactoredModel):
        return model.factored_law(state, action, embed)
    mean, matrix = model.law(state, action, embed)
    return mean, DenseFactor(matrix)


def as_latent_model(world_model: object) -> LatentModel:
    """Wrap a `WorldModel` as an `RSSMModel`; return a `LatentModel` unchanged.

    Raises:
        ValueError: any other type.
    """
    if isinstance(world_model, WorldModel):
        return RSSMModel(world_model)
    missing = [name for name in INTERFACE if not hasattr(world_model, name)]
    if missing:
        raise ValueError(
            f"world_model={type(world_model).__name__}: expected a sdewm WorldModel or a "
            "LatentModel; sdewm.RSSM makes one of the functions of a recurrent state-space model, "
            f"sdewm.StepModel of a step function. It has no {', '.join(missing)}."
        )
    return cast(LatentModel, world_model)

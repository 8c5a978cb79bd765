"""The interface of a world model to the theory: mean and factor of the next state (S21).

A step of a recurrent state-space model, with all noise explicit, is

    h' = f(h, z, a),    z' = m(h', o') + s(h', o') ξ,    ξ ~ N(0, I),

where m and s are those of the posterior if an observation o' is given, and of the prior otherwise.
On the state x = (h, z) the step is x' = F(x) + G(x) ξ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.latent_sde.noise_factor import (
    CategoricalFactor,
    DenseFactor,
    DiagonalFactor,
    FactoredModel,
    NoiseFactor,
    StepFactor,
)
from sdewm.model.latents import CategoricalLatent
from sdewm.model.rssm import State
from sdewm.model.world_model import WorldModel

# What torch, and libraries outside torch, raise when they are given what they do not take.
REFUSALS = (RuntimeError, IndexError, TypeError, AttributeError)


INTERFACE = (
    *("state_size", "noise_size", "latent", "surrogate"),
    *("embed", "law", "moments", "draw_noise", "sample"),
)


class LatentModel(Protocol):
    """Interface of a world model.

    Attributes:
        state_size: D.
        noise_size: M, the number of components of ξ.
        latent: the components z of the state, which the encoder determines.
        surrogate: description of the Gaussian law that replaces non-Gaussian noise; "" if the
            noise is Gaussian.
    """

    state_size: int
    noise_size: int
    latent: slice
    surrogate: str

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


class RSSMModel:
    """A trained `WorldModel` as a `LatentModel`: a copy in float64 without gradients.

    One-hot latents are not differentiable. Group by group, they are replaced by a Gaussian law with
    their mean π and covariance diag π − ππᵀ = C Cᵀ, C = diag √π − π √πᵀ (S27); z may then be any
    vector.

    Args:
        world_model: a world model of `sdewm.model`.
    """

    def __init__(self, world_model: WorldModel) -> None:
        self.world_model = copy.deepcopy(world_model).double().requires_grad_(False).eval()
        self.rssm = self.world_model.rssm
        self.state_size, self.noise_size = self.rssm.features_size, self.rssm.latent.size
        self.latent = slice(self.rssm.deter_size, self.state_size)
        self.categorical = isinstance(self.rssm.latent, CategoricalLatent)
        self.surrogate = "Gaussian of the same mean and covariance" if self.categorical else ""

    def embed(self, observations: Tensor) -> Tensor:
        """The encoder's output, computed for a few hundred observations at a time."""
        lead = observations.shape[: observations.dim() - self._observation_dim(observations)]
        flat = observations.reshape(-1, *observations.shape[len(lead) :])
        if flat.is_floating_point():
            flat = flat.double()
        with torch.no_grad():
            parts = [self.world_model.encoder(part) for part in flat.split(256)]
        return torch.cat(parts).reshape(*lead, -1)

    def _observation_dim(self, observations: Tensor) -> int:
        return 3 if observations.dtype == torch.uint8 else 1

    def split(self, state: Tensor) -> State:
        """The parts h and z of the state (…, D)."""
        return State(state[..., : self.rssm.deter_size], state[..., self.latent])

    def moments(self, predicted: Tensor, embed: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, Z) of the posterior of z given h."""
        stats = self._stats(self.split(predicted).deter, embed)
        return self.rssm.latent.mean(stats), self.rssm.latent.std(stats)

    def law(self, state: Tensor, action: Tensor, embed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and factor (B, D, Z) of the next state."""
        mean, factor = self.factored_law(state, action, embed)
        return mean, factor.matrix()

    def factored_law(
        self, state: Tensor, action: Tensor, embed: Tensor | None
    ) -> tuple[Tensor, NoiseFactor]:
        """Mean (B, D) and factor of the next state, whose matrix is not formed."""
        deter = self._deterministic(state, action)
        stats = self._stats(deter, embed)
        law, around = self.rssm.latent, (self.rssm.deter_size, 0)
        mean = law.mean(stats)
        if isinstance(law, CategoricalLatent):
            factor = CategoricalFactor(mean.unflatten(1, (law.groups, law.classes)), around)
        else:
            factor = DiagonalFactor(law.std(stats), around)
        return torch.cat([deter, mean], 1), factor

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normals (…, Z), or uniforms (…, S) for one-hot latents."""
        return self.rssm.latent.draw_noise(shape, generator).double()

    def sample(
        self, state: Tensor, action: Tensor, embed: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next state (B, D) drawn by the model, and the same with the mean of z.

        z is one-hot if the model's latent is categorical.
        """
        deter = self._deterministic(state, action)
        stats = self._stats(deter, embed)
        drawn, mean = self.rssm.latent.sample(stats, noise), self.rssm.latent.mean(stats)
        return torch.cat([deter, drawn], 1), torch.cat([deter, mean], 1)

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
        noise_size: M.
        encoder: (state (B, D), observation (B, …)) -> mean and standard deviation, each (B, Z), of
            the components `latent`, given the state that `step` predicts without noise; None for a
            model that is used without observations.
        latent: the components that the encoder determines; all by default.

    Raises:
        ValueError: a size that is not positive, or a noise_size that differs from the number of
            components of the encoder.

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
        encoder: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        latent: slice | None = None,
    ) -> None:
        self.state_size = check_count("state_size", state_size)
        self.noise_size = check_count("noise_size", noise_size)
        self.step, self.encoder = step, encoder
        self.latent = slice(*(latent or slice(None)).indices(state_size)[:2])
        if encoder is not None and self.latent.stop - self.latent.start != noise_size:
            raise ValueError(
                f"noise_size={noise_size}: with an encoder, expected the number of components in "
                f"latent={self.latent}."
            )

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
        return mean, StepFactor(self.step, state, action, mean, self.noise_size)

    def _no_noise(self, state: Tensor) -> Tensor:
        return state.new_zeros(len(state), self.noise_size)

    def _observed(self, predicted: Tensor, embed: Tensor) -> tuple[Tensor, NoiseFactor]:
        """Mean and factor of the next state with the components `latent` from the encoder."""
        of_latent, std = self.moments(predicted, embed)
        before, after = predicted[:, : self.latent.start], predicted[:, self.latent.stop :]
        mean = torch.cat([before, of_latent, after], 1)
        return mean, DiagonalFactor(std, (before.shape[1], after.shape[1]))

    def moments(self, predicted: Tensor, embed: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's mean and standard deviation (B, Z); ValueError without an encoder."""
        if self.encoder is None:
            raise ValueError("encoder=None: a StepModel needs an encoder to take observations.")
        return self.encoder(predicted, embed)

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
            "LatentModel; sdewm.StepModel makes one of a step function. It has no "
            f"{', '.join(missing)}."
        )
    return cast(LatentModel, world_model)

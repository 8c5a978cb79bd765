"""The world model: encoder, RSSM and heads, and its named losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sdewm.base.fields import NonNegativeFloat, PositiveInt
from sdewm.model.encoders import Decoder, Encoder, VectorDecoder, VectorEncoder
from sdewm.model.heads import SCALAR_HEADS, ContinueHead, ScalarHead
from sdewm.model.image_and_vector import (
    ImageAndVectorDecoder,
    ImageAndVectorEncoder,
    image_and_vector,
)
from sdewm.model.image_layers import (
    PatchDecoder,
    PatchEncoder,
    PooledEncoder,
    StridedDecoder,
    StridedEncoder,
    UpsampledDecoder,
)
from sdewm.model.networks import initialise_all
from sdewm.model.rssm import RSSM, Observed, RSSMConfig, State

IMAGE_ENCODERS = {"pooled": PooledEncoder, "strided": StridedEncoder, "patches": PatchEncoder}


@dataclass(frozen=True)
class WorldModelConfig:
    """Networks and losses of the world model; the defaults are DreamerV3's, size 12m."""

    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    """Recurrent state-space model."""
    norm: Literal["rms", "layer", "none"] = "rms"
    """Normalisation before each activation."""
    activation: Literal["silu", "elu"] = "silu"
    """Activation function."""
    units: PositiveInt = 256
    """Units per hidden layer of encoder, decoder, reward head and continue head."""
    vector_layers: PositiveInt = 3
    """Hidden layers of the encoder and of the decoder for vector observations."""
    image_encoder: Literal["pooled", "strided", "patches"] = "pooled"
    """Image encoder and decoder.
    pooled: convolutions with max pooling (DreamerV3);
    strided: strided convolutions (DreamerV2);
    patches: dense layers on image patches (fast on CPUs)."""
    image_depth: PositiveInt = 16
    """Base number of channels of the image encoder and decoder."""
    symlog_inputs: bool = True
    """Encode and predict vector observations in symlog space."""
    reward_head: Literal["two_hot", "normal"] = "two_hot"
    """Distribution of the predicted reward."""
    reward_layers: PositiveInt = 1
    """Hidden layers of the reward head."""
    bins: PositiveInt = 255
    """Number of bins of two-hot reward and critic heads; odd."""
    continue_layers: PositiveInt | None = 1
    """Hidden layers of the continue head; None: no head, the continue probability is 1."""
    dyn_weight: NonNegativeFloat = 1.0
    """Weight of the dynamics loss, KL(stop-gradient posterior ‖ prior)."""
    rep_weight: NonNegativeFloat = 0.1
    """Weight of the representation loss, KL(posterior ‖ stop-gradient prior)."""
    free_nats: NonNegativeFloat = 1.0
    """Free bits: a KL divergence below this many nats gives no gradient."""
    free_nats_on: Literal["state", "batch_mean"] = "state"
    """Apply free_nats to the KL of each state (DreamerV3) or to the batch mean (DreamerV2)."""


class ReplayRows(NamedTuple):
    """A batch of sequences, fields (B, T, …); `previous_action` is the action that led to a row."""

    observation: Tensor
    previous_action: Tensor
    reward: Tensor
    is_first: Tensor
    is_last: Tensor
    is_terminal: Tensor

    @classmethod
    def of(cls, batch: Mapping[str, Tensor]) -> ReplayRows:
        """The fields that a world model uses, from a batch that may have more."""
        return cls(*(batch[name] for name in cls._fields))


class WorldModel(nn.Module):
    """Encoder, RSSM, decoder, reward and continue heads.

    Args:
        config: networks and losses.
        observation_shape: (D,) of a vector, (64, 64, 3) of an image, or (12288 + D,) of both.
        actions: dimension A of the action.
        generator: generator of the initial weights.
        both: whether observations are an image and a vector, see `image_and_vector`.
    """

    def __init__(
        self,
        config: WorldModelConfig,
        observation_shape: tuple[int, ...],
        actions: int,
        generator: torch.Generator,
        both: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        style = (config.norm, config.activation)
        self.encoder: Encoder = make_encoder(config, observation_shape, both)
        self.rssm = RSSM(config.rssm, actions, self.encoder.size, *style)
        features = self.rssm.features_size
        self.decoder: Decoder = make_decoder(config, observation_shape, self.rssm, both)
        head = SCALAR_HEADS[config.reward_head]
        self.reward: ScalarHead = head(
            features, config.units, config.reward_layers, config.bins, *style
        )
        self.continue_head = (
            None
            if config.continue_layers is None
            else ContinueHead(features, config.units, config.continue_layers, *style)
        )
        initialise_all(self, generator)

    def observe(self, rows: ReplayRows, noise: Tensor, initial: State | None = None) -> Observed:
        """Posterior states of a batch of sequences, see `RSSM.observe`."""
        embed = self.encoder(rows.observation)
        return self.rssm.observe(embed, rows.previous_action, rows.is_first, noise, initial)

    def losses(self, rows: ReplayRows, seen: Observed) -> dict[str, Tensor]:
        """Named losses, each a mean over batch and time, before multiplication by its weight.

        "reconstruction" is summed over the observation's components. "dyn" and "rep" are KL
        divergences in nats, summed over the latent's components and clipped below at the free nats.
        "reward" and "continue" are negative log-likelihoods.
        """
        features = seen.state.features
        losses = {
            "reconstruction": self.decoder.loss(features, rows.observation).mean(),
            "reward": self.reward.loss(self.reward(features), rows.reward).mean(),
        }
        if self.continue_head is not None:
            target = (~rows.is_terminal).to(rows.reward.dtype)
            output = self.continue_head(features)
            losses["continue"] = self.continue_head.loss(output, target).mean()
        kl = self.rssm.latent.kl
        losses["dyn"] = self._free(kl(seen.posterior.detach(), seen.prior))
        losses["rep"] = self._free(kl(seen.posterior, seen.prior.detach()))
        return losses

    def weights(self) -> dict[str, float]:
        """The weight of every term of `losses`."""
        weights = {"reconstruction": 1.0, "reward": 1.0}
        if self.continue_head is not None:
            weights["continue"] = 1.0
        return weights | {"dyn": self.config.dyn_weight, "rep": self.config.rep_weight}

    def _free(self, kl: Tensor) -> Tensor:
        if self.config.free_nats_on == "state":
            return kl.clamp(min=self.config.free_nats).mean()
        return kl.mean().clamp(min=self.config.free_nats)

    def continue_probability(self, features: Tensor) -> Tensor:
        """Probability that the episode continues after each state; 1 without a continue head."""
        if self.continue_head is None:
            return torch.ones_like(features[..., 0], dtype=torch.float32)
        return self.continue_head.mean(self.continue_head(features))

    def open_loop(self, rows: ReplayRows, context: int, noise: Tensor) -> Tensor:
        """Observations predicted by the prior after `context` observed rows: (B, T, *obs_shape).

        The first `context` predictions are reconstructions from the posterior; the others depend on
        the actions only. All samples use `noise` (B, T, …).
        """
        head = ReplayRows(*(field[:, :context] for field in rows))
        seen = self.observe(head, noise[:, :context])
        deter, stoch = [*seen.state.deter.unbind(1)], [*seen.state.stoch.unbind(1)]
        state = State(deter[-1], stoch[-1])
        for t in range(context, rows.reward.shape[1]):
            state = self.rssm.imagine_step(state, rows.previous_action[:, t], noise[:, t])
            deter.append(state.deter)
            stoch.append(state.stoch)
        return self.decoder.predict(State(torch.stack(deter, 1), torch.stack(stoch, 1)).features)


def total_loss(losses: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]) -> Tensor:
    """Weighted sum of the losses, Σ weight·loss.

    Raises:
        ValueError: a loss without a weight, or a weight without a loss.
    """
    if set(losses) != set(weights):
        odd = ", ".join(sorted(set(losses) ^ set(weights)))
        raise ValueError(f"losses and weights must have equal names; only in one of them: {odd}.")
    return torch.stack([weights[name] * losses[name] for name in losses]).sum()


def make_encoder(config: WorldModelConfig, shape: tuple[int, ...], both: bool = False) -> Encoder:
    """The encoder for observations of this shape.

    Raises:
        ValueError: a shape other than that of a vector or of a 64×64 image with three channels.
    """
    if both:
        parts = (make_encoder(config, part) for part in image_and_vector(shape))
        return ImageAndVectorEncoder(*parts)
    style = (config.norm, config.activation)
    if len(shape) == 1:
        return VectorEncoder(
            shape[0], config.units, config.vector_layers, config.symlog_inputs, *style
        )
    if shape != (64, 64, 3):
        raise ValueError(f"observation_shape={shape}: expected (D,) or (64, 64, 3).")
    return IMAGE_ENCODERS[config.image_encoder](config.image_depth, *style)


def make_decoder(
    config: WorldModelConfig, shape: tuple[int, ...], rssm: RSSM, both: bool = False
) -> Decoder:
    """The decoder for observations of a shape that `make_encoder` accepts."""
    if both:
        parts = (make_decoder(config, part, rssm) for part in image_and_vector(shape))
        return ImageAndVectorDecoder(*parts)
    style = (config.norm, config.activation)
    if len(shape) == 1:
        return VectorDecoder(
            rssm.features_size,
            shape[0],
            config.units,
            config.vector_layers,
            config.symlog_inputs,
            *style,
        )
    if config.image_encoder != "pooled":
        decoder = StridedDecoder if config.image_encoder == "strided" else PatchDecoder
        return decoder(rssm.features_size, config.image_depth, *style)
    return UpsampledDecoder(
        rssm.deter_size,
        rssm.latent.size,
        config.image_depth,
        config.units,
        config.rssm.blocks,
        *style,
    )

"""Packing of latent states for the replay memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sdewm.data.replay import Field
from sdewm.model.rssm import RSSMConfig


def stored_fields(config: RSSMConfig) -> dict[str, Field]:
    """Fields of the replay that hold a latent state: deter in half precision, `pack_stoch`."""
    stoch = (
        Field((config.groups,), torch.uint8, mutable=True)
        if config.latent == "categorical"
        else Field((config.gaussian_size,), torch.float32, mutable=True)
    )
    return {"deter": Field((config.deter,), torch.float16, mutable=True), "stoch": stoch}


def pack_stoch(stoch: Tensor, config: RSSMConfig) -> Tensor:
    """Pack a flat sample (…, Z) for the replay: class numbers (…, S) for one-hot groups."""
    if config.latent == "gaussian":
        return stoch.float()
    return stoch.unflatten(-1, (config.groups, config.classes)).argmax(-1).to(torch.uint8)


def unpack_stoch(stored: Tensor, config: RSSMConfig) -> Tensor:
    """The inverse of `pack_stoch`: a flat sample (…, Z)."""
    if config.latent == "gaussian":
        return stored.float()
    return functional.one_hot(stored.long(), config.classes).float().flatten(-2)

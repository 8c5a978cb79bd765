"""Heun's step in place of Euler's (arXiv 2010.15040, training GANs by solving ODEs).

Without noise, a step of the model is x⁺ = x + f(x, a), an Euler step of length 1 of x' = f(x, a).
Heun's step of the same equation, with the action held, is

    x⁺ = x + ½ [f(x, a) + f(x + f(x, a), a)].

The value is ln of the ratio, Heun's over Euler's, of the squared error of the observation predicted
15 policy steps ahead, a mean over test episodes. Below 0 the model's error would be one of
integration; the model was trained as its Euler step, so above 0 is expected.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sdewm.latent_sde.model_parts import required_part
from sdewm.open_loop.errors import squared_error
from sdewm.related.quantity import Quantity
from sdewm.study.end_points import CONTEXT, Measurement

NAME, PAPER = "solver_order", "2010.15040"
STEPS = 15


def heun_step(step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Heun's step of the equation of which `step` is the Euler step.

    >>> heun_step(lambda x: 1.5 * x, torch.ones(1))  # 1 + λ + λ²/2 with λ = 0.5
    tensor([1.6250])
    """
    euler = step(x)
    return (x + step(euler)) / 2  # x + ½ [(F(x) − x) + (F(F(x)) − F(x))]


@torch.no_grad()
def errors_ahead(given: Measurement, heun: bool) -> np.ndarray:
    """Squared error of the mean path, `STEPS` after the last observation: (E,)."""
    model, episodes = given.model, given.episodes.first_rows(CONTEXT + STEPS)
    actions, none = episodes.previous_actions.double(), torch.Generator()
    embeds = model.embed(episodes.observations)
    quiet = torch.zeros_like(model.draw_noise((len(actions),), none))
    x = model.initial(len(actions))
    for t in range(CONTEXT + STEPS):
        action, embed = actions[:, t], embeds[:, t] if t < CONTEXT else None

        def step(x: Tensor, action: Tensor = action, embed: Tensor | None = embed) -> Tensor:
            return model.sample(x, action, embed, quiet)[1]  # with the mean of z

        x = heun_step(step, x) if heun and embed is None else step(x)
    decoded = required_part(model, "decoder").predict(x).numpy() / given.scale
    truth = episodes.observations[:, -1].double().numpy() / given.unit
    return squared_error(decoded[:, None], truth[:, None])[:, 0]


def measure(given: Measurement) -> float:
    """Mean over episodes of ln of the ratio of the errors of both steps."""
    return float(np.log(errors_ahead(given, True) / errors_ahead(given, False)).mean())


QUANTITIES = (
    Quantity(
        NAME,
        PAPER,
        "Error of Heun's step over Euler's",
        "ln ratio",
        "ln error of the model read with Heun's step over its own; below 0: an integration error",
        measure,
    ),
)

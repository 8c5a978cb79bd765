"""Negative controls of the checks on the Jacobian penalty (S23–S25, S29, S30)."""

from __future__ import annotations

from typing import Any

import torch

from sdewm.model.distributions import sample_one_hot


def root_before_average(root: Any) -> Any:
    """The root is taken for each probe, before averaging (S23)."""
    return lambda step, x, probes: torch.stack([root(step, x, p[None]) for p in probes]).mean(0)


def constant_deviation(step: Any) -> Any:
    """The derivative of the standard deviation is left out of the rate (S24)."""

    def changed(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, deviation = step(x)
        return mean, deviation.detach()

    return changed


def sample_for_probabilities(probabilities: Any) -> Any:
    """The sample, not its probabilities, is differentiated by central differences (S25)."""
    uniforms = torch.full((1,), 0.5, dtype=torch.float64)
    return lambda logits: sample_one_hot(probabilities(logits), uniforms.expand(len(logits)))


def forgotten_coordinate(model: Any) -> Any:
    """The derivative leaves out one physical coordinate; the predictions stay exact (S29)."""

    def forgetting(x: torch.Tensor) -> torch.Tensor:
        s = (x @ model.rotation)[:, :2]
        kept = torch.cat([s[:, :1], s[:, 1:].detach()], 1)
        return model.latent(model.physical(kept)) + model.rest * (x - model.latent(s))

    return forgetting


def constant_error(error: Any) -> Any:
    """The error is one constant, not white with its mirror image (S30)."""
    return lambda strength: ("drift", {strength: 1.0})

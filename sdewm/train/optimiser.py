"""Optimisers of the presets: LaProp with adaptive clipping (DreamerV3), AdamW (DreamerV2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

_torch: Any = torch  # its functions on lists of tensors are not declared to type checkers


@dataclass(frozen=True)
class OptimiserConfig:
    """Rule, rates and clipping; the defaults are DreamerV3's."""

    rule: Literal["laprop", "adam"] = "laprop"
    """laprop: momentum of RMS-scaled gradients, clipped tensor by tensor; adam: AdamW with the
    gradient norm of each part clipped."""
    model_rate: float = 4e-5
    """Learning rate of the world model."""
    actor_rate: float = 4e-5
    """Learning rate of the actor."""
    critic_rate: float = 4e-5
    """Learning rate of the critic."""
    momentum: float = 0.9
    """Decay β₁ of the first moment."""
    square_decay: float = 0.999
    """Decay β₂ of the second moment."""
    guard: float = 1e-20
    """Added to the root of the second moment."""
    clip: float = 0.3
    """laprop: greatest ‖gradient‖/‖weight‖ of a tensor; adam: greatest norm of a part."""
    warm_up: int = 1000
    """Updates over which the rates rise linearly from 0."""
    decay: float = 0.0
    """Share of each weight that goes at every update (adam)."""


class LaProp(torch.optim.Optimizer):
    """LaProp after adaptive gradient clipping, both tensor by tensor.

    g ← g·min(1, clip·max(10⁻³, ‖w‖)/‖g‖); ν ← β₂ν + (1 − β₂)g²; u = g/(√ν̂ + guard);
    μ ← β₁μ + (1 − β₁)u; w ← w − rate·μ̂, with ν̂, μ̂ corrected for their start at zero.

    Args:
        groups: parameter groups with `params` and `lr`.
        config: decays, guard and clipping.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], config: OptimiserConfig) -> None:
        super().__init__(groups, {"lr": 0.0})
        self.config = config

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients in `.grad`; parameters without one stay."""
        for group in self.param_groups:
            both = [(w, w.grad) for w in group["params"] if w.grad is not None]
            if both:
                weights, gradients = zip(*both, strict=True)
                self._step_group([*weights], [*gradients], group["lr"])

    def _step_group(self, weights: list[Tensor], gradients: list[Tensor], rate: float) -> None:
        beta1, beta2 = self.config.momentum, self.config.square_decay
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {
                    "step": torch.zeros(()),  # on the CPU: reading it stops nothing
                    "square": torch.zeros_like(weight),
                    "momentum": torch.zeros_like(weight),
                }
        states = [self.state[weight] for weight in weights]
        steps, squares, momenta = ([s[k] for s in states] for k in ("step", "square", "momentum"))
        _torch._foreach_add_(steps, 1)
        gradients = clip_adaptively(weights, gradients, self.config.clip)
        _torch._foreach_lerp_(squares, _torch._foreach_mul(gradients, gradients), 1 - beta2)
        ages = [int(step) for step in steps]
        root = _torch._foreach_sqrt(squares)
        _torch._foreach_mul_(root, [(1 - beta2**age) ** -0.5 for age in ages])  # √ν̂
        _torch._foreach_add_(root, self.config.guard)
        _torch._foreach_div_(gradients, root)
        _torch._foreach_lerp_(momenta, gradients, 1 - beta1)
        change = _torch._foreach_mul(momenta, [rate / (1 - beta1**age) for age in ages])
        _torch._foreach_sub_(weights, change)


def clip_adaptively(
    weights: list[Tensor], gradients: list[Tensor], factor: float, least: float = 1e-3
) -> list[Tensor]:
    """Gradients scaled so that ‖g‖ ≤ factor·max(least, ‖w‖), tensor by tensor; new tensors."""
    limits = torch.stack(_torch._foreach_norm(weights)).clamp(min=least) * factor
    norms = torch.stack(_torch._foreach_norm(gradients))
    scales = (limits / norms.clamp(min=1e-6)).clamp(max=1.0)
    return [*_torch._foreach_mul(gradients, [*scales.unbind()])]


class Optimiser:
    """One optimiser over the parts of an agent, with their rates and the warm-up.

    Args:
        config: the rule.
        parts: modules by name, "model", "actor" and "critic"; each has its rate.
    """

    def __init__(self, config: OptimiserConfig, parts: Mapping[str, nn.Module]) -> None:
        self.config = config
        self.parts = {
            name: [weight for weight in part.parameters() if weight.requires_grad]
            for name, part in parts.items()
        }
        rates = {name: getattr(config, f"{name}_rate") for name in self.parts}
        groups = [{"params": self.parts[n], "lr": rates[n]} for n in self.parts]
        if config.rule == "laprop":
            self.rule: torch.optim.Optimizer = LaProp(groups, config)
        else:
            self.rule = torch.optim.AdamW(
                groups, betas=(config.momentum, config.square_decay), eps=config.guard, foreach=True
            )
        self._rates = [*rates.values()]

    def step(self, updates: int) -> dict[str, Tensor]:
        """Update number `updates` (from 1) from the gradients in `.grad`, then clear them.

        Returns:
            The norm of each part's gradient before clipping.
        """
        share = min(1.0, updates / self.config.warm_up) if self.config.warm_up else 1.0
        for group, rate in zip(self.rule.param_groups, self._rates, strict=True):
            group["lr"] = share * rate
            if self.config.rule == "adam":  # AdamW takes lr · weight_decay off at every update
                group["weight_decay"] = self.config.decay / group["lr"]
        norms = {}
        for name, weights in self.parts.items():
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            if not gradients:
                continue
            norms[name] = torch.stack(_torch._foreach_norm(gradients)).norm()
            if self.config.rule == "adam":
                _torch._foreach_mul_(gradients, (self.config.clip / norms[name]).clamp(max=1.0))
        self.rule.step()
        self.rule.zero_grad(set_to_none=True)
        return norms

    def state_dict(self) -> dict[str, Any]:
        """Moments by position of the weight, as nested dict of tensors."""
        state = self.rule.state_dict()["state"]
        return {str(index): dict(entry) for index, entry in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, for the same parts; the tensors given are copied."""
        whole = self.rule.state_dict()
        whole["state"] = {
            int(index): {name: value.clone() for name, value in entry.items()}
            for index, entry in state.items()
        }
        self.rule.load_state_dict(whole)

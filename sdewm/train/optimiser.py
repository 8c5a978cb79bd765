"""Optimisers of the presets: LaProp with adaptive clipping (DreamerV3), AdamW (DreamerV2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from sdewm.base.fields import NonNegativeInt, PositiveFloat

_torch: Any = torch  # its functions on lists of tensors are not declared to type checkers


Beta = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class OptimiserConfig:
    """Algorithm, learning rates and gradient clipping; the defaults are DreamerV3's."""

    algorithm: Literal["laprop", "adam"] = "laprop"
    """Optimisation algorithm.
    laprop: LaProp with adaptive gradient clipping (DreamerV3);
    adam: Adam with gradient-norm clipping and weight decay (DreamerV2)."""
    model_lr: PositiveFloat = 4e-5
    """Learning rate of the world model."""
    actor_lr: PositiveFloat = 4e-5
    """Learning rate of the actor."""
    critic_lr: PositiveFloat = 4e-5
    """Learning rate of the critic."""
    beta1: Beta = 0.9
    """Decay rate of the running mean of gradients (first moment)."""
    beta2: Beta = 0.999
    """Decay rate of the running mean of squared gradients (second moment)."""
    eps: PositiveFloat = 1e-20
    """Added to the square root of the second moment in the denominator."""
    clip: PositiveFloat = 0.3
    """Gradient clipping threshold.
    laprop: largest ‖gradient‖/‖weight‖ of each parameter tensor;
    adam: largest gradient norm of world model, actor and critic, each by itself."""
    warmup_updates: NonNegativeInt = 1000
    """Updates over which the learning rates rise linearly from 0."""
    weight_decay: Beta = 0.0
    """Fraction of each weight removed per update, decoupled from the learning rate (adam)."""
    dynamics_weight_decay: Beta = 0.0
    """The same for the weights of recurrent cell and prior head alone, with any algorithm."""


class LaProp(torch.optim.Optimizer):
    """LaProp after adaptive gradient clipping, both tensor by tensor.

    g ← g·min(1, clip·max(10⁻³, ‖w‖)/‖g‖); ν ← β₂ν + (1 − β₂)g²; u = g/(√ν̂ + eps);
    μ ← β₁μ + (1 − β₁)u; w ← w − lr·μ̂, with ν̂, μ̂ corrected for their start at zero.

    Args:
        groups: parameter groups with `params` and `lr`.
        config: beta1, beta2, eps and clip.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], config: OptimiserConfig) -> None:
        # The rate may be a tensor, and steps are counted on the weights' device ("capturable" tells
        # torch to restore them there), so that a recorded update has nothing to read on the host.
        super().__init__(groups, {"lr": 0.0, "capturable": True})
        self.config = config

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients in `.grad`; parameters without one stay."""
        for group in self.param_groups:
            both = [(w, w.grad) for w in group["params"] if w.grad is not None]
            if both:
                weights, gradients = zip(*both, strict=True)
                self._step_group([*weights], [*gradients], group["lr"])

    def _step_group(
        self, weights: list[Tensor], gradients: list[Tensor], rate: float | Tensor
    ) -> None:
        beta1, beta2 = self.config.beta1, self.config.beta2
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {
                    "step": torch.zeros((), device=weight.device),
                    "square": torch.zeros_like(weight),
                    "momentum": torch.zeros_like(weight),
                }
        states = [self.state[weight] for weight in weights]
        steps, squares, momenta = ([s[k] for s in states] for k in ("step", "square", "momentum"))
        _torch._foreach_add_(steps, 1)
        gradients = clip_adaptively(weights, gradients, self.config.clip)
        _torch._foreach_lerp_(squares, _torch._foreach_mul(gradients, gradients), 1 - beta2)
        ages = torch.stack(steps).double()
        root = _torch._foreach_sqrt(squares)
        _torch._foreach_mul_(root, [*_unbiased(beta2, ages).rsqrt().unbind()])  # √ν̂
        _torch._foreach_add_(root, self.config.eps)
        _torch._foreach_div_(gradients, root)
        _torch._foreach_lerp_(momenta, gradients, 1 - beta1)
        change = _torch._foreach_mul(momenta, [*(rate / _unbiased(beta1, ages)).unbind()])
        _torch._foreach_sub_(weights, change)


def _unbiased(beta: float, ages: Tensor) -> Tensor:
    """1 − βᵃ, the weight of everything after the start at zero in a running mean of age a."""
    return -torch.expm1(ages * math.log(beta)) if beta else torch.ones_like(ages)


def clip_adaptively(
    weights: list[Tensor], gradients: list[Tensor], factor: float, least: float = 1e-3
) -> list[Tensor]:
    """Gradients scaled so that ‖g‖ ≤ factor·max(least, ‖w‖), tensor by tensor; new tensors."""
    limits = torch.stack(_torch._foreach_norm(weights)).clamp(min=least) * factor
    norms = torch.stack(_torch._foreach_norm(gradients))
    scales = (limits / norms.clamp(min=1e-6)).clamp(max=1.0)
    return [*_torch._foreach_mul(gradients, [*scales.unbind()])]


class Optimiser:
    """One optimiser over the parts of an agent, with their learning rates and the warm-up.

    Args:
        config: see `OptimiserConfig`.
        parts: modules by name, "model", "actor" and "critic"; each has its own learning rate.
        dynamics: the weights of which `dynamics_weight_decay` removes a fraction.
    """

    def __init__(
        self,
        config: OptimiserConfig,
        parts: Mapping[str, nn.Module],
        dynamics: Sequence[Tensor] = (),
    ) -> None:
        self.config, self.dynamics = config, [*dynamics]
        self.parts = {
            name: [weight for weight in part.parameters() if weight.requires_grad]
            for name, part in parts.items()
        }
        self._rates = [getattr(config, f"{name}_lr") for name in self.parts]
        groups: list[dict[str, Any]] = [{"params": weights} for weights in self.parts.values()]
        device = next((weights[0].device for weights in self.parts.values() if weights), None)
        on_gpu = device is not None and device.type == "cuda"
        for group in groups:
            group["lr"] = torch.zeros((), dtype=torch.float64, device=device)
        if config.algorithm == "laprop":
            self.algorithm: torch.optim.Optimizer = LaProp(groups, config)
        else:
            self.algorithm = torch.optim.AdamW(
                groups if on_gpu else [group | {"lr": 0.0} for group in groups],
                betas=(config.beta1, config.beta2),
                eps=config.eps,
                weight_decay=0.0,  # theirs depends on the learning rate
                foreach=True,
                capturable=on_gpu,
            )

    def schedule(self, updates: int) -> None:
        """Set the learning rates of update number `updates` (from 1)."""
        warmup = self.config.warmup_updates
        factor = min(1.0, updates / warmup) if warmup else 1.0
        for group, rate in zip(self.algorithm.param_groups, self._rates, strict=True):
            if isinstance(group["lr"], Tensor):  # in place: a recorded update reads it there
                group["lr"].fill_(factor * rate)
            else:
                group["lr"] = factor * rate

    @torch.no_grad()
    def step(self) -> dict[str, Tensor]:
        """One update from the gradients in `.grad`, which are then cleared.

        Returns:
            The norm of each part's gradient before clipping.
        """
        norms = {}
        for name, weights in self.parts.items():
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            if not gradients:
                continue
            norms[name] = torch.stack(_torch._foreach_norm(gradients)).norm()
            if self.config.algorithm == "adam":
                _torch._foreach_mul_(gradients, (self.config.clip / norms[name]).clamp(max=1.0))
                if self.config.weight_decay:
                    kept = [weight for weight in weights if weight.grad is not None]
                    _torch._foreach_mul_(kept, 1 - self.config.weight_decay)
        if self.config.dynamics_weight_decay:
            _torch._foreach_mul_(self.dynamics, 1 - self.config.dynamics_weight_decay)
        self.algorithm.step()
        self.algorithm.zero_grad(set_to_none=True)
        return norms

    def state_dict(self) -> dict[str, Any]:
        """Moments by position of the weight, as nested dict of tensors."""
        state = self.algorithm.state_dict()["state"]
        return {str(index): dict(entry) for index, entry in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, for the same parts; the tensors given are copied."""
        whole = self.algorithm.state_dict()
        whole["state"] = {
            int(index): {name: value.clone() for name, value in entry.items()}
            for index, entry in state.items()
        }
        self.algorithm.load_state_dict(whole)

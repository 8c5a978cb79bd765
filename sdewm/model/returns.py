"""λ-returns, weights of imagined steps and the normaliser of returns."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lambda_return(
    reward: Tensor, discount: Tensor, value: Tensor, lambda_: float | Tensor
) -> Tensor:
    """G_t = r_{t+1} + d_{t+1}·((1 − λ)·v_{t+1} + λ·G_{t+1}), with G_H = v_H, for t = 0 … H − 1.

    Column t of `reward`, `discount` and `value` belongs to the state at which step t arrives
    (s_{t+1}): r_{t+1}, d_{t+1} = γ·continue_{t+1} and v_{t+1}; the last column of `value` is v_H.

    Args:
        reward: (N, H).
        discount: (N, H).
        value: (N, H).
        lambda_: λ in [0, 1], or one per step (N, H); 0 gives one-step returns, 1 Monte Carlo
            returns up to v_H.

    >>> one = torch.ones(1, 2)
    >>> lambda_return(one, 0.5 * one, torch.tensor([[4.0, 8.0]]), 1.0)
    tensor([[3.5000, 5.0000]])
    """
    target = reward + discount * (1 - lambda_) * value
    factor = discount * lambda_
    result, following = [], value[:, -1]
    for t in range(reward.shape[1] - 1, -1, -1):
        following = target[:, t] + factor[:, t] * following
        result.append(following)
    return torch.stack(result[::-1], 1)


class ReturnNormaliser(nn.Module):
    """Running scale max(1, S) of returns, S the moving average of their 5 to 95 percentile range.

    Args:
        rate: weight of the newest percentiles in the moving average, which starts at 0.
    """

    low: Tensor
    high: Tensor
    levels: Tensor

    def __init__(self, rate: float = 0.01) -> None:
        super().__init__()
        self.rate = rate
        for name in ("low", "high"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("levels", torch.tensor([0.05, 0.95]), persistent=False)

    def update(self, returns: Tensor) -> None:
        """Update the moving averages with one batch of returns."""
        low, high = torch.quantile(returns.detach().float().flatten(), self.levels)
        self.low.lerp_(low, self.rate)
        self.high.lerp_(high, self.rate)

    def scale(self) -> Tensor:
        """max(1, high − low)."""
        return (self.high - self.low).clamp(min=1.0)

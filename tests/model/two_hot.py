"""Two-hot weights, one number at a time: the reference of the two-hot loss."""

import torch


def two_hot(x: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Weights (…, K) of x (…) by linear interpolation between its neighbours among bins (K,)."""
    weights = [_weights(v, bins.tolist()) for v in x.flatten().tolist()]
    return torch.tensor(weights, dtype=x.dtype).reshape(*x.shape, len(bins))


def _weights(x: float, bins: list[float]) -> list[float]:
    x = min(max(x, bins[0]), bins[-1])
    weights = [0.0] * len(bins)
    for k in range(len(bins) - 1):
        if bins[k] <= x <= bins[k + 1]:
            share = (x - bins[k]) / (bins[k + 1] - bins[k])
            weights[k], weights[k + 1] = 1 - share, share
            break
    return weights

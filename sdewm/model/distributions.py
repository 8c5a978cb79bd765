"""Distributions of latents, actions, rewards and values; samples take their noise as argument."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def widen(x: Tensor) -> Tensor:
    """Half precision converted to float32; wider dtypes unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def symlog(x: Tensor) -> Tensor:
    """Signed logarithm, sign(x)·ln(1 + |x|).

    >>> symlog(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.6931,  0.0000,  0.6931])
    """
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Tensor) -> Tensor:
    """Inverse of `symlog`, sign(x)·(exp|x| − 1)."""
    return torch.sign(x) * torch.expm1(torch.abs(x))


def two_hot_loss(log_p: Tensor, x: Tensor, bins: Tensor) -> Tensor:
    """Cross-entropy −Σ_k w_k ln p_k with two-hot weights w: (…, K), (…) → (…).

    The weights are on the two bins around x and have the mean x = Σ_k w_k bin_k; x is clipped to
    the bins.

    >>> log_p = torch.tensor([0.5, 0.25, 0.25]).log().expand(2, 3)
    >>> two_hot_loss(log_p, torch.tensor([-0.25, 9.0]), torch.tensor([-1.0, 0.0, 1.0]))
    tensor([1.2130, 1.3863])
    """
    x = x.clamp(bins[0], bins[-1])
    flat = x.reshape(-1)  # in one piece also where this is compiled, which ignores `contiguous`
    above = torch.bucketize(flat, bins, right=True).view(x.shape).clamp(1, len(bins) - 1)
    low, high = bins[above - 1], bins[above]
    share = (x - low) / (high - low)
    both = log_p.gather(-1, torch.stack([above - 1, above], -1))  # (…, 2)
    return -((1 - share) * both[..., 0] + share * both[..., 1])


def symexp_bins(count: int = 255, limit: float = 20.0) -> Tensor:
    """An odd number of bins, equally spaced on [−limit, limit] in symlog space, antisymmetric.

    >>> bins = symexp_bins(5, 2.0)
    >>> bool((bins == -bins.flip(0)).all()), bins[-1].item()
    (True, 6.389056)
    """
    positive = symexp(torch.linspace(0, limit, count // 2 + 1))[1:]
    return torch.cat([-positive.flip(0), torch.zeros(1), positive])


def symmetric_mean(probabilities: Tensor, bins: Tensor) -> Tensor:
    """Mean Σ_k p_k bin_k, summed in pairs ±bin: exactly 0 for a symmetric distribution.

    A plain sum over bins as large as e^20 has rounding errors of the size of typical rewards.
    """
    half = len(bins) // 2
    pairs = probabilities[..., half + 1 :] - probabilities[..., :half].flip(-1)
    return (pairs * bins[half + 1 :]).sum(-1)


def mix_uniform(logits: Tensor, share: float) -> Tensor:
    """Log-probabilities of (1 − share)·softmax(logits) + share/K, over the last axis (unimix).

    >>> mix_uniform(torch.tensor([200.0, 0.0]), 0.01).exp()
    tensor([0.9950, 0.0050])
    """
    if share == 0.0:
        return torch.log_softmax(logits, -1)
    return torch.log((1 - share) * torch.softmax(logits, -1) + share / logits.shape[-1])


UNITS = 2**30  # of probability, in which classes are drawn


def sample_one_hot(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """One-hot draw by inversion: class k where P(class < k) ≤ u < P(class ≤ k); no gradient.

    Args:
        probabilities: (…, K), summing to one up to rounding.
        uniforms: (…) in [0, 1); equal uniforms couple the draws from two distributions.

    >>> sample_one_hot(torch.tensor([[0.2, 0.8], [0.2, 0.8]]), torch.tensor([0.1, 0.3]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    # Whole numbers have one sum in every order: this is deterministic on every device.
    shares, draws = ((x * UNITS).long() for x in (probabilities.detach(), uniforms))
    cumulative = shares.cumsum(-1)
    # The last class receives the probability that rounding leaves below one.
    index = (cumulative[..., :-1] <= draws.unsqueeze(-1)).sum(-1, keepdim=True)
    return one_hot(index, probabilities)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """One-hots of class indices (…, 1), with the classes and the dtype of `like` (…, K)."""
    classes = torch.arange(like.shape[-1], device=index.device)
    return (index == classes).to(like.dtype)  # torch's one_hot() would first check all numbers


def straight_through(sample: Tensor, probabilities: Tensor) -> Tensor:
    """Straight-through estimator: the value of `sample`, the gradient of `probabilities`."""
    return sample + (probabilities - probabilities.detach())


def categorical_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ_s Σ_k p ln(p/q), summed over groups and classes: (…, S, K) → (…)."""
    return (log_p.exp() * (log_p - log_q)).sum((-2, -1))


def normal_kl(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """KL of diagonal Gaussians, summed over the last axis, in nats."""
    ratio = (std_p / std_q) ** 2
    return 0.5 * (ratio + ((mean_p - mean_q) / std_q) ** 2 - 1 - torch.log(ratio)).sum(-1)


class Normal:
    """Diagonal Gaussian over actions; samples are not squashed, but clipped by environments.

    Args:
        mean: (…, A).
        std: (…, A), positive.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    @property
    def mode(self) -> Tensor:
        """The likeliest action, which is the mean."""
        return self.mean

    @staticmethod
    def draw_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normal noise for `sample`, on the generator's device."""
        return torch.randn(shape, generator=generator, device=generator.device)

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw mean + std·noise."""
        return self.mean + self.std * noise

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density summed over the last axis."""
        scaled = (action - self.mean) / self.std
        return (-0.5 * scaled**2 - torch.log(self.std) - 0.5 * LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, summed over the last axis."""
        return (torch.log(self.std) + 0.5 * (1 + LOG_2PI)).sum(-1)


class TruncatedNormal:
    """Diagonal Gaussian restricted to [−1, 1] and renormalised, reparameterised by inversion.

    Args:
        mean: (…, A) of the parent Gaussian, in [−1, 1].
        std: (…, A) of the parent Gaussian.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std
        self._low, self._high = (-1 - mean) / std, (1 - mean) / std
        self._below = torch.special.ndtr(self._low)
        self._mass = torch.special.ndtr(self._high) - self._below

    @property
    def mode(self) -> Tensor:
        """The likeliest action, which is the mean of the parent Gaussian."""
        return self.mean

    @staticmethod
    def draw_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Uniform noise for `sample`, on the generator's device."""
        return torch.rand(shape, generator=generator, device=generator.device)

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw: mean + std·Φ⁻¹(Φ(low) + u·mass), with Φ the normal CDF."""
        level = (self._below + noise * self._mass).clamp(1e-6, 1 - 1e-6)
        return (self.mean + self.std * torch.special.ndtri(level)).clamp(-1 + 1e-6, 1 - 1e-6)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density on [−1, 1], summed over the last axis."""
        scaled = (action - self.mean) / self.std
        return (-0.5 * scaled**2 - torch.log(self.std * self._mass) - 0.5 * LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, summed over the last axis."""
        low, high = (torch.exp(-0.5 * x**2 - 0.5 * LOG_2PI) for x in (self._low, self._high))
        edge = (self._low * low - self._high * high) / (2 * self._mass)
        return (torch.log(self.std * self._mass) + 0.5 * (1 + LOG_2PI) + edge).sum(-1)


class OneHot:
    """Independent categorical variables over actions, sampled as concatenated one-hots.

    Class k of a group of n has the probability (1 − share)·softmax(logits)_k + share/n.

    Args:
        logits: (…, A), those of the G groups concatenated.
        groups: number of classes n of each group; their sum is A.
        share: weight of the uniform distribution.

    >>> law = OneHot(torch.tensor([0.0, 20.0]), (2,), share=0.01)
    >>> law.mean, law.mode, law.sample(torch.tensor([0.004]))
    (tensor([0.0050, 0.9950]), tensor([0., 1.]), tensor([1., 0.]))
    """

    def __init__(self, logits: Tensor, groups: tuple[int, ...], share: float) -> None:
        self.groups = groups
        parts = [mix_uniform(part, share) for part in logits.split(groups, -1)]
        self._log_p = torch.cat(parts, -1)  # (…, A)

    @property
    def mean(self) -> Tensor:
        """The probabilities of all classes: (…, A)."""
        return self._log_p.exp()

    @property
    def mode(self) -> Tensor:
        """The likeliest class of every group, as one-hots."""
        parts = self._log_p.split(self.groups, -1)
        chosen = [one_hot(part.argmax(-1, keepdim=True), part) for part in parts]
        return torch.cat(chosen, -1)

    def sample(self, noise: Tensor) -> Tensor:
        """One-hot draws (…, A) by inversion of uniforms (…, G); no gradient."""
        parts = zip(self.mean.split(self.groups, -1), noise.unbind(-1), strict=True)
        return torch.cat([sample_one_hot(p, uniform) for p, uniform in parts], -1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Σ_k a_k ln p_k of one-hot actions (…, A): the sum over groups of ln P(class)."""
        return (action * self._log_p).sum(-1)

    def entropy(self) -> Tensor:
        """−Σ_k p_k ln p_k in nats, summed over groups."""
        return -(self.mean * self._log_p).sum(-1)

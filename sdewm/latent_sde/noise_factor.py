"""The factor G of the noise of a world model's step, x' = F(x) + G(x) ξ, without the matrix.

A simulation and the derivatives along its paths need products G v, bounds need sums of squares over
the entries of G. Most of the matrix (B, D, M) is zero: of a one-hot latent of S groups of K classes
it has D·S·K numbers, of which S·K² are not always zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import pad

_ROWS_AT_ONCE = 4096  # states through a step function at a time


class NoiseFactor(Protocol):
    """The factor G (B, D, M) of the noise at each of B states."""

    def matrix(self) -> Tensor:
        """G itself (B, D, M)."""
        ...

    def product(self, noise: Tensor) -> Tensor:
        """G v (B, D) for v (B, M)."""
        ...

    def entries(self) -> Tensor:
        """The entries of G that are not zero at every state (B, n), always in the same order."""
        ...

    def deviation(self) -> Tensor:
        """Standard deviation of each component of the next state (B, D): the norms of G's rows."""
        ...


@runtime_checkable
class FactoredModel(Protocol):
    """A `LatentModel` that gives the factor of its noise without forming the matrix."""

    def factored_law(
        self, state: Tensor, action: Tensor, embed: Tensor | None
    ) -> tuple[Tensor, NoiseFactor]:
        """Mean (B, D) and factor of the next state; the prior if `embed` is None."""
        ...


@dataclass(frozen=True)
class DenseFactor:
    """A factor given by its matrix (B, D, M)."""

    given: Tensor

    def matrix(self) -> Tensor:
        """The matrix."""
        return self.given

    def product(self, noise: Tensor) -> Tensor:
        """G v."""
        if noise.shape[1] == 0:
            return self.given.sum(2)
        return torch.einsum("bdm,bm->bd", self.given, noise)

    def entries(self) -> Tensor:
        """All entries."""
        return self.given.flatten(1)

    def deviation(self) -> Tensor:
        """Norms of the rows."""
        return self.given.square().sum(2).sqrt()


@dataclass(frozen=True)
class DiagonalFactor:
    """Independent noise of standard deviation s (B, Z) on the components z of the state.

    Attributes:
        std: s; M = Z.
        around: numbers of components of the state before and after z, which have no noise.

    >>> factor = DiagonalFactor(torch.tensor([[0.5, 2.0]]), (1, 0))
    >>> factor.product(torch.ones(1, 2)), factor.entries()
    (tensor([[0.0000, 0.5000, 2.0000]]), tensor([[0.5000, 2.0000]]))
    """

    std: Tensor
    around: tuple[int, int]

    def matrix(self) -> Tensor:
        """The matrix diag s, with rows of zeros around it."""
        return pad(torch.diag_embed(self.std), (0, 0, *self.around))

    def product(self, noise: Tensor) -> Tensor:
        """The vector s_i v_i."""
        return pad(self.std * noise, self.around)

    def entries(self) -> Tensor:
        """The vector s."""
        return self.std

    def deviation(self) -> Tensor:
        """The vector s, with zeros around it."""
        return pad(self.std, self.around)


@dataclass(frozen=True)
class CategoricalFactor:
    """Noise with the covariance of S independent one-hot groups of K classes (S27).

    In each group the covariance is diag π − ππᵀ = C Cᵀ with C = diag √π − π √πᵀ, since |√π| = 1.

    Attributes:
        probabilities: π (B, S, K); M = Z = S·K.
        around: numbers of components of the state before and after z, which have no noise.

    >>> factor = CategoricalFactor(torch.tensor([[[0.2, 0.8]]]).double(), (0, 0))
    >>> factor.matrix() @ factor.matrix().mT
    tensor([[[ 0.1600, -0.1600],
             [-0.1600,  0.1600]]], dtype=torch.float64)
    """

    probabilities: Tensor
    around: tuple[int, int]

    def matrix(self) -> Tensor:
        """C of every group on the diagonal, with rows of zeros around it."""
        pi = self.probabilities
        apart = torch.eye(pi.shape[1], dtype=pi.dtype, device=pi.device)
        whole = self._blocks().unsqueeze(3) * apart[:, None, :, None]  # (B, S, K, S, K)
        return pad(whole.flatten(3).flatten(1, 2), (0, 0, *self.around))

    def product(self, noise: Tensor) -> Tensor:
        """In each group √π_i v_i − π_i Σ_j √π_j v_j."""
        pi = self.probabilities
        scaled = pi.sqrt() * noise.reshape(pi.shape)  # (B, S, K)
        return pad((scaled - pi * scaled.sum(-1, keepdim=True)).flatten(1), self.around)

    def entries(self) -> Tensor:
        """The matrices C (B, S·K·K)."""
        return self._blocks().flatten(1)

    def deviation(self) -> Tensor:
        """√(π(1 − π)) of each indicator, with zeros around them."""
        pi = self.probabilities.flatten(1)
        return pad((pi * (1 - pi)).sqrt(), self.around)

    def _blocks(self) -> Tensor:
        root = self.probabilities.sqrt()
        return torch.diag_embed(root) - self.probabilities.unsqueeze(-1) * root.unsqueeze(-2)


@dataclass(frozen=True)
class StepFactor:
    """The factor of a step that is linear in its noise: G v = step(x, a, v) − step(x, a, 0).

    Attributes:
        step: (state (B, D), action (B, A), noise (B, M)) -> next state (B, D), row by row.
        state: x.
        action: a.
        mean: step(x, a, 0).
        noise_size: M.
    """

    step: Callable[[Tensor, Tensor, Tensor], Tensor]
    state: Tensor
    action: Tensor
    mean: Tensor
    noise_size: int

    def matrix(self) -> Tensor:
        """The columns G e_k of all states from one call of the step, or a few of many rows."""
        count = len(self.mean)
        unit = torch.eye(self.noise_size, dtype=self.mean.dtype, device=self.mean.device)
        columns = []
        for some in unit.split(max(1, _ROWS_AT_ONCE // count)):  # (C, M)
            state, action = (one.repeat(len(some), 1) for one in (self.state, self.action))
            moved = self.step(state, action, some.repeat_interleave(count, 0))  # (C·B, D)
            columns.append(moved.unflatten(0, (len(some), count)) - self.mean)
        return torch.cat(columns).permute(1, 2, 0)

    def product(self, noise: Tensor) -> Tensor:
        """The change of the step by the noise, from one call."""
        return self.step(self.state, self.action, noise) - self.mean

    def entries(self) -> Tensor:
        """All entries."""
        return self.matrix().flatten(1)

    def deviation(self) -> Tensor:
        """Norms of the rows."""
        return self.matrix().square().sum(2).sqrt()


def no_noise(state: Tensor) -> NoiseFactor:
    """The factor (B, D, 0) of a deterministic step at states (B, D)."""
    return DenseFactor(state.new_zeros(*state.shape, 0))

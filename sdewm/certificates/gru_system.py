"""A recurrent world model with a GRU cell as an Itô system with proven rates (S16–S18, S21)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from sdewm.base.checks import check_count, check_finite_number
from sdewm.certificates.certificate import Certificate, certify, checksum
from sdewm.certificates.network_system import relaxed_rates
from sdewm.sde.rates import Rates


class RecurrentSystem:
    r"""The latent dynamics h' = GRU((z, a), h), z' = m(h') + s ξ of a recurrent world model.

    As an Itô system of the state (h, z) with relaxation time 1,

        dh = (GRU((z, a), h) − h) dt,   dz = (m(GRU((z, a), h)) − z) dt + s dB.

    One Euler–Maruyama step of size 1 is the model's native step (S21). The action a is constant.
    For steps up to 1 the set |h|_∞ ≤ 1 is invariant. The rates are proven on this set, block by
    block, from the certificates of the cell and of the head.

    Noise type "additive": f is (B, R + Z), g is (B, R + Z, Z). Both modules are in float64.

    Args:
        cell: GRU cell with R hidden units and Z + A inputs.
        head: m, a module (B, R) -> (B, Z).
        noise: s.
        action: a (A,); default: no action (A = 0).
        start: initial state (h, z), shape (R + Z,); default: zeros.

    Raises:
        ValueError: the sizes do not match.

    >>> system = RecurrentSystem.like_trained(hidden=8, latent=2, seed=0)
    >>> system.f(torch.zeros(()), system.x0[None]).shape, system.blocks
    (torch.Size([1, 10]), {'h': slice(0, 8, None), 'z': slice(8, 10, None)})
    """

    noise_type, sde_type = "additive", "ito"

    def __init__(
        self,
        cell: nn.GRUCell,
        head: nn.Module,
        *,
        noise: float = 0.1,
        action: torch.Tensor | None = None,
        start: torch.Tensor | None = None,
    ) -> None:
        """Check the sizes."""
        self.cell, self.head = cell, head
        self.noise = check_finite_number("noise", noise)
        self.action = torch.zeros(0, dtype=torch.float64) if action is None else action.detach()
        hidden, latent = cell.hidden_size, cell.input_size - len(self.action)
        with torch.no_grad():
            shape = tuple(head(torch.zeros(1, hidden, dtype=torch.float64)).shape)
        if latent < 1 or shape != (1, latent):
            raise ValueError(
                f"head returned shape {shape} for (1, {hidden}); expected (1, Z) with Z = "
                f"cell.input_size − len(action) = {cell.input_size} − {len(self.action)} ≥ 1."
            )
        self.state_size = hidden + latent
        self.blocks = {"h": slice(0, hidden), "z": slice(hidden, self.state_size)}
        self.x0 = torch.zeros(self.state_size, dtype=torch.float64) if start is None else start
        if tuple(self.x0.shape) != (self.state_size,):
            shape = tuple(self.x0.shape)
            raise ValueError(f"start has shape {shape}; expected (R + Z,) = ({self.state_size},).")
        self._certificates: dict[tuple[int, int], tuple[Certificate, Certificate]] = {}

    @classmethod
    def like_trained(
        cls, *, hidden: int = 32, latent: int = 8, gain: float = 1.2, seed: int = 0
    ) -> RecurrentSystem:
        """A model with random weights of a size typical after training.

        The recurrent matrices are orthogonal times `gain`. The input matrices and the two-layer
        tanh head have unit gain. The update gates have bias 1, which favours keeping the state.

        Args:
            hidden: number of hidden units R.
            latent: size Z of the latent.
            gain: scale of the recurrent matrices.
            seed: seed of the weights.
        """
        check_count("hidden", hidden)
        check_count("latent", latent)
        generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        cell = nn.GRUCell(latent, hidden, dtype=torch.float64)
        head = nn.Sequential(
            nn.Linear(hidden, hidden, dtype=torch.float64),
            nn.Tanh(),
            nn.Linear(hidden, latent, dtype=torch.float64),
        )
        with torch.no_grad():
            for gate in range(3):
                part = slice(gate * hidden, (gate + 1) * hidden)
                cell.weight_hh[part] = gain * torch.linalg.qr(normal(hidden, hidden)).Q
                cell.weight_ih[part] = normal(hidden, latent) / math.sqrt(hidden)
            cell.bias_hh.zero_()
            cell.bias_ih.zero_()
            cell.bias_ih[hidden : 2 * hidden] = 1.0
            for layer in (head[0], head[2]):
                assert isinstance(layer, nn.Linear)
                layer.weight.copy_(normal(*layer.weight.shape) / math.sqrt(layer.in_features))
                layer.bias.copy_(0.1 * normal(layer.out_features))
            start = torch.cat((torch.tanh(normal(hidden)), normal(latent)))
        return cls(cell.requires_grad_(False), head.requires_grad_(False), start=start)

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, R + Z)."""
        h, z = y[:, self.blocks["h"]], y[:, self.blocks["z"]]
        after = gru(self.cell, torch.cat((z, self.action.to(y).expand(len(y), -1)), dim=1), h)
        return torch.cat((after - h, self.head(after) - z), dim=1)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, R + Z, Z)."""
        latent = self.blocks["z"].stop - self.blocks["z"].start
        only = torch.eye(self.state_size, dtype=y.dtype, device=y.device)[:, -latent:]
        return (self.noise * only).expand(len(y), -1, -1)

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Drift and noise increment, each (B, R + Z), without forming the matrix of g."""
        return self.f(t, y), torch.nn.functional.pad(self.noise * v, (self.blocks["z"].start, 0))

    @property
    def certificates(self) -> tuple[Certificate, Certificate]:
        """The certificates of cell and head for the current parameters."""
        current = checksum(self.cell), checksum(self.head)
        if current not in self._certificates:
            self._certificates = {current: (certify(self.cell), certify(self.head))}
        return self._certificates[current]

    def certified_rates(
        self, low: torch.Tensor, high: torch.Tensor, step_size: float, blocks: Sequence[slice]
    ) -> Rates:
        """Rates, N = 1, for all paths that start in |h|_∞ ≤ 1, for steps up to 1 (plus 1e-12).

        Raises:
            ValueError: the box is not in this set, the step exceeds 1, or the blocks are not
                (h, z).
        """
        own = list(self.blocks.values())
        hidden = torch.cat((low[own[0]], high[own[0]]))
        if step_size > 1.0 + 1e-12 or bool((hidden.abs() > 1.0).any()):
            raise ValueError(
                f"step_size={step_size:g}, |h| up to {float(hidden.abs().max()):g}: rates are "
                "proven for steps up to 1 and |h| ≤ 1 only."
            )
        if list(blocks) != own:
            raise ValueError(f"blocks={list(blocks)!r}: rates are proven for {own!r} only.")
        cell, head = self.certificates
        hh, hz, m = (
            cell.parts["hidden"].lipschitz_2,
            cell.parts["input"].lipschitz_2,
            head.lipschitz_2,
        )
        norms = torch.tensor([[hh, hz], [m * hh, m * hz]], dtype=torch.float64)
        log_norms = norms.clone()
        hidden_log_norm = cell.parts["hidden"].log_norm_2
        assert hidden_log_norm is not None  # a square block
        log_norms[0, 0] = min(hh, hidden_log_norm)
        both = cell.lipschitz_2 * math.sqrt(1.0 + m**2)
        norm = torch.linalg.matrix_norm(norms, 2).clamp_max(both)[None] * (1.0 + 1e-12)
        bend = head.curvature_2 * cell.lipschitz_2**2 + m * cell.curvature_2
        curvature = math.hypot(cell.curvature_2, bend)
        return relaxed_rates(norms, log_norms, norm, curvature, step_size, 1.0)


def gru(cell: nn.GRUCell, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """The cell in elementary operations, for which torch computes second derivatives correctly.

    h' = (1 − u) ⊙ c + u ⊙ h, c = tanh(W_n x + b_n + r ⊙ (U_n h + d_n)), r and u sigmoid gates.
    """
    given = torch.nn.functional.linear(x, cell.weight_ih, cell.bias_ih).chunk(3, dim=1)
    kept = torch.nn.functional.linear(h, cell.weight_hh, cell.bias_hh).chunk(3, dim=1)
    reset, update = torch.sigmoid(given[0] + kept[0]), torch.sigmoid(given[1] + kept[1])
    candidate = torch.tanh(given[2] + reset * kept[2])
    return (1.0 - update) * candidate + update * h

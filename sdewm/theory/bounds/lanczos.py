"""Rates of large systems by Lanczos iteration on Jacobian products.

No Jacobian is formed: each iteration costs one batched Jacobian–vector product and one batched
vector–Jacobian product for all states. Ritz values approach the largest eigenvalue from below, so
the rates can be used for estimates but not for certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch.func import jvp, vjp

from sdewm.base.taylor import Tensors
from sdewm.jacobian.krylov import largest_ritz_pair

Coefficient = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
LARGE = 64  # components above which this is used
_ITERATIONS = 10
_ITERATIONS_AGAIN = 4  # from the Ritz vectors of nearby states
_FRESH = 0.1  # share of random direction in such a start, lest a new largest one be missed
_MOST_BLOCKS = 4  # of which norms are computed pair by pair


class _Form(NamedTuple):
    """A symmetric operator made of one product with the Jacobians and one with their transposes.

    `gram`: Rᵀ P R with R = (own I + share A) restricted to the columns `inner`, P the rows `outer`;
    else sym A restricted to `inner`. Either plus `noise` times Σ A_kᵀA_k.
    """

    gram: bool
    own: float = 0.0
    share: float = 1.0
    noise: float = 0.0
    inner: slice = slice(None)
    outer: slice = slice(None)


def iterated_rates(
    drift: Coefficient,
    diffusion: Coefficient,
    t: torch.Tensor,
    states: torch.Tensor,
    step_size: float,
    blocks: Sequence[slice],
) -> dict[str, torch.Tensor]:
    """The rates of `jacobian_rates` at states `(S, D)`, computed without forming Jacobians.

    ν is replaced by −α, κ by β, and λ_1 by λ_2; these are valid and no smaller (ν: no larger).
    Block norms for more than four blocks or multiplicative noise are not computed and are infinite.
    """
    return RateIteration(drift, diffusion, step_size, blocks).rates(t, states)


class RateIteration:
    """`iterated_rates` along paths; each call starts from the Ritz vectors of the previous call.

    Args:
        drift: (t, y) -> f `(B, D)`.
        diffusion: (t, y) -> g, or those of its entries that are not always zero, `(B, …)`.
        step_size: Δ.
        blocks: blocks of the state.
    """

    def __init__(
        self,
        drift: Coefficient,
        diffusion: Coefficient,
        step_size: float,
        blocks: Sequence[slice],
    ) -> None:
        self.drift, self.diffusion = drift, diffusion
        self.step_size, self.blocks = step_size, blocks
        self._ritz: torch.Tensor | None = None

    def rates(self, t: torch.Tensor, states: torch.Tensor) -> dict[str, torch.Tensor]:
        """See `iterated_rates`; each row of `states` should be near that row of the last call."""
        step_size, blocks = self.step_size, self.blocks
        additive = _is_additive(self.diffusion, t, states)
        forms = _forms(step_size, blocks, additive)

        def coefficients(x: torch.Tensor) -> Tensors:
            drift = self.drift(t, x)
            return (drift,) if additive else (drift, self.diffusion(t, x))

        top, self._ritz = _largest(coefficients, states, [*forms.values()], self._ritz)
        value = dict(zip(forms, top, strict=True))
        root = {name: part.clamp_min(0).sqrt() for name, part in value.items()}
        noise = root.get("noise", torch.zeros_like(root["drift"]))
        # ((I + ΔA)v · A_k v)² sums to at most a² β²
        fourth = root["step"] ** 4 + 4 * step_size * (root["step"] * noise) ** 2
        second, count = value["second"], len(blocks)
        norms = second.new_full((len(states), count, count), torch.inf)
        step_norms = norms.clone()
        if "0,0" in forms:
            for i in range(count):
                for j in range(count):
                    step_norms[:, i, j] = root[f"{i},{j}"]
                    # (I + ΔA)_ij = ΔA_ij off the diagonal
                    norms[:, i, j] = value[f"{i}"] if i == j else root[f"{i},{j}"] / step_size
        return {
            "drift": root["drift"],
            "noise": noise,
            "log_norm": torch.stack((second, second, second + noise**2)),
            "least_log_norm": -root["drift"],
            "radial": noise,
            "step": root["step"],
            "fourth": (fourth + 2 * step_size**2 * noise**4) ** 0.25,
            "blocks": norms,
            "step_blocks": step_norms,
        }


def _forms(step_size: float, blocks: Sequence[slice], additive: bool) -> dict[str, _Form]:
    """Name -> operator; those of blocks are i for sym A_ii and "i,j" for (I + ΔA)_ij."""
    forms = {
        "drift": _Form(gram=True),
        "second": _Form(gram=False, noise=0.0 if additive else 0.5),
        "step": _Form(True, own=1.0, share=step_size, noise=0.0 if additive else step_size),
    }
    if not additive:
        forms["noise"] = _Form(gram=True, share=0.0, noise=1.0)
    elif len(blocks) <= _MOST_BLOCKS:
        for i, row in enumerate(blocks):
            forms[f"{i}"] = _Form(gram=False, inner=row)
            for j, column in enumerate(blocks):
                own = 1.0 if i == j else 0.0
                forms[f"{i},{j}"] = _Form(True, own, step_size, 0.0, inner=column, outer=row)
    return forms


def _is_additive(diffusion: Coefficient, t: torch.Tensor, states: torch.Tensor) -> bool:
    change = jvp(partial(diffusion, t), (states,), (_random_like(states),))[1]
    return not bool(change.any())


def _random_like(states: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(states.shape, dtype=states.dtype, generator=generator).to(states.device)


def _largest(
    coefficients: Callable[[torch.Tensor], Tensors],
    states: torch.Tensor,
    forms: Sequence[_Form],
    near: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest Ritz value of each form at each state, `(O, S)`, all forms in one batch.

    And the Ritz vectors `(O·S, D)`, of which `near` are those at states close by.
    """
    many, (batch, size) = len(forms), states.shape
    stacked = states.repeat(many, 1)

    def column(values: Sequence[float]) -> torch.Tensor:
        return states.new_tensor(values).repeat_interleave(batch)[:, None]

    def mask(parts: Sequence[slice]) -> torch.Tensor:
        rows = states.new_zeros(many, size)
        for row, part in zip(rows, parts, strict=True):
            row[part] = 1.0
        return rows.repeat_interleave(batch, dim=0)

    pull = vjp(coefficients, stacked)[1]
    own, share, noise = (column([getattr(form, k) for form in forms]) for k in _WEIGHTS)
    gram = column([float(form.gram) for form in forms])
    inner, outer = mask([form.inner for form in forms]), mask([form.outer for form in forms])

    def operator(v: torch.Tensor) -> torch.Tensor:
        v = inner * v
        pushed, *noise_pushed = jvp(coefficients, (stacked,), (v,))[1]
        between = gram * outer * (own * v + share * pushed)
        cotangent = share * between + 0.5 * (1.0 - gram) * v
        weighted = [noise.reshape(-1, *[1] * (g.dim() - 1)) * g for g in noise_pushed]
        (pulled,) = pull((cotangent, *weighted))
        return inner * (own * between + 0.5 * (1.0 - gram) * pushed + pulled)

    start, iterations = inner * _random_like(stacked), _ITERATIONS
    if near is not None and near.shape == start.shape:  # noise may set in on the way
        start = near + _FRESH * start / start.norm(dim=1, keepdim=True)
        iterations = _ITERATIONS_AGAIN
    values, vectors = largest_ritz_pair(operator, start, iterations)
    return values.reshape(many, -1), vectors


_WEIGHTS = ("own", "share", "noise")

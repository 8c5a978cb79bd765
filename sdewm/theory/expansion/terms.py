"""Definition of the expansion terms as averages over a path and its variations (S4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sdewm.base.taylor import Tensors, second_order
from sdewm.theory.expansion.error_variation import ETA, XI

# What is averaged over paths; Q_drift is split because its parts scale differently in the two error
# sizes.
QUANTITIES = (
    "c0",
    "P",
    "Q",
    "S",
    "P_drift",
    "Q_drift_drift",
    "Q_drift_diffusion",
    "S_cross",
    "S_drift",
)
# Each term as a combination of the quantities (S4, equation 2).
TERMS: dict[str, dict[str, float]] = {
    "c0": {"c0": 1},
    "P": {"P": 1},
    "Q": {"Q": 1},
    "S": {"S": 1},
    "P_drift": {"P_drift": 1},
    "Q_drift": {"Q_drift_drift": 1, "Q_drift_diffusion": 1},
    "S_cross": {"S_cross": 1},
    "S_drift": {"S_drift": 1},
    "c1": {"P": 1, "P_drift": 1},
    "c2": {
        "Q": 1,
        "S": 0.5,
        "Q_drift_drift": 1,
        "Q_drift_diffusion": 1,
        "S_cross": 1,
        "S_drift": 0.5,
    },
}


def quantity_weights(combination: dict[str, float]) -> np.ndarray:
    """The linear combination as a vector over QUANTITIES."""
    return np.array([combination.get(name, 0.0) for name in QUANTITIES])


def prediction_weights(drift_size: float, diffusion_size: float) -> np.ndarray:
    """Weights over QUANTITIES of the prediction at sizes ε_d of the drift and ε_n of the diffusion.

    See S4, last bullet. For ε_d = ε_n = ε the prediction is c0 + ε c1 + ε² c2.
    """
    d, n = drift_size, diffusion_size
    first = {"c0": 1.0, "P": n, "P_drift": d}
    second = {"Q": n * n, "S": 0.5 * n * n, "Q_drift_drift": d * d, "S_drift": 0.5 * d * d}
    return quantity_weights(first | second | {"Q_drift_diffusion": d * n, "S_cross": d * n})


def path_quantities(
    loss: Callable[[torch.Tensor], Tensors],
    losses: torch.Tensor,
    x: torch.Tensor,
    firsts: dict[str, torch.Tensor],
    seconds: dict[tuple[str, str], torch.Tensor],
) -> torch.Tensor:
    """QUANTITIES `(B, 9)` in float64 of paths that end in x `(B, D)` with loss `losses` `(B,)`.

    Args:
        loss: L as a tuple of one tensor `(B,)`.
        losses: L(x).
        x: end states.
        firsts: y by direction; missing directions are zero.
        seconds: w by pair of directions; missing pairs are zero.
    """
    zero, names, pairs = torch.zeros_like(x), (ETA, XI), ((0, 0), (0, 1), (1, 1))
    directions = [firsts.get(name, zero) for name in names]
    directions += [seconds.get((names[a], names[b]), zero) for a, b in pairs]
    with torch.no_grad():
        _, slopes, curvatures = second_order(
            loss,
            (x,),
            [(d,) for d in directions],
            {pair: (zero,) for pair in pairs},
        )
    eta, xi, w_eta_eta, w_eta_xi, w_xi_xi = (slope[0] for slope in slopes)
    s, s_cross, s_drift = (curvatures[pair][0] for pair in pairs)
    columns = (losses, eta, 0.5 * w_eta_eta, s, xi, 0.5 * w_xi_xi, w_eta_xi, s_cross, s_drift)
    return torch.stack(columns, dim=1).detach().to(torch.float64)

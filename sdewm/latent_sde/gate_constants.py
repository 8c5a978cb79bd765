"""Reports why layer-normalised gates admit no non-vacuous certificate."""

from __future__ import annotations

from torch import nn

from sdewm.certificates.certificate import certify
from sdewm.latent_sde.models import LatentModel, RSSMModel
from sdewm.model.rssm import GRUCell


def why_no_certificate(model: LatentModel) -> dict[str, str]:
    """The reason, under "certificate", for a GRU with normalised gates; {} for other models.

    The proven Lipschitz constant of a layer normalisation is max|γ|/√ε
    (`certificates.normalisation`). It is attained where all gates are nearly equal, far from any
    state of a trained model. The number reported is the constant of x, h -> gates that `certify`
    proves; the constant of a step, which multiplies up over a rollout, is of that order.
    """
    cell = model.rssm.cell if isinstance(model, RSSMModel) else None
    if not isinstance(cell, GRUCell):
        return {}
    constant = certify(nn.Sequential(cell.gates, cell.gates_norm)).lipschitz_2
    floor = cell.gates_norm.eps
    return {
        "certificate": (
            f"the cell normalises its gates: with ε = {floor:g} all that is proven of them is a "
            f"Lipschitz constant of {constant:.3g} per step, which is vacuous. "
            "sdewm.enclose_rollouts encloses small errors without it."
        )
    }

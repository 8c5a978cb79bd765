"""Why rollouts of a trained recurrent model are not certified."""

from __future__ import annotations

from torch import nn

from sdewm.certificates.certificate import certify
from sdewm.latent_sde.models import LatentModel, RSSMModel
from sdewm.model.rssm import GRUCell


def why_no_certificate(model: LatentModel) -> dict[str, str]:
    """Why there is none, under "certificate", for a GRU with normalised gates; {} for the others.

    A layer normalisation is proven no steeper than max|γ|/√ε (`certificates.normalisation`), as it
    is where all gates are nearly equal, which no state of a trained model comes near. The number
    given is the constant of x, h -> gates that `certify` proves; what multiplies it from step to
    step is of its order.
    """
    cell = model.rssm.cell if isinstance(model, RSSMModel) else None
    if not isinstance(cell, GRUCell):
        return {}
    constant = certify(nn.Sequential(cell.gates, cell.gates_norm)).lipschitz_2
    floor = cell.gates_norm.eps
    return {
        "certificate": (
            f"the cell normalises its gates: with ε = {floor:g} all that is proven of them is a "
            f"Lipschitz constant of {constant:.3g} per step, which is vacuous."
        )
    }

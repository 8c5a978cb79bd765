"""Contraction of the divergence between model and posterior (arXiv 2510.07777).

D_k is the KL divergence, in nats, of the posterior given all observations from the prior k steps
after the last observation, a mean over samples and test episodes. With the least-squares fit

    D_{k+1} = a D_k + c,

a < 1 pulls the divergence back to the equilibrium c/(1 − a); with a ≥ 1 there is none within the
horizon. a is dimensionless, per policy step. It says how early a curve reaches its plateau, not how
high that is or how fast the curve rises: of two models, the one whose divergence grows faster, to a
higher plateau, may have the smaller a. With fewer episodes, whose curves are noisier, a is smaller.
"""

from __future__ import annotations

import math

import numpy as np

from sdewm.open_loop.error_growth import fit_equilibrium
from sdewm.related.quantity import Quantity
from sdewm.study.end_points import Measurement

NAME, PAPER = "drift_equilibrium", "2510.07777"


def contraction(curve: np.ndarray) -> float:
    """Factor a of the fit to D_1 … D_H; 0 if the curve relaxes within a step.

    >>> curve = [1.0]
    >>> for _ in range(20):
    ...     curve.append(0.8 * curve[-1] + 1)
    >>> contraction(np.array(curve))
    0.8
    """
    return math.exp(fit_equilibrium(curve).rate)


def measure(given: Measurement) -> float:
    """Factor a of the open-loop divergence."""
    return contraction(given.predicted.rollout.kl.mean((0, 1)))


QUANTITIES = (
    Quantity(
        NAME,
        PAPER,
        "Contraction of the latent KL",
        "factor a per step",
        "slope of D_{k+1} over D_k; smaller: an earlier plateau, which may be a higher one",
        measure,
    ),
)

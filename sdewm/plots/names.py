"""Names of systems in words, for titles."""

from __future__ import annotations

import re

SYSTEMS = {
    "CircleDiffusion": "Diffusion on the circle",
    "ClosedLoop": "Linear closed loop",
    "CubicFlow": r"Cubic drift, $dx=-x^3\,dt$",
    "CurvatureCounterexample": "Concave value function",
    "EnumerationWorldModel": "Small tanh world model",
    "GRU": "GRU model",
    "GeometricBrownianMotion": "Geometric Brownian motion",
    "LinearFlow": "Linear SDE",
    "LinearWorldModel": "Linear model",
    "OrnsteinUhlenbeck": "Ornstein–Uhlenbeck process",
    "PearsonDiffusion": "Pearson diffusion",
    "QuadraticCascade": "Quadratic cascade",
    "RegularityCounterexample": "Loss that is only twice differentiable",
    "ScaledGeometricBrownianMotion": "Geometric Brownian motion, perturbed volatility",
    "TanhWorldModel": "Random tanh networks",
    "tanh network": "tanh network, trained",
}


def system_name(name: str) -> str:
    """The system in words; a class of the user is split into the words of its name.

    >>> system_name("OrnsteinUhlenbeck"), system_name("my_systems:DampedPendulum")
    ('Ornstein–Uhlenbeck process', 'Damped pendulum')
    """
    if name in SYSTEMS:
        return SYSTEMS[name]
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.rpartition(":")[2])
    return words[:1].upper() + words[1:].lower()


def short_name(name: str) -> str:
    """The same without what follows a comma.

    >>> short_name("CubicFlow")
    'Cubic drift'
    """
    return system_name(name).partition(",")[0]

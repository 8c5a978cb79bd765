"""Example systems with initial state, loss, error and, if known, exact expansion terms."""

from sdewm.sde.examples.circle_diffusion import CircleDiffusion
from sdewm.sde.examples.closed_loop import ClosedLoop
from sdewm.sde.examples.counterexamples import CurvatureCounterexample, RegularityCounterexample
from sdewm.sde.examples.cubic_flow import CubicFlow
from sdewm.sde.examples.enumeration_world_model import EnumerationWorldModel
from sdewm.sde.examples.geometric_brownian_motion import (
    GeometricBrownianMotion,
    ScaledGeometricBrownianMotion,
)
from sdewm.sde.examples.linear_flow import LinearFlow
from sdewm.sde.examples.linear_world_model import LinearWorldModel
from sdewm.sde.examples.ornstein_uhlenbeck import OrnsteinUhlenbeck
from sdewm.sde.examples.pearson_diffusion import PearsonDiffusion
from sdewm.sde.examples.quadratic_cascade import QuadraticCascade
from sdewm.sde.examples.tanh_world_model import TanhWorldModel

__all__ = [
    "CircleDiffusion",
    "ClosedLoop",
    "CubicFlow",
    "CurvatureCounterexample",
    "EnumerationWorldModel",
    "GeometricBrownianMotion",
    "LinearFlow",
    "LinearWorldModel",
    "OrnsteinUhlenbeck",
    "PearsonDiffusion",
    "QuadraticCascade",
    "RegularityCounterexample",
    "ScaledGeometricBrownianMotion",
    "TanhWorldModel",
]

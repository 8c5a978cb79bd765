"""Brownian increments on a fixed grid: streamed in time, and a function of (seed, path index) only.

GaussianNoise     normal increments
TwoPointNoise     increments ±√Δ, one random bit each
EnumeratedNoise   all patterns of ±√Δ
"""

from sdewm.sde.noise.enumerated import EnumeratedNoise as EnumeratedNoise
from sdewm.sde.noise.gaussian import GaussianNoise as GaussianNoise
from sdewm.sde.noise.grid import GridNoise as GridNoise
from sdewm.sde.noise.two_point import TwoPointNoise as TwoPointNoise

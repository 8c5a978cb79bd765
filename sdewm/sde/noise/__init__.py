"""Brownian increments on a fixed grid, streamed in time and determined by (seed, path index) alone.

GaussianNoise     normal increments
TwoPointNoise     increments ±√Δ with probability ½ each
EnumeratedNoise   all patterns of increments ±√Δ, each once
"""

from sdewm.sde.noise.enumerated import EnumeratedNoise as EnumeratedNoise
from sdewm.sde.noise.gaussian import GaussianNoise as GaussianNoise
from sdewm.sde.noise.grid import GridNoise as GridNoise
from sdewm.sde.noise.two_point import TwoPointNoise as TwoPointNoise

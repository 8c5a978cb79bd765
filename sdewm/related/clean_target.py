"""Predicting clean observations from perturbed ones (arXiv 2312.09056, ReCoRe).

ReCoRe adds the auxiliary task of predicting what an intervention on the input left unchanged. Its
nearest form here is the arm "matched_noise" of the study: the encoder sees observations with noise
of standard deviation 0.1, the decoder has to predict those without. The value is the difference
of the end point "area noise" (ln of the area under the error as a function of the noise) to the
arm "baseline", paired by seed. It needs the rows of the study only.
"""

from __future__ import annotations

from collections.abc import Mapping

from sdewm.robustness.statistics import Comparison, compare

NAME, PAPER = "clean_target", "2312.09056"
ARM, BASELINE, END_POINT = "matched_noise", "baseline", "area noise"
MEANING = "ln error under noise of training with noisy inputs and clean targets; lower is better"


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Comparison:
    """Values of two arms by seed, compared over the seeds that both have.

    >>> difference({0: 1.0, 1: 2.0, 2: 9.0}, {0: 3.0, 1: 4.5}).difference.estimate
    -2.25
    """
    seeds = sorted({*ours} & {*theirs})
    return compare([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])

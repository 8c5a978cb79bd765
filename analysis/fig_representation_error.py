"""Drift and diffusion of the latent under perturbed observations, for a trained world model.

    python analysis/fig_representation_error.py     redraw the committed table
    python analysis/fig_representation_error.py runs/cartpole --data data/cartpole
    python analysis/fig_representation_error.py runs/cartpole --data data/cartpole --draws 16

The question is whether zero-mean observation noise causes zero drift in the latent. The run comes
from `sdewm train`, the data from `sdewm record`. Every applicable perturbation is applied at
several strengths, at states of clean episodes (single frame). The latent error is split into drift
and diffusion, with episodes as the independent units. The figure shows squared sizes relative to
the variance of the posterior. The table also contains drift fractions, tests of zero drift and
correlation times.
"""

from functools import partial

from sdewm.report.representation_error import ANALYSIS
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, ANALYSIS, __doc__)

if __name__ == "__main__":
    main()

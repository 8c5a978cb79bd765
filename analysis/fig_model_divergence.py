"""Divergence of a trained model's imagination from a perturbed latent: measured, and all bounds.

    python analysis/fig_model_divergence.py     redraw the committed table
    python analysis/fig_model_divergence.py runs/model --data data/cartpole
    python analysis/fig_model_divergence.py runs/model --data data/cartpole --horizon 20

Two rollouts are imagined on the same noise: one from the posterior state at row --start, one from
that state when the encoder sees perturbed observations. The figure shows their distance, the
prediction of the first variation, and all grades of bounds. It also shows the bias of the critic's
value with its first and second order. Error bars treat episodes as the independent units.
"""

from functools import partial

from sdewm.report.divergence import ANALYSIS
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, ANALYSIS, __doc__)

if __name__ == "__main__":
    main()

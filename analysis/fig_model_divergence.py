"""How far does a wrong latent carry a trained model's imagination? Measured, and every bound.

python analysis/fig_model_divergence.py     the committed table, drawn anew
python analysis/fig_model_divergence.py runs/model --data data/cartpole
python analysis/fig_model_divergence.py runs/model --data data/cartpole --horizon 20 --strength 0.3

Two imagined rollouts on the same noise, from the posterior state at row --start and from what that
state becomes if the encoder sees perturbed observations. Drawn are their distance, what the first
variation predicts, and all grades of bound; and the bias of the critic's value with its first and
second order. Episodes are the units of error bars.
"""

from functools import partial

from sdewm.report.divergence import ANALYSIS
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, ANALYSIS, __doc__)

if __name__ == "__main__":
    main()

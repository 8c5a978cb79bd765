"""The change of a trained model's losses under its encoder's error: measured, and second order.

python analysis/fig_model_expansion.py     the committed table, drawn anew
python analysis/fig_model_expansion.py runs/model --data data/cartpole
python analysis/fig_model_expansion.py runs/model --data data/cartpole --perturbation mask

From row --start of recorded episodes on, the encoder is shown perturbed observations for --horizon
steps. The error is scaled from ε = 0 to 1, at 1 the model fed with them. Drawn are the change of
the loss at the end, measured on shared noise; the second-order prediction with the error as the
encoder makes it; and with the drift and diffusion measured beforehand, which do not depend on the
state. The table holds the terms of both expansions as well. Episodes are the units of error bars.
"""

from functools import partial

from sdewm.report.expansion import ANALYSIS
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, ANALYSIS, __doc__)

if __name__ == "__main__":
    main()

"""Change of a trained model's losses under its encoder's error: measured, and to second order.

    python analysis/fig_model_expansion.py     redraw the committed table
    python analysis/fig_model_expansion.py runs/model --data data/cartpole
    python analysis/fig_model_expansion.py runs/model --data data/cartpole --perturbation mask

After row --start of each recorded window, the encoder sees perturbed observations for --horizon
steps. The error is scaled from ε = 0 to 1; at ε = 1 the model is fed with the perturbed
observations. The figure shows the change of the final loss, measured on shared noise, and two
second-order predictions: with the encoder's error at each state, and with the measured drift and
diffusion, which do not depend on the state. The table also contains the terms of both expansions.
Error bars treat episodes as the independent units.
"""

from functools import partial

from sdewm.report.expansion import ANALYSIS
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, ANALYSIS, __doc__)

if __name__ == "__main__":
    main()

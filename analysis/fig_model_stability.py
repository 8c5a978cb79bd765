"""Growth of small differences in a trained world model: Jacobians and Lyapunov exponents.

    python analysis/fig_model_stability.py     redraw the committed table
    python analysis/fig_model_stability.py runs/model --data data/cartpole
    python analysis/fig_model_stability.py runs/model --data data/cartpole --exponents 1

The figure shows sizes of the Jacobian of one step of the prior at posterior states, and the leading
Lyapunov exponents of imagined trajectories, with recorded actions and with the policy in closed
loop. Error bars treat episodes as the independent units.
"""

from functools import partial

from sdewm.report.stability import ANALYSIS
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, ANALYSIS, __doc__)

if __name__ == "__main__":
    main()

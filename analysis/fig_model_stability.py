"""Does a trained world model let small differences grow? Jacobians and Lyapunov exponents.

python analysis/fig_model_stability.py     the committed table, drawn anew
python analysis/fig_model_stability.py runs/model --data data/cartpole
python analysis/fig_model_stability.py runs/model --data data/cartpole --exponents 1 --steps 100

Sizes of the Jacobian of one step of the prior at posterior states, and the leading Lyapunov
exponents of imagined trajectories, with recorded actions and with the policy in the loop. Episodes
are the units of error bars.
"""

from functools import partial

from sdewm.report.stability import ANALYSIS
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, ANALYSIS, __doc__)

if __name__ == "__main__":
    main()

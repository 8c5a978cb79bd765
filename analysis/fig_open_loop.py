"""Accuracy of a world model's open-loop predictions over the horizon.

    python analysis/fig_open_loop.py     redraw the committed table
    python analysis/fig_open_loop.py runs/model --data data/cartpole
    python analysis/fig_open_loop.py runs/model --data data/cartpole --context 5 --horizon 100

After --context observed rows, the prior is rolled out under the recorded actions. Every metric is
drawn with reference lines: copying the last row, the mean of the data, the one-step prediction, and
unrelated episodes. The table also contains growth rates, saturation levels, predictability horizons
and equilibrium fits. All intervals treat episodes as the independent units.
"""

from functools import partial

from sdewm.report.open_loop import ANALYSIS
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, ANALYSIS, __doc__)

if __name__ == "__main__":
    main()

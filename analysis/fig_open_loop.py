"""How long is a world model's prediction worth having? Open-loop errors over the horizon.

python analysis/fig_open_loop.py     the committed table, drawn anew
python analysis/fig_open_loop.py runs/model --data data/cartpole
python analysis/fig_open_loop.py runs/model --data data/cartpole --context 5 --horizon 100

After --context observed rows the prior is rolled out under the recorded actions. Every metric is
drawn with reference lines: copying the last row, the mean of the data, the prediction from the row
before, unrelated episodes. The table holds growth rates, saturation, predictability horizons and
equilibrium fits as well. Episodes are the units of all intervals.
"""

from functools import partial

from sdewm.report.open_loop import PART
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, PART, __doc__)

if __name__ == "__main__":
    main()

"""Is zero-mean noise on observations zero drift in the latent? Measured on a trained world model.

python analysis/fig_representation_error.py     the committed table, drawn anew
python analysis/fig_representation_error.py runs/cartpole --data data/cartpole
python analysis/fig_representation_error.py runs/cartpole --data data/cartpole --draws 16

The run is one of `sdewm train`, the data one of `sdewm record`. Every perturbation that the
observations allow is shown to the encoder at several strengths, at states of clean episodes
(single frame), and the error of the latent is split into drift and diffusion, with episodes as
units. Drawn are squared sizes over the variance of the posterior; the table holds the shares of
drift, the tests of zero drift and the correlation in time as well.
"""

from functools import partial

from sdewm.report.representation_error import PART
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, PART, __doc__)

if __name__ == "__main__":
    main()

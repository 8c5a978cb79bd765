r"""Is zero-mean noise on images zero drift in the latent? Measured on a model of images.

python analysis/fig_representation_error_pixels.py     the committed table, drawn anew
python analysis/fig_representation_error_pixels.py runs/small-models/pixels \
    --data runs/small-models/pixel-episodes

As fig_representation_error.py, for a run on images: noise, masks, brightness, rotation, occlusion,
clipped and rounded as a camera's. `analysis/make_small_models.py --stage pixels` trains the model;
it needs OpenGL.
"""

from dataclasses import replace
from functools import partial

from sdewm.report.representation_error import PART
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, replace(PART, stem="fig_representation_error_pixels"), __doc__)

if __name__ == "__main__":
    main()

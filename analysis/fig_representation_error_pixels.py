r"""Drift and diffusion of the latent under perturbed images, for a trained world model.

    python analysis/fig_representation_error_pixels.py     redraw the committed table
    python analysis/fig_representation_error_pixels.py runs/small-models/pixels \
        --data runs/small-models/pixel-episodes

The method is that of fig_representation_error.py, for a run with image observations. The
perturbations are noise, mask, brightness, rotation and occlusion; perturbed images are clipped and
rounded as by a camera. `analysis/make_small_models.py --stage pixels` trains the model, which needs
OpenGL.
"""

from dataclasses import replace
from functools import partial

from sdewm.report.representation_error import ANALYSIS
from sdewm.scripts.model_figure import figure_main

main = partial(figure_main, replace(ANALYSIS, stem="fig_representation_error_pixels"), __doc__)

if __name__ == "__main__":
    main()

"""The shipped models are good enough to carry conclusions, and small."""

import numpy as np
import pytest
import torch

from paper_checks.cases.trained_models import AGENT, FOLDER, WITH, WITHOUT, trained_run
from paper_checks.check_latent_system import drift_squares, mirrored_noise
from sdewm.base.records import read_log
from sdewm.open_loop.baselines import copy_last
from sdewm.open_loop.errors import squared_error
from sdewm.open_loop.predictions import open_loop

CONTEXT, HORIZON = 20, 25


@pytest.mark.parametrize("name", [AGENT, WITHOUT, WITH])
def test_predictions_beat_copying_the_last_row_from_3_to_25_steps_ahead(name):
    run = trained_run(name)
    episodes = run.episodes(CONTEXT + HORIZON, None, 1)
    grid = {"context": CONTEXT, "horizon": HORIZON, "samples": 4, "seed": 0}
    found = open_loop(run.model, episodes, **grid)
    model = np.mean(
        [squared_error(one, found.observations) for one in found.rollout.observations], (0, 1)
    )
    copied = squared_error(copy_last(found.last_observation, HORIZON), found.observations).mean(0)
    assert (model[2:] < copied[2:]).all(), (model / copied).round(3)


def test_the_agent_returns_what_the_readme_says():
    rows, _ = read_log(FOLDER / AGENT / "evaluation.jsonl")
    assert rows[-1]["episodes"] == 20
    assert rows[-1]["mean_return"] > 600
    readme = (FOLDER.parents[1] / "README.md").read_text("utf-8")
    told = f"return {rows[-1]['mean_return']:.0f} ± {rows[-1]['standard_error']:.0f}"
    assert told in " ".join(readme.split())


def test_squares_of_the_drift_are_unbiased_and_mirrored_noise_leaves_no_linear_part():
    """A shift b + A n + c n² of mirrored noise n has the drift b + c E n²."""
    clean, generator = torch.zeros(2000, 3, 1), torch.Generator().manual_seed(0)
    noise = mirrored_noise(0.5)(clean, generator)
    assert torch.equal(noise[0::2], -noise[1::2])
    assert float(noise.std()) == pytest.approx(0.5, rel=0.05)
    shift = (0.3 + 7.0 * noise + 0.2 * noise**2).numpy()[None]  # (E, K, T, Z)
    assert drift_squares(shift).mean() == pytest.approx((0.3 + 0.2 * 0.25) ** 2, rel=0.01)
    unmirrored = shift[:, np.random.default_rng(0).permutation(2000)]
    assert abs(drift_squares(unmirrored).mean() - 0.1225) > 1e-3  # the linear part does not cancel


def test_the_weights_stay_small():
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(sizes) < 3e6

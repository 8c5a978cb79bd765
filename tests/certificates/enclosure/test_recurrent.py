"""GRU cells on sets: torch's, and cells written in torch."""

import pytest
import torch
from torch import nn

from sdewm.model.rssm import RSSM, RSSMConfig, gru_update
from tests.certificates.enclosure.members import Draw, outside, random_set

PARTS = (1.0, 0.5, 0.3, 0.2, 0.0)


def without_box(seed, shape, most=0.2):
    draw = Draw(seed)
    share = torch.rand(shape[0], 1, dtype=torch.float64, generator=draw.generator)
    return random_set(draw, shape, most * 10.0 ** (-6.0 * share), parts=PARTS)


@pytest.mark.parametrize("bias", [True, False])
def test_no_member_of_a_thousand_sets_escapes_from_torchs_cell(bias):
    torch.manual_seed(0)
    cell = nn.GRUCell(3, 4, bias=bias).double()
    x, h = without_box(1, (1000, 3)), without_box(2, (1000, 4))
    assert outside(cell, x, h).max() <= 1.0


def test_the_update_of_the_models_cells_is_enclosed():
    sets = [without_box(seed, (1000, 3), 0.5) for seed in range(4)]
    assert outside(gru_update, *sets).max() <= 1.0


@pytest.mark.parametrize(("cell", "norm"), [("gru", "layer"), ("block_gru", "rms")])
def test_no_member_escapes_from_a_step_of_the_models(cell, norm):
    """The layer-normalised GRU and the block GRU with its Gaussian head, as shipped."""
    config = RSSMConfig(cell=cell, deter=8, hidden=6, blocks=2, latent="gaussian", gaussian_size=3)
    torch.manual_seed(3)
    rssm = RSSM(config, actions=2, embed=3, norm=norm, activation="silu").double()
    for part in rssm.parameters():
        part.data.normal_(std=0.5).requires_grad_(False)
    action, noise = torch.rand(2).double(), torch.randn(3).double()

    def step(x):
        state = type(rssm.initial(1))(x[..., :8], x[..., 8:])
        rows = (len(x), -1)
        return rssm.imagine_step(state, action.expand(rows), noise.expand(rows)).features

    values = without_box(4, (100, 11), 0.05)
    assert outside(step, values, rows=cell == "gru").max() <= 1.0

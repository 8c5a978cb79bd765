"""The RSSM against slow loops; causality, resets, pairing of actions with rows."""

import pytest
import torch

from sdewm.model.rssm import BlockGRUCell, State, clip_action, gru_update
from tests.model.small_models import (
    CATEGORICAL,
    LATENTS,
    A,
    E,
    make_rssm,
    noise_for,
    randn,
    random_state,
    shake,
)

B, T = 3, 7
latents = pytest.mark.parametrize("latent", [*LATENTS])


def case(latent, firsts=((0, 3), (2, 5))):
    """RSSM, embeds, actions (some out of range), firsts, noise."""
    rssm = make_rssm(latent)
    is_first = torch.zeros(B, T, dtype=torch.bool)
    for b, t in firsts:
        is_first[b, t] = True
    return rssm, randn(B, T, E), 2 * randn(B, T, A, seed=1), is_first, noise_for(rssm, B, T)


def slow_observe(rssm, embed, action, is_first, noise, state):
    """`observe_step` in a loop; states, and the stats of both laws at each."""
    states, priors, posteriors = [], [], []
    for t in range(T):
        state = rssm.observe_step(state, action[:, t], is_first[:, t], embed[:, t], noise[:, t])
        states.append(state)
        priors.append(rssm.prior(state.deter))
        posteriors.append(rssm.posterior(state.deter, embed[:, t]))
    deter, stoch = (torch.stack(parts, 1) for parts in zip(*states, strict=True))
    return State(deter, stoch), torch.stack(priors, 1), torch.stack(posteriors, 1)


def equal(seen, slow):
    close = [
        torch.allclose(seen.state.deter, slow[0].deter, rtol=1e-10, atol=1e-12),
        torch.allclose(seen.state.stoch, slow[0].stoch, rtol=1e-10, atol=1e-12),
        torch.allclose(seen.prior, slow[1], rtol=1e-9, atol=1e-10),
        torch.allclose(seen.posterior, slow[2], rtol=1e-9, atol=1e-10),
    ]
    return all(close)


@latents
def test_observe_equals_a_loop_of_observe_step(latent):
    rssm, *inputs = case(latent)
    start = random_state(rssm, B)
    seen = rssm.observe(*inputs, start)
    assert equal(seen, slow_observe(rssm, *inputs, start))
    embed, action, is_first, noise = inputs
    shifted = torch.roll(action, 1, 1)  # off by one: the action of the row before
    assert not equal(seen, slow_observe(rssm, embed, shifted, is_first, noise, start))


@latents
def test_one_step_is_the_cell_then_the_posterior_of_this_rows_embed(latent):
    rssm = make_rssm(latent)
    state, action, embed = random_state(rssm, B), torch.tanh(randn(B, A)), randn(B, E, seed=1)
    noise = noise_for(rssm, B)
    now = rssm.observe_step(state, action, torch.zeros(B, dtype=torch.bool), embed, noise)
    deter = rssm.cell(state.deter, state.stoch, rssm.cell.embed_action(action))
    assert torch.allclose(now.deter, deter, rtol=1e-12)
    law = rssm.posterior(deter, embed)
    assert torch.allclose(now.stoch, rssm.latent.sample(law, noise), rtol=1e-12)


@latents
def test_the_state_advances_at_every_step(latent):
    rssm, embed, action, is_first, noise = case(latent)
    same = torch.zeros_like(embed), torch.zeros_like(action), torch.zeros_like(is_first)
    deter = rssm.observe(*same, noise).state.deter
    steps = (deter[:, 1:] - deter[:, :-1]).abs().amax(-1)
    assert steps.min() > 1e-4


@latents
def test_observe_is_causal(latent):
    rssm, embed, action, is_first, noise = case(latent, firsts=())
    start = random_state(rssm, B)
    before = rssm.observe(embed, action, is_first, noise, start).state
    for name, changed in (
        ("embed", (embed + later(embed), action)),
        ("action", (embed, action + later(action))),
    ):
        after = rssm.observe(*changed, is_first, noise, start).state
        assert torch.equal(before.features[:, :4], after.features[:, :4]), name
        assert not torch.allclose(before.features[:, 4], after.features[:, 4]), name


def later(like):
    """Zero up to row 3, one from row 4 on."""
    return torch.ones_like(like) * (torch.arange(T) >= 4)[None, :, None]


@latents
def test_a_first_row_forgets_state_and_action(latent):
    rssm, embed, action, _, noise = case(latent)
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[:, 3] = True
    past = (torch.arange(T) < 3)[None, :, None]
    action_too = (torch.arange(T) <= 3)[None, :, None]
    one = rssm.observe(embed, action, is_first, noise, random_state(rssm, B)).state
    two = rssm.observe(
        embed + past, action + action_too, is_first, noise, random_state(rssm, B, seed=9)
    ).state
    assert not torch.allclose(one.features[:, 2], two.features[:, 2])
    assert torch.equal(one.features[:, 3:], two.features[:, 3:])
    alone = rssm.observe(embed[:, 3:], action[:, 3:], is_first[:, 3:], noise[:, 3:]).state
    assert torch.allclose(one.features[:, 3:], alone.features, rtol=1e-10, atol=1e-12)


@latents
def test_no_initial_state_is_a_first_row_at_the_start(latent):
    rssm, embed, action, is_first, noise = case(latent)
    given = is_first.clone()
    given[:, 0] = True
    free = rssm.observe(embed, action, is_first, noise)
    reset = rssm.observe(embed, action, given, noise, random_state(rssm, B))
    assert torch.equal(free.state.features, reset.state.features)
    kept = rssm.observe(embed, action, is_first, noise, random_state(rssm, B))
    assert not torch.allclose(free.state.features, kept.state.features)


@latents
def test_the_posterior_depends_on_the_embed_and_the_prior_does_not(latent):
    rssm = make_rssm(latent)
    deter = random_state(rssm, B).deter
    one, two = (rssm.posterior(deter, randn(B, E, seed=seed)) for seed in (0, 1))
    assert not torch.allclose(one, two)
    rssm, embed, action, is_first, noise = case(latent)
    seen = rssm.observe(embed, action, is_first, noise)
    assert torch.allclose(seen.prior, rssm.prior(seen.state.deter), rtol=1e-10)


def test_unimix_holds_in_prior_and_posterior():
    rssm = make_rssm("categorical")
    for head in (rssm.prior_head, rssm.posterior_output):
        with torch.no_grad():
            head[-1].weight.mul_(1e4)
    deter = random_state(rssm, B).deter
    for stats in (rssm.prior(deter), rssm.posterior(deter, randn(B, E))):
        assert stats.exp().min().item() == pytest.approx(0.01 / 4, rel=1e-6)
    bare = make_rssm("categorical", unimix=0.0)
    with torch.no_grad():
        bare.prior_head[-1].weight.mul_(1e4)
    assert bare.prior(deter).exp().min() < 1e-6


def test_imagination_draws_from_the_prior_of_the_new_deter():
    rssm = make_rssm("categorical")
    state, action, noise = random_state(rssm, B), torch.tanh(randn(B, A)), noise_for(rssm, B)
    after = rssm.imagine_step(state, action, noise)
    deter = rssm.cell(state.deter, state.stoch, rssm.cell.embed_action(action))
    assert torch.allclose(after.deter, deter, rtol=1e-12)
    assert torch.equal(after.stoch, rssm.latent.sample(rssm.prior(deter), noise))


def slow_block_cell(cell: BlockGRUCell, deter, stoch, action):
    """Each block of the state from all projections and its own part, block by block."""
    everything = torch.cat([cell.of_deter(deter), cell.of_stoch(stoch), cell.of_action(action)], -1)
    blocks, size = cell.blocks, deter.shape[-1] // cell.blocks
    hidden = []
    for g in range(blocks):
        part = slice(g * size, (g + 1) * size)
        matrix = torch.cat([cell.shared.weight[part].T, cell.own.weight[g]], 0)
        own = torch.cat([everything, deter[:, part]], -1)
        hidden.append(own @ matrix + cell.own.bias[part])
    x = cell.after(torch.cat(hidden, -1))
    new = []
    for g in range(blocks):
        part = slice(g * size, (g + 1) * size)
        bias = cell.gates.bias[3 * g * size : 3 * (g + 1) * size]
        reset, candidate, update = (x[:, part] @ cell.gates.weight[g] + bias).chunk(3, -1)
        u = torch.sigmoid(update - 1)
        new.append(u * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - u) * deter[:, part])
    return torch.cat(new, -1)


def test_block_cell_equals_a_loop_over_its_blocks():
    cell = make_rssm("categorical").cell
    assert isinstance(cell, BlockGRUCell)
    state, action = random_state(make_rssm("categorical"), B), torch.tanh(randn(B, A))
    fast = cell(*state, cell.embed_action(action))
    assert torch.allclose(fast, slow_block_cell(cell, *state, action), rtol=1e-10, atol=1e-12)
    shake(cell.shared, seed=8)
    assert not torch.allclose(fast, cell(*state, cell.embed_action(action)))


def test_gru_cell_follows_its_formula():
    rssm = make_rssm("gaussian")
    cell, state, action = rssm.cell, random_state(rssm, B), torch.tanh(randn(B, A))
    x = (
        torch.cat([state.stoch, action], -1)
        @ torch.cat([cell.input.of_x.weight, cell.input.of_y.weight], 1).T
    )
    x = torch.nn.functional.elu(x + cell.input.of_x.bias)
    gates = torch.cat([x, state.deter], -1) @ cell.gates.weight.T + cell.gates.bias
    centred = gates - gates.mean(-1, keepdim=True)
    gates = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-3)
    gates = gates * cell.gates_norm.weight + cell.gates_norm.bias
    r, c, u = gates.chunk(3, -1)
    u = torch.sigmoid(u - 1)
    expected = u * torch.tanh(torch.sigmoid(r) * c) + (1 - u) * state.deter
    assert torch.allclose(cell(*state, cell.embed_action(action)), expected, rtol=1e-9)


def test_gate_keeps_the_state_where_the_update_is_closed():
    h, c = randn(4), randn(4, seed=1)
    closed, opened = gru_update(h, h, c, h - 99), gru_update(h, h + 99, c, h + 99)
    assert torch.allclose(closed, h) and torch.allclose(opened, torch.tanh(c))
    half = gru_update(h, h + 99, c, torch.ones(4).double())  # the bias −1 is in the cell
    assert torch.allclose(half, (torch.tanh(c) + h) / 2)


def test_actions_out_of_range_are_clipped_where_they_enter():
    action = torch.tensor([[0.5, -3.0, 1.5]], dtype=torch.float64)
    assert torch.equal(clip_action(action), torch.tensor([[0.5, -1.0, 1.0]]).double())
    rssm, embed, action, is_first, noise = case("categorical")
    wide, narrow = (
        rssm.observe(embed, a, is_first, noise).state.deter for a in (action, clip_action(action))
    )
    assert torch.equal(wide, narrow) and action.abs().max() > 1


def test_a_state_has_the_stated_sizes():
    rssm = make_rssm("categorical")
    state = rssm.initial(2)
    assert state.features.shape == (2, rssm.features_size) and state.features.abs().max() == 0
    assert rssm.features_size == CATEGORICAL.deter + CATEGORICAL.groups * CATEGORICAL.classes

"""The agent's Jacobian term against loops over autograd: which rows, which actions."""

from dataclasses import replace

import pytest
import torch

from sdewm.jacobian.penalty_config import PenaltyConfig
from sdewm.jacobian.step_contract import check_step
from sdewm.model.world_model import ReplayRows
from sdewm.train.jacobian_term import JacobianTerm
from tests.train.small_agent import SMALL, make_agent, make_batch

EXACT = PenaltyConfig(weight=1.0, estimator="exact")
B, T = SMALL.batch_size, SMALL.batch_length
F64 = torch.float64


def seen_by(config, firsts=((1, 4),)):
    """Agent, its term, rows, observed states and embeds, all in float64."""
    agent = make_agent(context=0)
    agent.world_model.double()
    agent.behaviour.actor.double()
    with torch.no_grad():  # a policy that depends on the state
        for weight in agent.behaviour.actor.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    batch = make_batch(replace(SMALL, context=0), firsts=firsts)
    rows = ReplayRows(*(f.double() if f.is_floating_point() else f for f in ReplayRows.of(batch)))
    noise = agent.world_model.rssm.latent.draw_noise((B, T), torch.Generator().manual_seed(2))
    embed = agent.world_model.encoder(rows.observation)
    seen = agent.world_model.rssm.observe(
        embed, rows.previous_action, rows.is_first, noise.double()
    )
    term = JacobianTerm(config, agent.world_model, agent.behaviour.actor)
    return agent, term, rows, seen, embed


def slow_square(agent, h, z, actions, included, outputs=3):
    """‖∂(h', mean', std')/∂(h, z)‖_F² of one state after several actions, entry by entry."""
    rssm = agent.world_model.rssm
    h, z = h.detach().clone().requires_grad_(), z.detach().clone().requires_grad_()
    deter, stoch = h, z
    for action in actions:
        if included:
            action = agent.behaviour.actor(torch.cat([deter, stoch], -1)).mean[0]
        deter = rssm.cell(deter, stoch, rssm.cell.embed_action(action[None]))
        p = rssm.prior(deter).exp()
        stoch, std = p.flatten(-2), torch.sqrt(p * (1 - p)).flatten(-2)
    total = 0.0
    for entry in torch.cat([deter, stoch, std][:outputs], -1)[0]:
        slopes = torch.autograd.grad(entry, (h, z), retain_graph=True)
        total += sum(slope.square().sum().item() for slope in slopes)
    return total


def slow_mean(agent, rows, seen, steps, included=False, chosen=None):
    """Mean over the states that have `steps` rows after them."""
    squares = [
        slow_square(
            agent,
            seen.state.deter[b, t : t + 1],
            seen.state.stoch[b, t : t + 1],
            rows.previous_action[b, t + 1 : t + 1 + steps],  # led to the rows after t
            included,
        )
        for b in range(B)
        for t in range(T - steps)
    ]
    squares = torch.tensor(squares, dtype=F64)
    return (squares if chosen is None else squares[chosen]).mean().item()


@pytest.mark.parametrize("included", [False, True])
@pytest.mark.parametrize(("name", "steps"), [("full", 1), ("multi_step", 1), ("multi_step", 3)])
def test_the_penalty_is_the_mean_square_over_states_with_their_own_actions(name, steps, included):
    policy = "included" if included else "fixed"
    config = replace(EXACT, map=name, steps=steps, policy=policy)
    agent, term, rows, seen, embed = seen_by(config)
    drawn = term.draw(B, T, torch.Generator())
    found = term.loss(rows, seen, embed, drawn).item()
    assert found == pytest.approx(slow_mean(agent, rows, seen, steps, included), rel=1e-9)
    shifted = rows._replace(previous_action=torch.roll(rows.previous_action, 1, 1))
    wrong = term.loss(shifted, seen, embed, drawn).item()
    assert (wrong == pytest.approx(found, rel=1e-9)) == included


def test_a_fraction_takes_that_many_states_and_their_mean():
    config = replace(EXACT, fraction=0.4)
    agent, term, rows, seen, embed = seen_by(config)
    drawn = term.draw(B, T, torch.Generator().manual_seed(5))
    assert len(drawn.rows) == len(drawn.rows.unique()) == 6 and drawn.rows.max() < B * (T - 1)
    found = term.loss(rows, seen, embed, drawn).item()
    assert found == pytest.approx(slow_mean(agent, rows, seen, 1, chosen=drawn.rows), rel=1e-9)
    assert not torch.equal(drawn.rows, term.draw(B, T, torch.Generator().manual_seed(6)).rows)


@pytest.mark.parametrize("side", ["input", "output"])
def test_probes_fit_the_map_and_average_to_the_exact_penalty(side):
    config = PenaltyConfig(weight=1.0, side=side, probes=1500, fraction=0.2)
    agent, term, rows, seen, embed = seen_by(config)
    drawn = term.draw(B, T, torch.Generator().manual_seed(5))
    assert drawn.probes.shape == (1500, 3, term.inputs if side == "input" else term.outputs)
    found = term.loss(rows, seen, embed, drawn._replace(probes=drawn.probes.double())).item()
    assert found == pytest.approx(slow_mean(agent, rows, seen, 1, chosen=drawn.rows), rel=0.05)


MAPS = [
    PenaltyConfig(weight=1.0, map=name, inputs=inputs)
    for name, inputs in (
        ("deterministic", "both"),
        ("deterministic", "deter"),
        ("full", "stoch"),
        ("prior", "deter"),
        ("posterior", "deter"),
        ("posterior", "both"),
        ("multi_step", "both"),
    )
]


@pytest.mark.parametrize("config", MAPS)
def test_the_gradient_stays_in_the_map(config):
    agent, term, rows, seen, embed = seen_by(config)
    drawn = term.draw(B, T, torch.Generator())
    term.loss(rows, seen, embed, drawn._replace(probes=drawn.probes.double())).backward()
    model, rssm = agent.world_model, agent.world_model.rssm
    reached = {
        name: any(w.grad is not None and w.grad.abs().sum() > 0 for w in part.parameters())
        for name, part in {
            "cell": rssm.cell,
            "prior": rssm.prior_head,
            "posterior": rssm.posterior_output,
            "encoder": model.encoder,
            "decoder": model.decoder,
            "reward": model.reward,
            "actor": agent.behaviour.actor,
        }.items()
    }
    expected = {
        "deterministic": {"cell"},
        "full": {"cell", "prior"},
        "multi_step": {"cell", "prior"},
        "prior": {"prior"},
        "posterior": {"posterior"},
    }[config.map]
    assert {name for name, yes in reached.items() if yes} == expected


def test_sizes_are_stated_with_the_weight():
    for config in MAPS:
        agent, term, rows, seen, embed = seen_by(config)
        chosen = term._map(config, rows, seen, embed, torch.arange(4))
        assert sum(part.shape[-1] for part in chosen.inputs) == term.inputs
        assert sum(part.shape[-1] for part in chosen.step(*chosen.inputs)) == term.outputs
        assert f"{term.outputs} × {term.inputs} squared derivatives" in term.describe()
        check_step(chosen.step, chosen.inputs)
    off = JacobianTerm(PenaltyConfig(), agent.world_model, agent.behaviour.actor)
    assert off.describe() == "Jacobian penalty: weight 0, off"
    assert off.draw(B, T, torch.Generator()) == (None, None)


def test_figures_are_taken_at_weight_zero_for_the_square_map():
    agent, _, rows, seen, embed = seen_by(PenaltyConfig())
    term = JacobianTerm(PenaltyConfig(), agent.world_model, agent.behaviour.actor, B * (T - 1))
    metrics = term.metrics(rows, seen, embed, torch.Generator().manual_seed(0))
    norms = [
        slow_square(
            agent,
            seen.state.deter[b, t : t + 1],
            seen.state.stoch[b, t : t + 1],
            rows.previous_action[b, t + 1 : t + 2],
            False,
            outputs=2,
        )
        ** 0.5
        for b in range(B)
        for t in range(T - 1)
    ]
    assert metrics["jacobian/frobenius_mean"] == pytest.approx(sum(norms) / len(norms), rel=1e-9)
    assert metrics["jacobian/frobenius_max"] == pytest.approx(max(norms), rel=1e-9)
    assert {"jacobian/top_singular_value_max", "jacobian/spectral_radius_mean"} < {*metrics}
    assert metrics["jacobian/log_norm_max"] <= metrics["jacobian/top_singular_value_max"] - 1
    few = JacobianTerm(PenaltyConfig(), agent.world_model, agent.behaviour.actor)
    fewer = few.metrics(rows, seen, embed, torch.Generator().manual_seed(0))
    assert fewer["jacobian/frobenius_max"] <= max(norms) * (1 + 1e-9) and fewer != metrics


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
@pytest.mark.parametrize("cell", ["gru", "block_gru"])
def test_the_compiler_sees_the_penalty_as_one_graph(cell, latent):
    """Where it stops, the rest runs uncompiled: an update took 1.5 times as long, not 1.3 times."""
    rssm = replace(SMALL.model.rssm, cell=cell, latent=latent)
    config = replace(SMALL, context=0, model=replace(SMALL.model, rssm=rssm))
    agent = make_agent(replace(config, jacobian=PenaltyConfig(weight=1.0)))
    rows = ReplayRows.of(make_batch(replace(SMALL, context=0)))
    noise = agent.world_model.rssm.latent.draw_noise((B, T), torch.Generator().manual_seed(2))
    with torch.no_grad():
        embed = agent.world_model.encoder(rows.observation)
        seen = agent.world_model.rssm.observe(embed, rows.previous_action, rows.is_first, noise)
    drawn = agent.jacobian.draw(B, T, torch.Generator().manual_seed(3))
    torch._dynamo.reset()
    compiled = torch.compile(agent.jacobian.loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(
        compiled(rows, seen, embed, drawn), agent.jacobian.loss(rows, seen, embed, drawn)
    )

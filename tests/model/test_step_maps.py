"""Chosen maps against steps of the RSSM written out by hand, differentiated by autograd loops."""

import pytest
import torch

from sdewm.jacobian.penalty import Exact, jacobian_penalty
from sdewm.jacobian.penalty_config import PenaltyConfig
from sdewm.model.rssm import State
from sdewm.model.step_maps import chosen_map, mean_step, output_size
from tests.model.small_models import LATENTS, A, E, make_rssm, randn, random_state

N, STEPS = 3, 3
ACTIONS = torch.tanh(randn(N, STEPS, A, seed=1))
EMBED = randn(N, E, seed=2)


def policy(features):
    """A smooth policy that depends on the whole state."""
    weights = 0.3 * randn(features.shape[-1], A, seed=7)
    return torch.tanh(features @ weights)


def moments(rssm, stats):
    """Mean and standard deviation, from the definitions of the laws."""
    if hasattr(rssm.latent, "unimix"):
        p = stats.exp()
        return p.flatten(-2), (p - p**2).sqrt().flatten(-2)
    return stats[..., 0, :], stats[..., 1, :]


def full(rssm, h, z, action):
    """h', mean' and std' after one action."""
    deter = rssm.cell(h, z, rssm.cell.embed_action(action))
    return (deter, *moments(rssm, rssm.prior(deter)))


def by_hand(rssm, name, h, z, actions, embed, included):
    """Outputs of the map `name` at one state (1, …), by hand."""

    def act(h, z, step):
        return policy(torch.cat([h, z], -1)) if included else actions[:, step]

    if name == "deterministic":
        return torch.cat(full(rssm, h, z, act(h, z, 0))[:1], -1)
    if name == "prior":
        return torch.cat(moments(rssm, rssm.prior(h)), -1)
    if name == "posterior":
        return torch.cat(moments(rssm, rssm.posterior(h, embed)), -1)
    outputs = full(rssm, h, z, act(h, z, 0))
    for step in range(1, STEPS if name == "multi_step" else 1):
        h, z = outputs[0], outputs[1]
        outputs = full(rssm, h, z, act(h, z, step))
    return torch.cat(outputs, -1)


def slow_jacobians(rssm, name, wanted, state, included):
    """‖J_b‖_F² of every state: one call of autograd per output entry."""
    squares = []
    for b in range(N):
        parts = {
            "deter": state.deter[b : b + 1].clone().requires_grad_(),
            "stoch": state.stoch[b : b + 1].clone().requires_grad_(),
            "embed": EMBED[b : b + 1].clone().requires_grad_(),
        }
        h, z, embed = parts.values()
        out = by_hand(rssm, name, h, z, ACTIONS[b : b + 1], embed, included)
        total = 0.0
        for entry in out[0]:
            slopes = torch.autograd.grad(
                entry, [parts[w] for w in wanted], retain_graph=True, allow_unused=True
            )
            total += sum(s.square().sum().item() for s in slopes if s is not None)
        squares.append(total)
    return squares


CASES = [
    ("deterministic", "both", ("deter", "stoch"), True),
    ("deterministic", "deter", ("deter",), False),
    ("deterministic", "stoch", ("stoch",), False),
    ("full", "both", ("deter", "stoch"), False),
    ("full", "both", ("deter", "stoch"), True),
    ("full", "stoch", ("stoch",), False),
    ("full", "deter", ("deter",), True),
    ("prior", "deter", ("deter",), False),
    ("posterior", "deter", ("deter",), False),
    ("posterior", "both", ("deter", "embed"), False),
    ("multi_step", "both", ("deter", "stoch"), False),
    ("multi_step", "both", ("deter", "stoch"), True),
]


def chosen(rssm, name, inputs, included, state, actions=ACTIONS):
    config = PenaltyConfig(
        map=name, inputs=inputs, policy="included" if included else "fixed", steps=STEPS
    )
    return config, chosen_map(config, rssm, state, actions, EMBED, policy)


@pytest.mark.parametrize("latent", [*LATENTS])
@pytest.mark.parametrize(("name", "inputs", "wanted", "included"), CASES)
def test_chosen_map_has_the_jacobian_of_the_steps_by_hand(latent, name, inputs, wanted, included):
    rssm = make_rssm(latent)
    state = random_state(rssm, N)
    config, found = chosen(rssm, name, inputs, included, state)
    squares = Exact()(found.step, found.inputs)
    assert squares.tolist() == pytest.approx(
        slow_jacobians(rssm, name, wanted, state, included), rel=1e-9
    )
    outputs = sum(part.shape[-1] for part in found.step(*found.inputs))
    assert outputs == output_size(config, rssm)
    mean = jacobian_penalty(found.step, found.inputs, Exact())
    assert mean.item() == pytest.approx(squares.mean().item(), rel=1e-12)


def test_inputs_and_policy_change_the_jacobian():
    rssm = make_rssm()
    state = random_state(rssm, N)
    values = {
        case[:2] + case[3:]: Exact()(*chosen(rssm, case[0], case[1], case[3], state)[1])[0].item()
        for case in CASES
    }
    assert len({round(value, 10) for value in values.values()}) == len(CASES)


@pytest.mark.parametrize("step", range(STEPS))
def test_every_action_of_the_window_acts_in_its_step(step):
    rssm = make_rssm()
    state, other = random_state(rssm, N), ACTIONS.clone()
    other[:, step] = 0.0
    before, after = (
        chosen(rssm, "multi_step", "both", False, state, actions)[1] for actions in (ACTIONS, other)
    )
    assert not torch.allclose(before.step(*state)[0], after.step(*state)[0])
    one, same = (
        chosen(rssm, "full", "both", False, state, actions)[1] for actions in (ACTIONS, other)
    )
    assert torch.equal(one.step(*state)[0], same.step(*state)[0]) == (step > 0)


@pytest.mark.parametrize("latent", [*LATENTS])
def test_mean_step_gives_the_moments_of_sampled_steps(latent):
    rssm = make_rssm(latent)
    state = State(*(part[:1].expand(4000, -1) for part in random_state(rssm, 1)))
    action = ACTIONS[:1, 0].expand(4000, -1)
    noise = rssm.latent.draw_noise((4000,), torch.Generator().manual_seed(0)).double()
    drawn = rssm.imagine_step(state, action, noise).stoch
    deter, mean, std = mean_step(rssm, state, action)
    assert deter.shape == state.deter.shape
    error = 4.5 * std[0] / 4000**0.5
    assert ((drawn.mean(0) - mean[0]).abs() < error).all()
    assert torch.allclose(drawn.std(0), std[0], rtol=0.15, atol=0.02)


def test_a_penalty_gives_gradients_to_the_dynamics():
    rssm = make_rssm()
    _, found = chosen(rssm, "multi_step", "both", True, random_state(rssm, N))
    jacobian_penalty(found.step, found.inputs, Exact()).backward()
    assert all(
        weight.grad is not None and weight.grad.abs().sum() > 0
        for weight in rssm.cell.of_stoch.parameters()
    )
    assert all(weight.grad is None for weight in rssm.posterior_output.parameters())

"""Each comparator does what it claims, and nothing else."""

from dataclasses import replace

import pytest
import torch

from sdewm.data.dataset import write_dataset
from sdewm.jacobian.penalty_config import PenaltyConfig, configured_penalty
from sdewm.model.latents import GaussianLatent
from sdewm.model.rssm import State
from sdewm.train.comparators import SCALE_RATE, ComparatorConfig, Comparators
from sdewm.train.config import check_config
from sdewm.train.latent_storage import pack_stoch
from sdewm.train.sources import as_recorded
from tests.train.small_agent import GAUSSIAN, SMALL, make_agent, make_batch

BOTH = pytest.mark.parametrize("config", [SMALL, GAUSSIAN], ids=["categorical", "gaussian"])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_comparator(config, **settings):
    return replace(config, comparator=ComparatorConfig(**settings))


def drawn(settings, rows=(64, 40), size=3, seed=0):
    return Comparators(ComparatorConfig(**settings), GaussianLatent(size, 0.1)).draw(
        torch.zeros(*rows, 4), generator(seed)
    )


def test_latent_noise_has_zero_mean_and_is_white_in_time():
    error = drawn({"latent_noise": 0.2}).latent
    assert abs(float(error.mean())) < 5 * 0.2 / error.numel() ** 0.5
    assert float(error.std()) == pytest.approx(0.2, rel=0.05)
    assert abs(float((error[:, 1:] * error[:, :-1]).mean())) < 5 * 0.04 / error.numel() ** 0.5
    along = error.mean(1)  # the mean over time shrinks as that of independent draws
    assert float(along.std()) == pytest.approx(0.2 / 40**0.5, rel=0.2)


def test_latent_drift_has_the_same_energy_and_a_fixed_sign():
    error = drawn({"latent_drift": 0.2}).latent
    assert torch.equal(error, error[:, :1].expand_as(error))
    assert sorted(error.unique().tolist()) == pytest.approx([-0.2, 0.2])
    noise = drawn({"latent_noise": 0.2}).latent
    assert float((error**2).mean()) == pytest.approx(float((noise**2).mean()), rel=0.05)
    assert abs(float(error[:, 0].mean())) < 5 * 0.2 / error[:, 0].numel() ** 0.5  # over sequences
    assert float(error.mean(1).std()) == pytest.approx(0.2, rel=0.05)  # not over time


@BOTH
def test_the_error_is_added_in_standard_deviations_of_stoch(config):
    agent = make_agent(with_comparator(config, latent_noise=0.5))
    plain = make_agent(config)
    first = agent.update(make_batch(config))[0]
    other = plain.update(make_batch(config))[0]
    for name in other:  # nothing is known of the scale yet
        assert torch.equal(first[name], other[name]), name
    rows, initial = plain._split_context(make_batch(config))
    plain = make_agent(config)
    noise = plain._draw_noise(rows.observation)
    with torch.no_grad():
        embed = plain.world_model.encoder(rows.observation)
        seen = plain.world_model.rssm.filter(
            embed, rows.previous_action, rows.is_first, noise.posterior, initial
        )[0]
    scale = agent.comparators.spread / agent.comparators.weight
    torch.testing.assert_close(scale, seen.stoch.flatten(0, 1).std(0), rtol=1e-4, atol=1e-6)
    assert float(agent.comparators.weight) == pytest.approx(SCALE_RATE)
    second, third = (
        made.update(make_batch(config, seed=1))[0] for made in (agent, make_agent(config))
    )
    assert not torch.equal(second["loss/reconstruction"], third["loss/reconstruction"])


def test_the_step_after_sees_the_error_and_the_posterior_does_not():
    agent = make_agent(GAUSSIAN)
    rows, _ = agent._split_context(make_batch(GAUSSIAN))
    rssm, embed = agent.world_model.rssm, agent.world_model.encoder(rows.observation)
    noise = agent._draw_noise(rows.observation).posterior
    arguments = (embed, rows.previous_action, rows.is_first & False, noise)
    error = torch.zeros(*embed.shape[:2], rssm.latent.size)
    error[:, 2] = 1.0
    (plain, law), (moved, other) = rssm.filter(*arguments), rssm.filter(*arguments, None, error)
    assert torch.equal(moved.deter[:, :3], plain.deter[:, :3]) and torch.equal(
        law[:, :3], other[:, :3]
    )
    torch.testing.assert_close(moved.stoch[:, 2], plain.stoch[:, 2] + 1.0)
    assert not torch.allclose(moved.deter[:, 3], plain.deter[:, 3])


def test_the_encoder_sees_noise_and_the_targets_are_clean():
    config = with_comparator(SMALL, input_noise=0.3, input_mask=0.2)
    agent, seen, targets = make_agent(config), [], []
    encoder, losses = agent.world_model.encoder.forward, agent.world_model.losses
    agent.world_model.encoder.forward = lambda x: seen.append(x) or encoder(x)
    agent.world_model.losses = lambda rows, found: targets.append(rows) or losses(rows, found)
    batch = make_batch(config)
    agent.update(batch)
    clean = batch["observation"][:, config.context :]
    assert torch.equal(targets[0].observation, clean)
    masked = seen[0] == 0
    assert 0.05 < float(masked.float().mean()) < 0.4
    gap = (seen[0] - clean)[~masked]
    assert float(gap.std()) == pytest.approx(0.3, rel=0.3)


@pytest.mark.parametrize("algorithm", ["laprop", "adam"])
def test_weight_decay_on_the_dynamics_acts_on_them_alone(algorithm):
    rule = replace(
        SMALL.optimiser, algorithm=algorithm, model_lr=1e-12, actor_lr=1e-12, critic_lr=1e-12,
        dynamics_weight_decay=0.1, warmup_updates=0,
    )  # fmt: skip
    agent = make_agent(replace(SMALL, optimiser=rule))
    before = {name: w.detach().clone() for name, w in agent.world_model.named_parameters()}
    agent.update(make_batch(SMALL))
    for name, weight in agent.world_model.named_parameters():
        decays = name.startswith(("rssm.cell.", "rssm.prior_head."))
        expected = before[name] * (0.9 if decays else 1.0)
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-8, msg=name)


def test_the_hinge_has_no_gradient_below_its_floor():
    weight = torch.full((3, 3), 0.5, requires_grad=True)

    def penalty(excess):
        config = PenaltyConfig(weight=1.0, estimator="exact", excess_over=excess)
        return configured_penalty(config, lambda x: x @ weight, (torch.ones(4, 3),), None)

    assert penalty(0.0).item() == pytest.approx(9 * 0.25)
    assert penalty(1.0).item() == pytest.approx(9 * 0.25 - 1)
    (slope,) = torch.autograd.grad(penalty(1.0), weight)
    assert torch.allclose(slope, torch.ones(3, 3))  # that of the whole
    below = penalty(3.0)
    assert below.item() == 0.0
    assert torch.equal(torch.autograd.grad(below, weight)[0], torch.zeros(3, 3))


def test_other_random_numbers_are_shared_and_the_state_is_restored():
    config = with_comparator(GAUSSIAN, latent_noise=0.3, input_noise=0.1)
    agent, plain = make_agent(config), make_agent(GAUSSIAN)
    for seed in range(3):
        agent.update(make_batch(config, seed=seed))
        plain.update(make_batch(config, seed=seed))
    assert torch.equal(agent.noise_generator.get_state(), plain.noise_generator.get_state())
    other = make_agent(config)
    other.load_state_dict(agent.state_dict())
    ours, theirs = (made.update(make_batch(config, seed=9))[0] for made in (agent, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@BOTH
def test_latents_are_stored_without_the_error(config):
    """A class that the error makes the largest was not drawn, nor would acting store it."""
    agent = make_agent(with_comparator(replace(config, context=1), latent_noise=1.0))
    rssm = agent.config.model.rssm
    batch = make_batch(agent.config) | {
        name: torch.zeros(3, 7, *field.shape, dtype=field.dtype)
        for name, field in agent.latent_fields.items()
    }
    agent.update(batch)  # the scale is known afterwards
    twin = make_agent(agent.config)
    twin.load_state_dict(agent.state_dict())
    stored = agent.update(batch)[1]["stoch"][:, 1:]
    rows, initial = twin._split_context(batch)
    noise = twin._draw_noise(rows.observation)
    seen = twin.model_losses(rows, initial, noise)[2]
    clean = twin.world_model.rssm.latent.sample(seen.posterior, noise.posterior)
    assert torch.equal(stored, pack_stoch(clean, rssm))
    assert not torch.equal(stored, pack_stoch(seen.state.stoch, rssm))


def test_a_scan_of_disturbed_steps_has_the_right_gradients(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **how: function)
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    config = with_comparator(SMALL, latent_noise=0.3)
    plain, fast = make_agent(config), make_agent(config)
    fast.compile()
    for seed in range(3):
        ours, theirs = (made.update(make_batch(config, seed=seed))[0] for made in (fast, plain))
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-6)


def test_the_latent_error_is_drawn_in_standard_deviations_of_the_batches_seen():
    made = Comparators(ComparatorConfig(latent_noise=0.5), GaussianLatent(2, 0.1))
    stoch = torch.randn(50, 40, 2, generator=generator(3)) * torch.tensor([2.0, 0.1])
    made.measure(stoch)
    found = made.draw(torch.zeros(3, 4, 1), generator())
    expected = found.latent * stoch.flatten(0, 1).std(0)
    torch.testing.assert_close(made.latent_error(found), expected, rtol=1e-4, atol=1e-7)


def spread_loss(world_model, state, rows, noise):
    """The spread of imagined rollouts, start by start."""
    copies, total, rssm = 3, 0.0, world_model.rssm
    starts = [(b, t) for b in range(len(state.deter)) for t in range(0, rows.shape[1] - 5, 4)]
    noise = noise.unflatten(1, (len(starts), copies))
    for number, (b, t) in enumerate(starts):
        now = [State(state.deter[b : b + 1, t], state.stoch[b : b + 1, t]) for _ in range(copies)]
        for k in range(5):
            now = [
                rssm.imagine_step(one, rows[b : b + 1, t + 1 + k], noise[k, number, c][None])
                for c, one in enumerate(now)
            ]
            decoded = torch.stack([world_model.decoder.predict(one.features) for one in now])
            deter = torch.stack([one.deter for one in now])
            total = total + decoded.std(0).mean() + deter.std(0).mean()
    return total / (5 * len(starts))


def test_the_spread_is_that_of_rollouts_one_by_one_and_shapes_the_dynamics():
    config = replace(with_comparator(GAUSSIAN, rollout_spread=1.0), batch_length=14)
    agent = make_agent(config)
    batch = make_batch(config)
    rows, _ = agent._split_context(batch)
    noise = agent._draw_noise(rows.observation)
    losses, _, seen = agent.model_losses(rows, None, noise)
    rollouts = noise.disturbance.rollouts
    expected = spread_loss(agent.world_model, seen.state, rows.previous_action, rollouts)
    torch.testing.assert_close(losses["rollout_spread"], expected, rtol=1e-3, atol=1e-6)
    dynamics = agent.world_model.rssm.dynamics_weights()
    slopes = torch.autograd.grad(losses["rollout_spread"], dynamics, allow_unused=True)
    assert sum(float(slope.abs().sum()) for slope in slopes if slope is not None) > 0
    encoder = [*agent.world_model.encoder.parameters()]
    losses = agent.model_losses(rows, None, noise)[0]
    slopes = torch.autograd.grad(losses["rollout_spread"], encoder, allow_unused=True)
    assert all(slope is None for slope in slopes)  # starts receive no gradient


def test_the_spread_falls_where_it_is_penalised():
    config = replace(GAUSSIAN, batch_length=14)
    found = {}
    for weight in (0.0, 10.0):
        agent = make_agent(with_comparator(config, rollout_spread=weight or 1e-12))
        for seed in range(40):
            metrics, _ = agent.update_world_model(make_batch(config, seed=seed))
        found[weight] = float(metrics["loss/rollout_spread"])
    assert found[10.0] < 0.8 * found[0.0]


def test_a_spread_needs_longer_sequences():
    with pytest.raises(ValueError, match="expected batch_length=5 of more than 5"):
        check_config(replace(with_comparator(GAUSSIAN, rollout_spread=1.0), batch_length=5))


@pytest.mark.parametrize("name", ["input_noise", "input_mask"])
def test_disturbed_inputs_are_of_images_or_vectors_not_of_both(name, tmp_path):
    config = with_comparator(SMALL, **{name: 0.1})
    check_config(config)
    with pytest.raises(ValueError, match=f"comparator.{name}=0.1: expected 0 with obs='both'"):
        check_config(replace(config, obs="both"))
    facts = {"env": "own:cartpole_pixels", "obs": "both", "action_repeat": 2, "policy": "random"}
    facts |= {"seed": 0, "command": "sdewm record", "commit": "0123456"}
    episode = {
        "is_first": torch.tensor([True, False]),
        "is_last": torch.tensor([False, True]),
    }
    write_dataset(tmp_path, [episode], facts)
    with pytest.raises(ValueError, match=f"comparator.{name}=0.1: expected 0 with obs='both'"):
        as_recorded(config, tmp_path, ())


def test_the_running_mean_is_used_after_training_and_leaves_training_alone():
    decay = 0.9
    agent, plain = make_agent(with_comparator(SMALL, average_decay=decay)), make_agent(SMALL)
    expected = {n: w.detach().clone() for n, w in plain.world_model.named_parameters()}
    for seed in range(5):
        for one in (agent, plain):
            one.update(make_batch(SMALL, seed=seed))
        for name, weight in plain.world_model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * weight.detach()
    for name, weight in plain.world_model.named_parameters():
        assert torch.equal(dict(agent.world_model.named_parameters())[name], weight), name
    state = agent.state_dict()
    used = make_agent(with_comparator(SMALL, average_decay=decay))
    used.load_networks(state)
    for name, weight in used.world_model.named_parameters():
        torch.testing.assert_close(weight.detach(), expected[name], rtol=1e-5, atol=1e-6)
        assert not torch.equal(weight, dict(plain.world_model.named_parameters())[name]), name
    resumed = make_agent(with_comparator(SMALL, average_decay=decay))
    resumed.load_state_dict(state)  # training goes on from the weights themselves
    for one in (agent, resumed):
        one.update(make_batch(SMALL, seed=9))
    for name, weight in agent.world_model.named_parameters():
        assert torch.equal(dict(resumed.world_model.named_parameters())[name], weight), name
        assert torch.equal(resumed.average.means[name], agent.average.means[name]), name


def test_the_ratio_of_gradient_norms_is_proportional_to_the_weight():
    penalty = PenaltyConfig(weight=0.01, estimator="exact")
    agent = make_agent(replace(SMALL, jacobian=penalty, log_every_updates=1))
    metrics, _ = agent.update(make_batch(SMALL))
    rows, initial = agent._split_context(make_batch(SMALL))
    ratios = []
    for weight in (0.01, 0.03):
        agent.penalty_weight.fill_(weight)
        ratios.append(agent._gradient_ratio(rows, initial, generator()))
    assert ratios[0] > 0 and ratios[1] / ratios[0] == pytest.approx(3, rel=1e-4)
    logged = float(metrics["jacobian/gradient_ratio"])  # of another draw of the latents
    assert 0.3 * ratios[0] < logged < 3 * ratios[0]
    plain = make_agent(replace(SMALL, log_every_updates=1)).update(make_batch(SMALL))[0]
    assert "jacobian/gradient_ratio" not in plain

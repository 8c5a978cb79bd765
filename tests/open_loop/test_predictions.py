"""Open-loop predictions against a loop over samples, episodes and steps."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, OneHotCategorical, kl_divergence

from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import RSSMModel, StepModel
from sdewm.model.rssm import State
from sdewm.open_loop import predictions as module
from sdewm.open_loop.predictions import open_loop
from tests.model.small_models import A, D, make_model, randn
from tests.open_loop.open_loop_cases import made

COUNT, STEPS, CONTEXT, HORIZON, SAMPLES = 3, 9, 4, 4, 3  # one row more than is used
SETTINGS = {"context": CONTEXT, "horizon": HORIZON, "samples": SAMPLES, "seed": 5}
BOTH = pytest.mark.parametrize("latent", ["gaussian", "categorical"])


def recorded(count=COUNT, steps=STEPS, size=D):
    actions = 1.5 * torch.tanh(randn(count, steps, A, seed=1))  # some beyond 1, which are clipped
    actions[:, 0] = 0
    return Episodes(randn(count, steps, size), actions, randn(count, steps, seed=2))


def changed(episodes, field, row, shift=0.7):
    parts = {name: getattr(episodes, name).clone() for name in Episodes.__dataclass_fields__}
    parts[field][:, row] += shift
    return Episodes(**parts)


def fields(predictions):
    return {name: getattr(predictions, name) for name in ("observations", "rewards", "latents")}


def law(rssm, stats):
    """The law of z, as torch.distributions has it."""
    if stats.shape[-2] == 2 and not hasattr(rssm.latent, "groups"):
        return Independent(Normal(stats[..., 0, :], stats[..., 1, :]), 1)
    return Independent(OneHotCategorical(logits=stats), 1)


@BOTH
def test_every_array_is_what_a_loop_over_samples_episodes_and_steps_gives(latent):
    model, episodes = make_model(latent), recorded()
    found = open_loop(model, episodes, **SETTINGS)
    rssm, generator = model.rssm, torch.Generator().manual_seed(SETTINGS["seed"])
    rows = CONTEXT + HORIZON
    with torch.no_grad():
        for s in range(SAMPLES):
            filtering = RSSMModel(model).draw_noise((COUNT, rows), generator)
            rolling = RSSMModel(model).draw_noise((COUNT, HORIZON), generator)
            torch.rand(1 + HORIZON, generator=generator)
            for e in range(COUNT):
                action = episodes.previous_actions[e]
                embed = model.encoder(episodes.observations[e])
                state, path = rssm.initial(1), []
                for t in range(rows):
                    deter = rssm.deterministic(state, action[t : t + 1])
                    posterior = rssm.posterior(deter, embed[t : t + 1])
                    state = State(deter, rssm.latent.sample(posterior, filtering[e, t : t + 1]))
                    path.append((state, posterior))
                near(found.last_latent[s, e], path[CONTEXT - 1][0].features[0])
                rollout = path[CONTEXT - 1][0]
                for k in range(1, HORIZON + 1):
                    t = CONTEXT - 1 + k
                    for predictions, before in (
                        (found.rollout, rollout),
                        (found.one_step, path[t - 1][0]),
                    ):
                        deter = rssm.deterministic(before, action[t : t + 1])
                        prior = rssm.prior(deter)
                        drawn = State(deter, rssm.latent.sample(prior, rolling[e, k - 1 : k]))
                        if predictions is found.rollout:
                            rollout = drawn
                        x = drawn.features
                        near(predictions.latents[s, e, k - 1], x[0])
                        near(predictions.observations[s, e, k - 1], model.decoder.predict(x)[0])
                        near(predictions.rewards[s, e, k - 1], model.reward.mean(model.reward(x)))
                        apart = kl_divergence(law(rssm, path[t][1]), law(rssm, prior))
                        near(predictions.kl[s, e, k - 1], apart)
                    near(found.latents[s, e, k - 1], path[t][0].features[0])
    near(found.observations, episodes.observations[:, CONTEXT:rows])
    near(found.rewards, episodes.rewards[:, CONTEXT:rows])
    near(found.last_observation, episodes.observations[:, CONTEXT - 1])
    near(found.last_reward, episodes.rewards[:, CONTEXT - 1])


def near(array, tensor):
    np.testing.assert_allclose(np.squeeze(array), tensor.squeeze().numpy(), rtol=1e-9, atol=1e-12)


@BOTH
def test_one_step_of_a_rollout_is_the_one_step_prediction(latent):
    found = open_loop(make_model(latent), recorded(), **SETTINGS)
    for name, rollout in fields(found.rollout).items():
        one_step = fields(found.one_step)[name]
        np.testing.assert_allclose(rollout[:, :, 0], one_step[:, :, 0], rtol=1e-9, atol=1e-12)
        assert not np.allclose(rollout[:, :, 1], one_step[:, :, 1])
    np.testing.assert_allclose(found.rollout.kl[:, :, 0], found.one_step.kl[:, :, 0], rtol=1e-9)
    assert (np.abs(found.rollout.kl - found.one_step.kl)[:, :, 1:] > 1e-6).any()


@BOTH
def test_nothing_is_observed_after_the_context(latent):
    model, episodes = make_model(latent), recorded()
    found = open_loop(model, episodes, **SETTINGS)
    for row in range(STEPS):
        other = open_loop(model, changed(episodes, "observations", row), **SETTINGS)
        same = all(
            np.array_equal(new, fields(found.rollout)[name])
            for name, new in fields(other.rollout).items()
        )
        assert same == (row >= CONTEXT), f"row {row}"
        seen = CONTEXT <= row < CONTEXT + HORIZON
        assert np.array_equal(other.rollout.kl, found.rollout.kl) == (row == STEPS - 1)
        if seen:  # the posterior that the rollout is compared with does observe
            before = row - CONTEXT
            np.testing.assert_array_equal(
                other.rollout.kl[:, :, :before], found.rollout.kl[:, :, :before]
            )


@BOTH
def test_step_k_takes_the_action_that_led_to_its_row(latent):
    model, episodes = make_model(latent), recorded()
    found = open_loop(model, episodes, **SETTINGS).rollout
    for row in range(1, STEPS):
        other = open_loop(model, changed(episodes, "previous_actions", row, -0.4), **SETTINGS)
        moved = np.abs(other.rollout.rewards - found.rewards).max(axis=(0, 1)) > 1e-9
        expected = np.arange(1, HORIZON + 1) + CONTEXT - 1 >= row
        np.testing.assert_array_equal(moved, expected, err_msg=f"row {row}")


def test_samples_do_not_depend_on_each_other_or_on_how_many_go_at_once(monkeypatch):
    model, episodes = make_model("gaussian"), recorded()
    found = open_loop(model, episodes, **SETTINGS)
    monkeypatch.setattr(module, "STATES_AT_ONCE", 1)
    monkeypatch.setattr(module, "DECODED_AT_ONCE", 5)
    more = open_loop(model, episodes, **SETTINGS | {"samples": 5})
    for name, values in fields(found.rollout).items():
        np.testing.assert_allclose(fields(more.rollout)[name][:SAMPLES], values, rtol=1e-9)
    np.testing.assert_allclose(more.shuffled_kl[:SAMPLES], found.shuffled_kl, rtol=1e-9)
    starts = found.last_latent[:, 0, -5:]  # z of the context is drawn anew for each sample
    assert np.abs(starts[0] - starts[1]).min() > 1e-6


def test_the_ceiling_of_the_divergence_takes_another_episode_and_permuted_steps():
    place = torch.arange(4.0)[:, None] * 10 + torch.arange(6.0)
    for seed in range(20):
        uniforms = torch.rand(7, generator=torch.Generator().manual_seed(seed))
        other = module._elsewhere(place, uniforms)
        assert (other // 10 != place // 10).all()
        assert (other % 10).sort(1).values.equal(place % 10)
    assert not torch.equal(other % 10, place % 10)
    last = torch.full((7,), 1 - 1e-7)
    assert (module._elsewhere(place, last) // 10 != place // 10).all()


@pytest.mark.parametrize("layers", ["patches", "strided"])
def test_images_come_out_as_images_between_0_and_1(layers):
    pixels = torch.randint(0, 256, (2, 4, 64, 64, 3), dtype=torch.uint8)
    rows = recorded(2, 4)
    episodes = Episodes(pixels, rows.previous_actions, rows.rewards)
    model = make_model("categorical", (64, 64, 3), image_encoder=layers)
    settings = {"context": 2, "horizon": 2, "samples": 2, "seed": 0}
    found = open_loop(model, episodes, **settings)
    shape = (2, 2, 2, 64, 64, 3)
    assert found.rollout.observations.shape == found.one_step.observations.shape == shape
    assert found.rollout.observations.dtype == found.observations.dtype == np.float32
    np.testing.assert_allclose(found.observations, pixels[:, 2:].numpy() / 255, atol=1e-6)
    np.testing.assert_allclose(found.last_observation, pixels[:, 1].numpy() / 255, atol=1e-6)
    shake = model.decoder
    with torch.no_grad():
        x = torch.from_numpy(found.rollout.latents)
        raw = shake.predict(x.flatten(0, 2)).unflatten(0, (2, 2, 2)).numpy()
    np.testing.assert_allclose(found.rollout.observations, raw.clip(0, 1), atol=1e-6)
    with torch.no_grad():
        for weight in shake.parameters():
            weight.mul_(30)
    wild = open_loop(model, episodes, **settings).rollout.observations
    assert wild.min() == 0 and wild.max() == 1


def test_the_model_is_left_as_it_was_and_may_be_in_any_precision():
    model = make_model("gaussian").float()
    found = open_loop(model, recorded(), **SETTINGS)
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    again = open_loop(RSSMModel(model), recorded(), **SETTINGS)
    np.testing.assert_array_equal(found.rollout.latents, again.rollout.latents)
    assert found.rollout.latents.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 0}, "context=0"),
        ({"horizon": 0}, "horizon=0"),
        ({"samples": 1}, "samples=1"),
        ({"seed": -1}, "seed=-1"),
        ({"horizon": 6}, "expected episodes of at least 10 rows, got 9"),
        ({"episodes": recorded(1)}, "E = 1; expected at least two"),
        ({"episodes": "folder"}, "episodes=str"),
        ({"episodes": recorded(size=D + 1)}, "encoder does not take"),
        (
            {"episodes": Episodes(randn(3, 9, D), randn(3, 9, A + 1), randn(3, 9))},
            r"law without observations does not take these inputs \(float64, \(3, 21\), \(3, 4\)",
        ),
        ({"episodes": Episodes(randn(3, 9, 8, 8, 3), randn(3, 9, A), randn(3, 9))}, "expected"),
        (
            {"world_model": StepModel(lambda x, a, v: x + v, state_size=2, noise_size=2)},
            "a StepModel needs an encoder",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(changes, message):
    given = {"world_model": make_model("gaussian"), "episodes": recorded()} | SETTINGS | changes
    with pytest.raises(ValueError, match=message):
        open_loop(given.pop("world_model"), given.pop("episodes"), **given)


@pytest.mark.parametrize(
    ("part", "name", "change", "message"),
    [
        ("", "rewards", lambda x: x * np.nan, r"rewards: nan at \[0, 0\]"),
        ("", "rewards", lambda x: x[:, 1:], r"rewards \(10, 11\): expected \(10, 12\)"),
        ("", "last_reward", lambda x: x[:, None], r"shape \(10, 1\); expected \(10,\)"),
        ("", "observations", lambda x: x.astype(int), "observations: .*int64"),
        ("", "observations", lambda x: 255 * x, "observations: values from .*images in .0, 1."),
        ("", "last_observation", lambda x: x - 1, "last_observation: values from"),
        ("rollout", "latents", lambda x: x[:1], r"rollout.latents \(1, 10, 12, 3\): expected"),
        ("one_step", "observations", lambda x: 1.01 + x, "one_step.observations: values from"),
        ("one_step", "kl", lambda x: x * np.inf, "one_step.kl: inf at"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(part, name, change, message):
    found, _ = made(shape="image")
    owner = getattr(found, part) if part else found
    with pytest.raises(ValueError, match=message):
        changed = replace(owner, **{name: change(getattr(owner, name))})
        replace(found, **{part: changed} if part else {})


def test_a_linear_gaussian_prior_gives_the_samples_their_known_law():
    """Weights 0 and biases b in the prior head: z ~ N(b, s²) at every k, whatever came before."""
    model = make_model("gaussian")
    size = model.rssm.latent.size
    with torch.no_grad():
        last = [m for m in model.rssm.prior_head.modules() if isinstance(m, torch.nn.Linear)][-1]
        last.weight.zero_()
        last.bias.copy_(torch.cat([torch.linspace(-1, 1, size), torch.zeros(size)]))
    found = open_loop(model, recorded(), **SETTINGS | {"samples": 300})
    z = found.rollout.latents[..., -size:]
    std = 1 + model.rssm.latent.min_std  # 2·sigmoid(0) + min_std
    draws = z.reshape(-1, size)
    error = std / math.sqrt(len(draws))
    assert np.abs(draws.mean(axis=0) - np.linspace(-1, 1, size)).max() < 4.5 * error
    assert np.abs(draws.std(axis=0) - std).max() < 4.5 * error
    correlation = np.corrcoef(z[:, 0, :, 0].T) - np.eye(HORIZON)
    assert np.abs(correlation).max() < 4.5 / math.sqrt(300)

"""A recurrent state-space model from plain functions, against loops over rows, steps and groups."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import sdewm
from sdewm.latent_sde.losses import reconstruction_loss, reward_loss, value
from sdewm.latent_sde.model_parts import FunctionDecoder
from sdewm.latent_sde.models import RSSMModel
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.model.rssm import State
from sdewm.model_theorems.stability import jacobian_sizes, model_lyapunov
from sdewm.open_loop.predictions import open_loop
from tests.model.small_models import A, D, make_model, randn

F64 = torch.float64
H, E, COUNT, STEPS = 3, 4, 3, 6
KINDS = {"gaussian": {"gaussian": 2}, "onehot": {"onehot": (2, 3)}, "point": {"gaussian": 2}}
KINDS["point"]["noise_size"] = 0
EACH = pytest.mark.parametrize("kind", KINDS)
BOTH = pytest.mark.parametrize("kind", ["gaussian", "onehot"])


class Net(nn.Module):
    """The functions of a small model; `given` are those of `sdewm.RSSM`."""

    def __init__(self, kind="gaussian", size=2, raw=None):
        super().__init__()
        self.kind, self.size = kind, 6 if kind == "onehot" else size
        raw = {"gaussian": 2 * size, "onehot": 6, "point": size}[kind]
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.cell = nn.GRUCell(self.size + A, H)
            self.of_h, self.of_both = nn.Linear(H, raw), nn.Linear(H + E, raw)
            self.seen, self.out = nn.Linear(D, E), nn.Linear(H + self.size, D)
        for weight in self.parameters():
            weight.data *= 2
        self.double().requires_grad_(False)

    def law(self, raw):
        if self.kind != "gaussian":
            return raw
        mean, free = raw.chunk(2, -1)
        return mean, nn.functional.softplus(free)

    def recurrent(self, h, z, a):
        return self.cell(torch.cat([z, a], -1), h)

    def prior(self, h):
        return self.law(self.of_h(h))

    def posterior(self, h, e):
        return self.law(self.of_both(torch.cat([h, e], -1)))

    def encoder(self, o):
        return torch.tanh(self.seen(o))

    def decoder(self, h, z):
        return self.out(torch.cat([h, z], -1))

    def reward(self, h, z):
        return h.sum(-1) * z[..., 0]

    def policy(self, h, z):
        return torch.tanh(h[:, :1] + z[:, :1]).expand(-1, A)

    @property
    def given(self):
        names = ("recurrent", "prior", "posterior", "encoder")
        return {name: getattr(self, name) for name in names}


def made(kind, **parts):
    net = Net(kind)
    size = net.size
    first = (0.9 * torch.ones(H), torch.linspace(-1, 1, size))
    whole = {"initial": first, "decoder": net.decoder, "reward": net.reward} | parts
    return net, sdewm.RSSM(**net.given, deter=H, **KINDS[kind], **whole)


def recorded(count=COUNT, steps=STEPS):
    actions = torch.tanh(randn(count, steps, A, seed=1))
    actions[:, 0] = 0
    return sdewm.Episodes(randn(count, steps, D), actions, randn(count, steps, seed=2))


def probabilities(logits):
    return torch.softmax(logits.reshape(2, 3), -1)


def drawn(net, raw, noise):
    """One draw of z (Z,) from the raw output of prior or posterior at one state."""
    if net.kind == "point":
        return raw
    if net.kind == "gaussian":
        mean, std = net.law(raw)
        return mean + std * noise
    z = torch.zeros(2, 3).double()
    for s, law in enumerate(probabilities(raw)):
        below, k = 0.0, 0
        while k < 2 and float(noise[s]) >= below + float(law[k]):
            below, k = below + float(law[k]), k + 1
        z[s, k] = 1
    return z.flatten()


@EACH
def test_clean_paths_are_those_of_a_loop_from_the_learnt_initial_state(kind):
    net, model = made(kind)
    episodes = recorded()
    paths = clean_paths(model, episodes, seed=3)
    for e, t in itertools.product(range(COUNT), range(STEPS)):
        if t == 0:
            h, z = 0.9 * torch.ones(H).double(), torch.linspace(-1, 1, net.size).double()
        h = net.recurrent(h[None], z[None], episodes.previous_actions[e, t][None].double())[0]
        embed = net.encoder(episodes.observations[e, t].double())
        z = drawn(net, net.of_both(torch.cat([h, embed])), paths.noise[e, t])
        torch.testing.assert_close(paths.states[e, t], torch.cat([h, z]))
    if kind == "onehot":
        groups = paths.states[..., H:].unflatten(-1, (2, 3))
        assert bool(((groups == 0) | (groups == 1)).all()) and bool((groups.sum(-1) == 1).all())
        assert len(groups.flatten(0, 1).unique(dim=0)) > 2
    unlearnt = made(kind, initial=None)[1]
    gap = (clean_paths(unlearnt, episodes, seed=3).states - paths.states)[:, 0].norm(dim=1)
    assert bool((gap > 0.1).all())


def block_covariance(logits):
    slow = torch.zeros(6, 6).double()
    for s, law in enumerate(probabilities(logits)):
        for i, j in itertools.product(range(3), range(3)):
            slow[3 * s + i, 3 * s + j] = law[i] * (float(i == j) - law[j])
    return slow


@pytest.mark.parametrize("observed", [True, False])
def test_one_hot_latents_have_the_covariance_of_their_groups(observed):
    net, model = made("onehot")
    state, action, embed = randn(4, H + 6, seed=5), randn(4, A), randn(4, E, seed=6)
    mean, factor = model.law(state, action, embed if observed else None)
    covariance = factor @ factor.mT
    h = net.recurrent(*state.split([H, 6], 1), action)
    raw = net.of_both(torch.cat([h, embed], 1)) if observed else net.of_h(h)
    for b in range(4):
        torch.testing.assert_close(mean[b], torch.cat([h[b], probabilities(raw[b]).flatten()]))
        torch.testing.assert_close(covariance[b, H:, H:], block_covariance(raw[b]))
        assert not covariance[b, :H].any()
    names = ("mean", "standard deviation")
    moments = dict(zip(names, model.moments(mean, embed), strict=True))
    pi = torch.softmax(net.of_both(torch.cat([h, embed], 1)).unflatten(1, (2, 3)), -1).flatten(1)
    torch.testing.assert_close(moments["standard deviation"], (pi * (1 - pi)).sqrt())


def test_many_draws_have_the_mean_and_the_covariance_of_the_surrogate():
    _, model = made("onehot")
    count = 20_000
    state, action, embed = (randn(1, n, seed=n).expand(count, -1) for n in (H + 6, A, E))
    noise = model.draw_noise((count,), torch.Generator().manual_seed(0))
    z = model.sample(state, action, embed, noise)[0][:, H:]
    mean, factor = model.law(state[:1], action[:1], embed[:1])
    assert float((z.mean(0) - mean[0, H:]).abs().max()) < 5 * 0.5 / count**0.5
    covariance = (factor @ factor.mT)[0, H:, H:]
    assert float((torch.cov(z.T) - covariance).abs().max()) < 5 * 0.5 / count**0.5


def surrogate_factor(logits):
    """Any root of the covariance gives the same law; this one has the columns of the model's."""
    factor = torch.zeros(6, 6).double()
    for s, law in enumerate(probabilities(logits)):
        for i, k in itertools.product(range(3), range(3)):
            part = float(i == k) * law[k].sqrt() - law[i] * law[k].sqrt()
            factor[3 * s + i, 3 * s + k] = part
    return factor


def mean_loss(net, start, actions, clean, other, size):
    """E L over all signs of the noise, where z has `size` times the error of the observations."""
    drivers = {"gaussian": 1, "onehot": 6, "point": 1}[net.kind]
    steps, total = len(actions), 0.0
    patterns = [*itertools.product((-1.0, 1.0), repeat=drivers * steps)]
    for signs in patterns:
        noise = torch.tensor(signs, dtype=F64).reshape(steps, drivers)
        h, z = start[:H], start[H:]
        for t in range(steps):
            h = net.recurrent(h[None], z[None], actions[t][None])[0]
            laws = []
            for o in (clean[t], other[t]):
                raw = net.of_both(torch.cat([h, net.encoder(o)]))
                if net.kind == "onehot":
                    laws.append((probabilities(raw).flatten(), surrogate_factor(raw)))
                else:
                    mean, std = net.law(raw) if net.kind == "gaussian" else (raw, 0 * raw)
                    laws.append((mean, torch.diag(std)))
            (m, g), (m_, g_) = laws
            z = m + size * (m_ - m) + (g + size * (g_ - g)) @ noise[t]
        total += float(torch.sin(h.sum() + z @ z))
    return total / len(patterns)


@pytest.mark.parametrize(("kind", "steps"), [("gaussian", 3), ("onehot", 1), ("point", 3)])
def test_the_expansion_agrees_with_central_differences_of_a_loop(kind, steps):
    net = Net(kind, size=1)
    sizes = {"gaussian": 1} if kind != "onehot" else {"onehot": (2, 3)}
    noise = {"noise_size": 0} if kind == "point" else {}
    model = sdewm.RSSM(**net.given, deter=H, **sizes, **noise)
    start, actions = randn(1, H + net.size, seed=8), randn(steps, A, seed=9)
    clean, other = randn(steps, D, seed=10), randn(steps, D, seed=11)
    system = sdewm.as_system(model, actions=actions, observations=clean)
    assert system.label == ("surrogate: " if kind == "onehot" else "exact") + model.surrogate
    found = sdewm.expand(
        system,
        sdewm.encoder_error(system, other),
        lambda y: torch.sin(y[:, :H].sum(1) + (y[:, H:] ** 2).sum(1)),
        start,
        t1=steps,
        steps=steps,
        increments="enumerate",
    )

    def differences(h):
        below, at, above = (mean_loss(net, start[0], actions, clean, other, x) for x in (-h, 0, h))
        return np.array([at, (above - below) / (2 * h), (above - 2 * at + below) / (2 * h * h)])

    expected = (4 * differences(0.005) - differences(0.01)) / 3
    measured = [found.terms[name].value for name in ("c0", "c1", "c2")]
    np.testing.assert_allclose(measured, expected, rtol=1e-6, atol=1e-8)
    assert abs(expected[1]) > 1e-3 and abs(expected[2]) > 1e-3


def test_the_functions_of_a_world_model_give_the_model_itself():
    world_model, episodes = make_model("categorical"), recorded()
    rssm, law = world_model.rssm, world_model.rssm.latent
    ours = RSSMModel(world_model)
    theirs = sdewm.RSSM(
        recurrent=lambda h, z, a: rssm.deterministic(State(h, z), a),
        prior=rssm.prior,
        posterior=rssm.posterior,
        encoder=world_model.encoder,
        deter=rssm.deter_size,
        onehot=(law.groups, law.classes),
        decoder=lambda h, z: world_model.decoder.predict(torch.cat([h, z], -1)),
        reward=lambda h, z: world_model.reward.mean(world_model.reward(torch.cat([h, z], -1))),
    )
    a, b = (clean_paths(model, episodes, seed=1) for model in (ours, theirs))
    torch.testing.assert_close(a.states, b.states)
    both = [jacobian_sizes(model, episodes, every=3) for model in (ours, theirs)]
    for name, values in both[0].items():
        torch.testing.assert_close(both[1][name], values)
    grid = {"context": 2, "horizon": 3, "samples": 2, "seed": 0}
    a, b = (open_loop(model, episodes, **grid) for model in (ours, theirs))
    for name in ("observations", "rewards", "latents", "kl"):
        for part in ("rollout", "one_step"):
            np.testing.assert_allclose(
                getattr(getattr(a, part), name), getattr(getattr(b, part), name), rtol=1e-9
            )
    np.testing.assert_allclose(a.shuffled_kl, b.shuffled_kl, rtol=1e-9)


@EACH
def test_a_model_is_sound_and_its_analyses_start_from_its_initial_state(kind):
    net, model = made(kind, policy=Net(kind).policy, critic=lambda h, z: h.sum(-1))
    episodes = recorded()
    assert sdewm.check_model(model, episodes) == []
    found = open_loop(model, episodes, context=1, horizon=2, samples=2, seed=0)
    h, z = (part[None] for part in (0.9 * torch.ones(H), torch.linspace(-1, 1, net.size)))
    first = net.recurrent(h.double(), z.double(), torch.zeros(1, A).double())[0]
    for s, e in itertools.product(range(2), range(COUNT)):
        np.testing.assert_allclose(found.last_latent[s, e, :H], first)
    error = sdewm.measure_transition_error(model, episodes)
    embed = net.encoder(episodes.observations[:, 0].double())
    h = first.expand(COUNT, -1)
    prior, posterior = net.of_h(h), net.of_both(torch.cat([h, embed], 1))
    if kind == "onehot":
        prior, posterior = (
            torch.softmax(x.unflatten(1, (2, 3)), 2).flatten(1) for x in (prior, posterior)
        )
    shift = (prior - posterior)[:, : net.size]
    np.testing.assert_allclose(error.shift[:, 0, 0], shift, atol=1e-12)


def test_a_deterministic_latent_goes_through_every_analysis_without_noise():
    net, model = made("point")
    episodes = recorded(2, 6)
    assert model.noise_size == 0 and model.kl is None
    noisy = lambda o, generator: o + torch.randn(o.shape, generator=generator)  # noqa: E731
    found = sdewm.diverge_on_model(model, episodes, noisy, start=2, horizon=2, copies=2, paths=1)
    assert found.label == "exact"
    state = clean_paths(model, episodes).states[:, 2]
    error = sdewm.measure_representation_error(model, episodes, noisy, draws=4)
    assert not error.std.any() and error.shift.any()
    loss = lambda system, o, r: lambda y: y[:, 0] ** 2  # noqa: E731
    grid = {"start": 2, "horizon": 2, "copies": 2, "paths": 1, "draws": 4}
    expansion = sdewm.expand_on_model(model, episodes, noisy, loss, **grid)
    assert expansion.label == "exact"
    end = state
    for t in range(3, 5):
        embed = net.encoder(episodes.observations[:, t].double())
        h = net.recurrent(*end.split([H, 2], 1), episodes.previous_actions[:, t].double())
        end = torch.cat([h, net.of_both(torch.cat([h, embed], 1))], 1)
    assert expansion.encoder.terms["c0"].value == pytest.approx(float((end[:, 0] ** 2).mean()))
    assert expansion.encoder.terms["S_drift"].value != 0
    spectrum = model_lyapunov(model, episodes, start=2, steps=3, discard=1, exponents=2)
    assert np.isfinite(spectrum.exponents).all()
    predicted = open_loop(model, episodes, context=3, horizon=3, samples=2, seed=0)
    assert predicted.left_out == {
        "kl": "RSSM has no kl: it compares laws of z given h; sdewm.RSSM knows them with gaussian= "
        "or onehot=, but a deterministic z (noise_size=0) has none"
    }
    assert predicted.rollout.kl.size == 0
    np.testing.assert_array_equal(*predicted.rollout.latents)  # without noise


@BOTH
def test_modules_in_float32_are_copied_and_stay_as_they_are(kind):
    net, model = made(kind)
    narrow = Net(kind).float().requires_grad_(True)
    copied = sdewm.RSSM(
        **narrow.given, deter=H, **KINDS[kind], initial=made(kind)[1].split(model.initial(1)[0])
    )
    assert all(w.dtype == torch.float32 and w.requires_grad for w in narrow.parameters())
    assert copied.prior.given.__self__ is copied.posterior.given.__self__  # one copy of a module
    open_ended = {**narrow.given, "encoder": lambda o: o.double()}
    assert copied.frozen and not sdewm.RSSM(**open_ended, deter=H, **KINDS[kind]).frozen
    narrow.cell.weight_hh.data.zero_()
    state, action = randn(2, model.state_size), randn(2, A)
    mean, factor = copied.law(state, action, None)
    assert not mean.requires_grad and not factor.requires_grad
    torch.testing.assert_close(mean, model.law(state, action, None)[0], rtol=1e-5, atol=1e-6)


def test_the_loss_of_a_decoder_of_images_is_in_units_of_the_range():
    decoder = FunctionDecoder(lambda states: states.reshape(-1, 1, 2, 1))
    images = torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8).reshape(2, 1, 2, 1)
    loss = decoder.loss(torch.tensor([[0.5, 0.5], [0.2, 0.0]], dtype=F64), images)
    torch.testing.assert_close(loss, torch.tensor([0.5, 0.16], dtype=F64))
    with pytest.raises(
        ValueError, match=r"decoder returned shape \(2, 1, 2, 1\); expected \(2, 2\)"
    ):
        decoder.loss(torch.zeros(2, 2).double(), torch.zeros(2, 2).double())


REFUSED = {  # what is given instead, and the message
    "neither kind": ({"gaussian": None}, "neither of gaussian and onehot given: expected exactly"),
    "both kinds": ({"onehot": (2, 3)}, "both of gaussian and onehot given"),
    "one-hot of one number": ({"gaussian": None, "onehot": 6}, r"onehot=6: expected \(S, K\)"),
    "one class": ({"gaussian": None, "onehot": (2, 1)}, "onehot, classes,=1: expected a whole"),
    "noise": ({"noise_size": 2}, "noise_size=2: expected 0, with gaussian=Z"),
    "size of h": ({"deter": 0}, "deter=0: expected a whole number"),
    "no function": ({"prior": 3}, "prior=3: expected a function"),
    "one initial part": ({"initial": torch.zeros(5)}, "initial=Tensor: expected a pair"),
    "initial h": ({"initial": (torch.zeros(2), torch.zeros(2))}, r"initial, h=\(2,\): .*\(3,\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_model_is_refused_at_once(name):
    changes, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        sdewm.RSSM(**{**Net().given, "deter": H, "gaussian": 2, **changes})


def cell_in_float32(h, z, a):
    return NARROW(torch.cat([z, a], -1), h)


NARROW = nn.GRUCell(2 + A, H)
BROKEN = {  # kind of z, the function that is given instead, and the message
    "no deviation": ("gaussian", {"prior": lambda h: h[:, :2]}, "prior returned Tensor: expected "),
    "three numbers": (
        "gaussian",
        {"prior": lambda h: (h, h, h)},
        r"prior returned tuple: expected",
    ),
    "size of the mean": (
        "gaussian",
        {"posterior": lambda h, e: (h, h[:, :2])},
        r"posterior, mean, returned shape \(3, 3\): expected \(3, 2\)",
    ),
    "size of the deviation": (
        "gaussian",
        {"prior": lambda h: (h[:, :2], h)},
        r"prior, standard deviation, returned shape \(3, 3\)",
    ),
    "size of the logits": (
        "onehot",
        {"prior": lambda h: h},
        r"prior returned shape \(3, 3\): expected logits \(3, 2, 3\) or \(3, 6\)",
    ),
    "pair of logits": (
        "onehot",
        {"posterior": lambda h, e: (h, h)},
        "posterior returned tuple: expected logits",
    ),
    "no tensor": (
        "onehot",
        {"prior": lambda h: torch.distributions.Categorical(logits=h)},
        "prior returned Categorical: expected logits",
    ),
    "probabilities": (
        "onehot",
        {"posterior": lambda h, e: torch.softmax(h @ h.new_ones(3, 6), -1) * 2},
        "posterior returned probabilities, which sum to 1 in each group: expected logits",
    ),
    "logarithm of the deviation": (
        "gaussian",
        {"prior": lambda h: (h[:, :2], h[:, :2] - 2)},
        "prior returned a standard deviation of -.*: expected numbers of at least 0",
    ),
    "pair of a point": ("point", {"prior": lambda h: (h, h)}, "prior returned tuple"),
    "size of h": ("gaussian", {"recurrent": lambda h, z, a: z}, r"recurrent returned shape \(3, 2"),
    "float32 inside": (
        "gaussian",
        {"recurrent": cell_in_float32},
        r"recurrent uses NARROW in float32, .*pass the module itself .* module\.double\(\)",
    ),
    "float32 returned": (
        "gaussian",
        {"encoder": lambda o: o.float()},
        "encoder returned torch.float32: expected torch.float64; pass the module itself",
    ),
    "rows mixed": (
        "gaussian",
        {"recurrent": lambda h, z, a: torch.tanh(h + z.mean() + a.sum(1, True))},
        "recurrent mixes the rows",
    ),
    "random encoder": ("onehot", {"encoder": lambda o: torch.rand_like(o)}, "encoder gives two"),
    "arguments": ("onehot", {"posterior": lambda h: h}, "does not take these inputs"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_function_that_does_not_fit_is_refused_by_name(name):
    kind, changes, message = BROKEN[name]
    model = sdewm.RSSM(**{**Net(kind).given, "deter": H, **KINDS[kind], **changes})
    with pytest.raises(ValueError, match=message):
        sdewm.measure_transition_error(model, recorded())
    (finding, *_) = sdewm.check_model(model, recorded())
    assert finding.remedy


def test_a_module_is_used_in_evaluation_mode_and_another_function_as_it_is():
    net = Net("gaussian")
    encoder = nn.Sequential(net.seen, nn.Dropout(0.5), nn.BatchNorm1d(net.seen.out_features))
    encoder = encoder.double().train()

    def findings(function):
        given = net.given | {"encoder": function}
        return sdewm.check_model(sdewm.RSSM(**given, deter=H, **KINDS["gaussian"]), recorded())

    assert findings(encoder) == [] and encoder.training
    assert [finding.check for finding in findings(lambda o: encoder(o))] == ["random"]
    encoder.eval()
    assert findings(lambda o: encoder(o)) == []


PARTS = {
    "decoder": (lambda h, z: h, r"decoder returned shape \(3, 3\): expected \(3, 4\)"),
    "reward": (lambda h, z: h, r"reward returned shape \(3, 3\): expected \(3,\)"),
    "critic": (lambda h, z: h.sum(), r"critic returned shape \(\): expected \(3,\)"),
    "policy": (lambda h, z: z, r"policy returned shape \(3, 2\): expected \(3, 3\)"),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_does_not_fit_is_found(name):
    part, message = PARTS[name]
    (finding, *_) = sdewm.check_model(made("gaussian", **{name: part})[1], recorded())
    assert finding.check == "outputs" and re.search(message, str(finding))


def test_a_surrogate_that_is_not_named_is_refused():
    model = made("onehot")[1]
    model.surrogate = ""
    (finding,) = sdewm.check_model(model, recorded())
    assert finding.check == "noise" and "name the law that replaces" in finding.remedy
    episodes = recorded()
    with pytest.raises(ValueError, match=r"model\.sample is not the mean plus the factor"):
        sdewm.as_system(
            model, actions=episodes.previous_actions, observations=episodes.observations
        )


def test_what_a_model_lacks_is_refused_with_what_to_pass():
    model = made("gaussian", decoder=None, reward=None)[1]
    system = sdewm.as_system(model, actions=recorded().previous_actions)
    for part, call in (
        ("decoder", lambda: reconstruction_loss(system, randn(COUNT, D))),
        ("reward", lambda: reward_loss(system, randn(COUNT))),
        ("critic", lambda: value(system)),
    ):
        message = f"world_model=RSSM has no {part}: pass {part}= to sdewm.RSSM"
        with pytest.raises(ValueError, match=message):
            call()
    found = open_loop(model, recorded(), context=2, horizon=3, samples=2, seed=0)
    assert set(found.left_out) == {"observations", "rewards"}
    assert found.rollout.observations.size == found.one_step.rewards.size == 0
    assert found.rollout.kl.shape == (2, COUNT, 3)
    with pytest.raises(ValueError, match="rollout.rewards has numbers: expected none"):
        replace(found, rollout=replace(found.rollout, rewards=found.rollout.kl))
    with pytest.raises(ValueError, match="left_out contains a field='reward' is not allowed"):
        replace(found, left_out={"reward": "none"})

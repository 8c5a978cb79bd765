"""What is checked of a world model at states that it visits: named findings, without a trace."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import sdewm
from sdewm.latent_sde.models import INTERFACE, RSSMModel, StepModel
from tests.latent_sde.test_system import ForeignGRU
from tests.model.small_models import A, D, make_model, randn

F64 = torch.float64


def recorded(count=3, steps=6):
    actions = torch.tanh(randn(count, steps, A, seed=1))
    return sdewm.Episodes(randn(count, steps, D), actions, randn(count, steps, seed=2))


def sound_step(state, action, noise):
    h, z = state[:, :2], state[:, 2:]
    h = torch.tanh(0.8 * h + z + action[:, :2])
    return torch.cat([h, 0.5 * h + 0.3 * noise], 1)


def sound_encoder(state, observation):
    mean = torch.tanh(state[:, :2] + observation[:, :2])
    return mean, torch.full_like(mean, 0.3)


def made(step=sound_step, encoder=sound_encoder, **parts):
    return StepModel(step, state_size=4, noise_size=2, encoder=encoder, latent=slice(2, 4), **parts)


def drawing(state, observation):
    mean, std = sound_encoder(state, observation)
    return mean + 0.1 * torch.randn_like(mean), std


def changing_observations(state, observation):
    observation -= 0.5
    return sound_encoder(state, observation)


def changing_state(state, action, noise):
    state *= 0.5
    return sound_step(state, action, noise)


def changing_actions(state, action, noise):
    return sound_step(state, action.clamp_(-0.5, 0.5), noise)


def mixing(state, observation):
    return sound_encoder(state, observation - observation.mean(0))


def narrow(state, action, noise):
    return sound_step(state.float(), action.float(), noise.float()).double()


def solved(state, action, noise):
    matrix = torch.eye(4, dtype=F64) + 0.2 * state[:, :, None] * state[:, None]
    after = sound_step(state, action, noise)
    return after + 0.1 * torch.linalg.solve(matrix, state + 1)


def checkpointed(state, action, noise):
    return checkpoint(sound_step, state, action, noise, use_reentrant=True)


class BatchNormalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(D).double()

    def forward(self, state, observation):
        return sound_encoder(state, self.norm(observation))


BROKEN = {
    "encoder draws": (made(encoder=drawing), "random", "encoder gives two values"),
    "dropout": (
        made(lambda x, a, v: sound_step(functional.dropout(x, 0.5), a, v)),
        "random",
        "step gives two values",
    ),
    "encoder changes observations": (made(encoder=changing_observations), "in place", "encoder"),
    "step changes state": (made(changing_state), "in place", "step changes its arguments"),
    "step changes actions": (made(changing_actions), "in place", "step changes its arguments"),
    "encoder mixes rows": (made(encoder=mixing), "rows", "encoder mixes the rows"),
    "batch norm": (made(encoder=BatchNormalised()), "rows", "batch normalisation in training"),
    "float32 inside": (made(narrow), "precision", "step computes in torch.float32"),
    "noise squared": (
        made(lambda x, a, v: sound_step(x, a, v**2)),
        "noise",
        "step is not linear in its noise",
    ),
    "shape": (made(lambda x, a, v: x[:, 1:]), "outputs", r"step returned shape \(3, 3\)"),
    "outside torch": (
        made(lambda x, a, v: np.tanh(x.numpy())),
        "outputs",
        "step returned ndarray: expected a tensor",
    ),
    "float32 returned": (made(lambda x, a, v: sound_step(x, a, v).float()), "outputs", "float32"),
    "no pair": (made(encoder=lambda x, o: o[:, :2]), "outputs", "encoder returned Tensor"),
    "not a number": (
        made(lambda x, a, v: sound_step(x, a, v) * float("nan")),
        "outputs",
        "the first step from the initial state has nan or infinity: look for it in the weights",
    ),
    "no operation": (made(lambda x, a, v: x.foo), "outputs", "step does not take these inputs"),
}
BROKEN |= {
    "logarithm of the deviation": (
        made(encoder=lambda x, o: (o[:, :2], x[:, :2] - 2)),
        "outputs",
        "encoder returned a standard deviation of -.*: expected numbers of at least 0",
    ),
    "negative at later rows": (
        made(encoder=lambda x, o: (o[:, :2], 1e-9 - x[:, :2] * (x[:, 2:] != 0))),
        "outputs",
        "encoder returned a standard deviation of -",
    ),
    "deviation without noise": (
        StepModel(
            lambda x, a, v: sound_step(x, a, x[:, :2]),
            state_size=4,
            noise_size=0,
            encoder=sound_encoder,
            latent=slice(2, 4),
        ),
        "outputs",
        r"standard deviation of 0.3, and the model has no noise \(noise_size=0\)",
    ),
}
DERIVATIVES = {
    "solve": (made(solved), "wrong in automatic differentiation"),
    "reentrant checkpointing": (made(checkpointed), "activation checkpointing off"),
    "NumPy": (
        made(lambda x, a, v: sound_step(torch.as_tensor(np.tanh(x.numpy())), a, v)),
        "read outside torch",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_breaks_the_contract_is_found_and_refused_by_name(name):
    model, check, message = BROKEN[name]
    episodes = recorded()
    before = [episodes.observations.clone(), episodes.previous_actions.clone()]
    stream = torch.get_rng_state()
    findings = sdewm.check_model(model, episodes)
    assert findings[0].check == check and findings[0].remedy
    noise = lambda clean, generator: clean.clone()  # noqa: E731
    for call in (
        lambda: sdewm.measure_transition_error(model, episodes),
        lambda: sdewm.diverge_on_model(model, episodes, noise, start=1, horizon=2),
        lambda: sdewm.value_bias_on_model(
            model, episodes, noise, lambda s: lambda y: y[:, 0], start=1, horizon=2
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert torch.equal(episodes.observations, before[0])
    assert torch.equal(episodes.previous_actions, before[1])
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "noise squared"])
def test_functions_that_use_observations_alone_refuse_it_as_well(name):
    model, _, message = BROKEN[name]
    episodes = recorded()
    noise = lambda clean, generator: clean.clone()  # noqa: E731
    loss = lambda system, o, r: lambda y: y[:, 0] ** 2  # noqa: E731
    for call in (
        lambda: sdewm.measure_representation_error(model, episodes, noise, draws=2),
        lambda: sdewm.expand_on_model(model, episodes, noise, loss, start=1, horizon=2),
        lambda: sdewm.as_system(
            model, actions=episodes.previous_actions, observations=episodes.observations
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("name", DERIVATIVES)
def test_wrong_derivatives_matter_where_they_are_used(name):
    model, message = DERIVATIVES[name]
    episodes = recorded()
    (finding,) = sdewm.check_model(model, episodes)
    assert finding.check == "derivatives" and message in str(finding)
    shift = lambda clean, generator: clean + 0.1  # noqa: E731
    assert sdewm.measure_representation_error(model, episodes, shift, draws=2).draws == 2
    with pytest.raises(ValueError, match=message):
        sdewm.diverge_on_model(model, episodes, shift, start=1, horizon=2, grades=())


def test_a_model_whose_paths_explode_is_sound_as_far_as_they_are_finite():
    # Linear in its noise; a row whose step overflows said "not linear (deviation nan)".
    square = StepModel(lambda x, a, v: 9 * x * x + 3 + 0.1 * v, state_size=2, noise_size=2)
    assert sdewm.check_model(square, recorded(steps=16)) == []
    singular = made(reward=lambda x: x[:, 0].abs().log())  # infinite at the initial state alone
    assert sdewm.check_model(singular, recorded()) == []
    for reward in (lambda x: (x[:, 0] - x[:, 0]).log(), lambda x: x[:, 0] * float("nan")):
        (finding,) = sdewm.check_model(made(reward=reward), recorded())
        assert finding.message == "reward returned nan or infinity in every row"
    latent = made(lambda x, a, v: sound_step(x, a, v) * torch.tensor([1.0, 1, 1, float("nan")]))
    (finding,) = sdewm.check_model(latent, recorded())
    assert finding.message == "step returned nan or infinity in every row"


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
def test_models_of_this_package_are_sound(latent):
    model = make_model(latent)
    assert sdewm.check_model(model, recorded()) == []
    assert sdewm.check_model(RSSMModel(model), recorded(1, 1)) == []
    still = sdewm.Episodes(torch.zeros(2, 4, D), torch.zeros(2, 4, A), torch.zeros(2, 4))
    assert sdewm.check_model(model, still) == []


def test_sound_models_in_plain_torch_have_no_findings():
    gru = ForeignGRU()
    model = StepModel(gru.step, state_size=8, noise_size=2, encoder=gru.encode, latent=slice(6, 8))
    assert sdewm.check_model(model, recorded()) == []
    assert sdewm.check_model(made(), recorded()) == []
    blind = StepModel(lambda x, a, v: 0.5 * x + a + 0.1 * v, state_size=A, noise_size=A)
    assert sdewm.check_model(blind, recorded()) == []


def test_a_noise_that_is_not_linear_matters_where_it_is_used():
    model = BROKEN["noise squared"][0]
    episodes = recorded()
    shift = lambda clean, generator: clean + 0.1  # noqa: E731
    assert sdewm.measure_representation_error(model, episodes, shift, draws=2).draws == 2


def test_the_running_statistics_of_a_refused_encoder_stay():
    encoder = BatchNormalised()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert sdewm.check_model(made(encoder=encoder), recorded())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert sdewm.check_model(made(encoder=encoder.eval()), recorded()) == []


def test_a_policy_is_checked_and_a_reference_encoder_may_draw():
    policy = lambda x: torch.tanh(x[:, :A] - x[:, :A].mean(0))  # noqa: E731
    with pytest.raises(ValueError, match="policy mixes the rows"):
        sdewm.as_system(made(), policy=policy)
    found = sdewm.measure_representation_error(made(), recorded(), reference_encoder=drawing)
    assert 0 < found.fluctuation.std() < 0.2
    with pytest.raises(ValueError, match="policy=3: expected a function"):
        sdewm.as_system(made(), policy=3)


def test_a_policy_that_has_changed_is_looked_at_again():
    model = RSSMModel(make_model("gaussian"))
    mixes = [False]

    def policy(x):
        return torch.tanh(x[:, :A] - mixes[0] * x[:, :A].mean(0))

    sdewm.as_system(model, policy=policy)
    mixes[0] = True
    with pytest.raises(ValueError, match="policy mixes the rows"):
        sdewm.as_system(model, policy=policy)


@pytest.mark.parametrize(
    "latent", [slice(0, 4, 2), slice(3, 1), slice(4, 9), slice(None, None, -1), 2]
)
def test_components_that_are_not_consecutive_are_refused(latent):
    with pytest.raises(ValueError, match=r"latent=.*: expected a slice of one or more of the 4"):
        StepModel(sound_step, state_size=4, noise_size=0, latent=latent)
    made = StepModel(sound_step, state_size=4, noise_size=2, latent=slice(-2, 9))
    assert made.latent == slice(2, 4)


def test_a_model_is_checked_once(monkeypatch):
    from sdewm.latent_sde import model_contract

    calls, real = [], model_contract._impurities
    monkeypatch.setattr(model_contract, "_impurities", lambda *a: calls.append(a) or real(*a))
    shift = lambda clean, generator: clean + 0.1  # noqa: E731
    loss = lambda system, o, r: lambda y: y[:, 0] ** 2  # noqa: E731
    how = {"start": 1, "horizon": 2, "copies": 2, "paths": 2}
    sdewm.expand_on_model(made(), recorded(), shift, loss, draws=2, **how)
    assert len(calls) == 1
    sdewm.diverge_on_model(made(), recorded(), shift, **how)
    assert len(calls) == 2


def test_what_is_given_in_another_form_is_refused_by_name():
    episodes = recorded()
    with pytest.raises(ValueError, match=r"episodes=dict: .* sdewm\.Episodes\(observations"):
        sdewm.check_model(made(), vars(episodes))
    with pytest.raises(ValueError, match="world_model=Linear: .* It has no state_size"):
        sdewm.check_model(nn.Linear(2, 2), episodes)
    with pytest.raises(ValueError, match="actions is on device 'meta'"):
        sdewm.as_system(made(), actions=torch.zeros(2, A, device="meta"))


def test_more_steps_than_recorded_rows_are_refused():
    system = sdewm.as_system(made(), actions=recorded().previous_actions[0])
    error = sdewm.Perturbation(drift=lambda t, y: torch.ones_like(y))
    x0 = torch.zeros(4, dtype=F64)
    with pytest.raises(ValueError, match="outside the recorded inputs, 6 rows"):
        sdewm.expand(system, error, lambda y: y[:, 0] ** 2, x0, t1=7, steps=7, paths=8)
    sdewm.expand(system, error, lambda y: y[:, 0] ** 2, x0, t1=6, steps=6, paths=8)


class Factored:
    """A model of one's own with a factor; `wrong` is what its factor gets wrong."""

    def __init__(self, wrong=""):
        self.model, self.wrong = made(), wrong
        for name in INTERFACE:
            setattr(self, name, getattr(self.model, name))

    def factored_law(self, state, action, embed):
        mean, factor = self.model.factored_law(state, action, embed)
        if self.wrong == "mean":
            return mean + 0.01, factor
        given, wrong = factor, self.wrong

        class Factor:
            def __getattr__(self, name):
                value = getattr(given, name)
                return (lambda *v: 1.01 * value(*v)) if name == wrong else value

        return mean, Factor()


def test_a_factor_of_ones_own_has_to_be_that_of_the_law():
    assert sdewm.check_model(Factored(), recorded()) == []
    for wrong in ("mean", "matrix", "product", "entries", "deviation"):
        (finding,) = sdewm.check_model(Factored(wrong), recorded())
        assert finding.check == "noise"
        assert f"factored_law disagrees with model.law in its {wrong}" in finding.message

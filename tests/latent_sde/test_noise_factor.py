"""Products and entries of the noise of a step are those of its matrix, which is not formed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import sdewm
from sdewm.latent_sde import noise_factor
from sdewm.latent_sde.models import INTERFACE, RSSMModel, StepModel
from sdewm.latent_sde.noise_factor import (
    CategoricalFactor,
    DenseFactor,
    DiagonalFactor,
    FactoredModel,
    StepFactor,
)
from sdewm.latent_sde.system import as_system
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from tests.latent_sde.test_model_contract import recorded
from tests.model.small_models import CATEGORICAL, A, make_model, randn, random_state

ROWS, SIZE, DRIVERS = 5, 7, 4
NOISE = ObservationPerturbation("noise", 0.3)
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


def step(state, action, noise):
    """Linear in its noise, with a full factor that depends on the state."""
    gain = torch.sin(state[:, :, None] + torch.arange(DRIVERS))
    return torch.tanh(state) + 0.1 * action[:, :1] + torch.einsum("bdm,bm->bd", gain, noise)


def factors():
    state, action = randn(ROWS, SIZE), randn(ROWS, A, seed=1)
    mean = step(state, action, torch.zeros(ROWS, DRIVERS).double())
    pi = torch.softmax(randn(ROWS, 2, 2, seed=2), -1)
    return {
        "dense": DenseFactor(randn(ROWS, SIZE, DRIVERS)),
        "diagonal": DiagonalFactor(randn(ROWS, DRIVERS).abs(), (2, 1)),
        "categorical": CategoricalFactor(pi, (3, 0)),
        "step": StepFactor(step, state, action, mean, DRIVERS),
    }


@pytest.mark.parametrize("name", factors())
def test_product_entries_and_deviation_are_those_of_the_matrix(name):
    factor, noise = factors()[name], randn(ROWS, DRIVERS, seed=3)
    matrix = factor.matrix()
    assert matrix.shape == (ROWS, SIZE, DRIVERS)
    torch.testing.assert_close(factor.product(noise), (matrix @ noise[..., None])[..., 0], **CLOSE)
    torch.testing.assert_close(factor.deviation(), matrix.norm(dim=2), **CLOSE)
    for row, entries in zip(matrix, factor.entries(), strict=True):
        kept = row[row != 0]
        assert sorted(entries.flatten().tolist()) == pytest.approx(sorted(kept.tolist()))


def test_the_factor_of_one_hot_groups_is_that_of_their_covariance_group_by_group():
    pi = torch.softmax(randn(ROWS, 3, 4), -1)
    matrix = CategoricalFactor(pi, (2, 1)).matrix()
    expected = torch.zeros(ROWS, 15, 15).double()
    for b in range(ROWS):
        for s in range(3):
            part = slice(2 + 4 * s, 6 + 4 * s)
            expected[b, part, part] = torch.diag(pi[b, s]) - torch.outer(pi[b, s], pi[b, s])
    torch.testing.assert_close(matrix @ matrix.mT, expected, **CLOSE)


class Counted:
    """A step that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, state, action, noise):
        self.calls += 1
        return step(state, action, noise)


def test_all_columns_come_from_one_call_of_the_step_and_are_those_of_a_loop(monkeypatch):
    counted = Counted()
    model = StepModel(counted, state_size=SIZE, noise_size=DRIVERS)
    state, action = randn(ROWS, SIZE), randn(ROWS, A, seed=1)
    mean, matrix = model.law(state, action, None)
    assert counted.calls == 2  # the mean, and all columns
    none = torch.zeros(ROWS, DRIVERS).double()
    columns = [step(state, action, none + row) - mean for row in torch.eye(DRIVERS).double()]
    torch.testing.assert_close(matrix, torch.stack(columns, 2), **CLOSE)
    monkeypatch.setattr(noise_factor, "_ROWS_AT_ONCE", 2 * ROWS + 1)
    torch.testing.assert_close(model.law(state, action, None)[1], matrix, **CLOSE)
    assert counted.calls == 2 + 3


def test_a_simulation_calls_a_step_twice_whatever_the_number_of_its_drivers():
    counted = Counted()
    model = StepModel(counted, state_size=SIZE, noise_size=DRIVERS)
    system = as_system(model, actions=torch.zeros(3, A))
    noise = GaussianNoise(drivers=DRIVERS, steps=3, t1=3.0)
    start = system.start(randn(1, SIZE), ROWS)
    few = GaussianNoise(drivers=DRIVERS, steps=2, t1=2.0)
    calls = []
    for one in (few, noise):
        counted.calls = 0
        end = solve_path(system, start, one)[:, 0]
        calls.append(counted.calls)
    assert calls[1] - calls[0] == 2
    state = start
    for increment in noise.stream(0, ROWS):
        state = step(state, torch.zeros(ROWS, A), increment)
    torch.testing.assert_close(end, state, **CLOSE)


class Dense:
    """A model that gives the matrix of its noise alone, as models did before there were factors."""

    def __init__(self, model):
        for name in (*INTERFACE, "world_model"):
            setattr(self, name, getattr(model, name))


def one_hot_model():
    """A model of more than 64 components, whose rates come from iteration."""
    return RSSMModel(make_model(rssm=replace(CATEGORICAL, deter=64)))


def test_every_analysis_has_the_numbers_of_the_matrix():
    model = one_hot_model()
    dense, episodes = Dense(model), recorded(2)
    assert model.state_size > 64 and not isinstance(dense, FactoredModel)

    def square(system, observations, rewards):
        return lambda y: (y[:, 60:70] ** 2).sum(1)

    settings = {"start": 2, "horizon": 2, "copies": 2, "paths": 2}
    one, two = (sdewm.diverge_on_model(m, episodes, NOISE, **settings) for m in (model, dense))
    for name in ("mean", "sup"):
        np.testing.assert_allclose(one[name].values, two[name].values, rtol=1e-10)
    # Only of the one-hot model itself it is known that a step is not continuous.
    assert two.bounds.keys() - one.bounds.keys() == {"enclosure"} and len(one.bounds) > 2
    for grade in one.bounds:
        np.testing.assert_allclose(
            one.bounds[grade]["mean"].values, two.bounds[grade]["mean"].values, rtol=1e-7
        )
    one, two = (
        sdewm.expand_on_model(m, episodes, NOISE, square, draws=3, **settings)
        for m in (model, dense)
    )
    for form in ("encoder", "measured"):
        terms, expected = (getattr(found, form).terms for found in (one, two))
        for name in terms:
            assert terms[name].value == pytest.approx(expected[name].value, rel=1e-9, abs=1e-12)
    assert one.encoder.terms["S"].value > 0
    one, two = (sdewm.measure_transition_error(m, episodes) for m in (model, dense))
    np.testing.assert_allclose(one.std, two.std, rtol=1e-12, atol=1e-14)


def test_no_analysis_forms_the_matrix_for_more_than_two_states(monkeypatch):
    model, episodes, formed = one_hot_model(), recorded(2), []
    whole = CategoricalFactor.matrix

    def counted(self):
        formed.append(len(self.probabilities))
        return whole(self)

    monkeypatch.setattr(CategoricalFactor, "matrix", counted)
    settings = {"start": 2, "horizon": 2, "copies": 2, "paths": 4}
    sdewm.diverge_on_model(model, episodes, NOISE, **settings)
    loss = lambda system, o, r: lambda y: y[:, 0] ** 2  # noqa: E731
    sdewm.expand_on_model(model, episodes, NOISE, loss, draws=2, **settings)
    sdewm.measure_transition_error(model, episodes)
    assert formed and max(formed) <= 2
    formed.clear()
    state = torch.cat([*random_state(model.rssm, 3)], 1)
    model.law(state, torch.zeros(3, A).double(), None)
    assert formed == [3]  # the count sees what is formed

"""The expansion on a model: the encoder's error and the measured one agree where they should."""

import pytest
import torch

from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.losses import reconstruction_loss
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.model_theorems.expansion import expand_on_model
from sdewm.perturbations.observation import ObservationPerturbation
from tests.model.small_models import make_model
from tests.model_theorems.test_representation_error import MIXING, linear_model, recorded


def square(system, observations, rewards):
    return lambda y: (y[:, :4] ** 2).sum(1)


def test_on_a_linear_model_both_forms_have_the_same_totals():
    found = expand_on_model(
        linear_model(),
        recorded(20),
        ObservationPerturbation("noise", 0.3),
        square,
        start=1,
        horizon=3,
        copies=16,
        paths=2,
        draws=200,
    )
    one, two = found.encoder.terms, found.measured.terms
    for name in ("c0", "c2"):
        error = (one[name].standard_error ** 2 + two[name].standard_error ** 2) ** 0.5
        assert abs(one[name].value - two[name].value) < 5 * error, name
    # White noise: booked as a drift of each copy by the encoder, as diffusion by the measurement.
    assert one["S"].value == pytest.approx(0, abs=1e-12) and one["S_drift"].value > 0
    assert two["S"].value > 10 * abs(two["S_drift"].value) and found.label == "exact"


def test_at_size_one_the_loss_is_that_of_the_model_on_perturbed_observations():
    model, episodes = make_model("gaussian"), recorded(4)
    shift = ObservationPerturbation("shift", 0.2)

    def loss(system, observations, rewards):
        return reconstruction_loss(system, observations)

    settings = {"start": 0, "horizon": 3, "copies": 1, "paths": 2, "draws": 2}
    found = expand_on_model(model, episodes, shift, loss, **settings)
    (row,) = found.encoder.measure([1.0])
    shifted = Episodes(episodes.observations + 0.2, episodes.previous_actions, episodes.rewards)

    def to_clean(system, observations, rewards):
        return reconstruction_loss(system, observations - 0.2)

    none = ObservationPerturbation("shift", 0.0)
    # The first state is that of the clean observations in both.
    shifted.observations[:, 0] -= 0.2
    fed = expand_on_model(model, shifted, none, to_clean, **settings)
    assert fed.encoder.terms["c0"].value == pytest.approx(row.measured.value, rel=1e-9)
    assert row.measured.value != pytest.approx(found.encoder.terms["c0"].value, rel=1e-3)


def test_the_first_state_and_the_measured_steps_are_those_of_the_rows_asked_for():
    model, episodes = linear_model(), recorded(4)

    def last_row(observations, generator):  # of the five recorded ones, or of a window's two
        changed = observations.clone()
        changed[:, -1] += 0.3
        return changed

    settings = {"start": 2, "horizon": 2, "copies": 1, "paths": 2, "draws": 2}
    found = expand_on_model(model, episodes, last_row, square, **settings)
    shift = 0.3 * MIXING.sum(1)  # of z in the last step alone: no dynamics after it
    for form in (found.encoder, found.measured):
        assert form.terms["S_drift"].value == pytest.approx(2 * float(shift @ shift))

    def of_h(system, observations, rewards):
        return lambda y: (y[:, :2] ** 2).sum(1)

    once = expand_on_model(model, episodes, last_row, of_h, **(settings | {"horizon": 1}))
    parts = (episodes.observations, episodes.previous_actions, episodes.rewards)
    used = Episodes(*(part[:, :4] for part in parts))  # rows after the end are not looked at
    state = clean_paths(model, used, seed=0).states[:, 2]  # h' is known one step ahead
    h = 0.8 * state[:, :2] + state[:, 2:] + episodes.previous_actions[:, 3, :2]
    assert once.encoder.terms["c0"].value == pytest.approx(float((h**2).sum(1).mean()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 5}, "expected episodes of at least 7 rows, got 5"),
        ({"start": -1}, "start=-1"),
        ({"copies": 0}, "copies=0"),
        ({"copies": 1, "paths": 1}, "groups=4"),
    ],
)
def test_what_cannot_be_expanded_is_refused(change, message):
    settings = {"start": 1, "horizon": 2, "copies": 2, "paths": 1, "draws": 2} | change
    with pytest.raises(ValueError, match=message):
        expand_on_model(
            linear_model(), recorded(4), ObservationPerturbation("noise", 0.3), square, **settings
        )


def test_one_hot_latents_are_labelled():
    found = expand_on_model(
        make_model("categorical"),
        recorded(3),
        ObservationPerturbation("noise", 0.3),
        square,
        start=1,
        horizon=2,
        copies=2,
        paths=1,
        draws=4,
    )
    assert found.label.startswith("surrogate") and torch.isfinite(
        torch.tensor(found.measured.terms["c2"].value)
    )

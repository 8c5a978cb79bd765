"""The linear probe: recovery, shrinkage, cross-fitting, errors in both units."""

import numpy as np
import pytest

from sdewm.base.ridge import cross_fitted_states, fit_state_probe


def linear_data(episodes=12, steps=20, seed=0):
    """Latents of very different scales, one still, and states that are linear in them."""
    generator = np.random.default_rng(seed)
    latents = generator.normal(size=(episodes, steps, 4)) * [1.0, 100.0, 0.01, 0.0] + [3, 0, 1, 0.1]
    weights = np.array([[1.0, -2.0], [0.03, 0.0], [50.0, 10.0], [0.0, 0.0]])
    return latents, weights, latents @ weights + np.array([7.0, -1.0])


def test_recovers_a_linear_map():
    latents, weights, states = linear_data()
    probe = fit_state_probe(latents, states, ridge=1e-10)
    np.testing.assert_allclose(probe.weights, weights, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(probe.predict(latents), states, rtol=1e-7)


def test_is_the_minimum_of_the_stated_objective():
    generator = np.random.default_rng(1)
    latents, states = (
        generator.normal(size=(5, 8, 3)) * [1, 5, 0.2],
        generator.normal(size=(5, 8, 2)),
    )
    ridge = 0.3
    probe = fit_state_probe(latents, states, ridge=ridge)
    rows, targets = latents.reshape(-1, 3), states.reshape(-1, 2)
    deviation = rows.std(axis=0)

    def objective(weights, offset):
        residual = targets - rows @ weights - offset
        return (
            np.square(residual).sum() / 40 + ridge * np.square(weights * deviation[:, None]).sum()
        )

    best = objective(probe.weights, probe.offset)
    for place in np.ndindex(3, 2):
        for step in (-1e-3, 1e-3):
            moved = probe.weights.copy()
            moved[place] += step
            assert objective(moved, probe.offset) > best
    for step in (-1e-3, 1e-3):
        assert objective(probe.weights, probe.offset + [step, 0]) > best


def test_weight_shrinks_by_the_stated_factor():
    z = np.random.default_rng(2).normal(size=(10, 50, 1))
    probe = fit_state_probe(z, 4 * z, ridge=1.0)
    np.testing.assert_allclose(probe.weights, 2.0, rtol=1e-9)  # v/(v + ridge) = ½


def test_cross_fitting_never_uses_the_episode_itself():
    latents, _, states = linear_data(episodes=6)
    predicted = latents[:, :5]
    read = cross_fitted_states(latents, states, predicted, folds=3, seed=0)
    for e in range(6):
        spoilt = states.copy()
        spoilt[e] += 1000.0
        again = cross_fitted_states(latents, spoilt, predicted, folds=3, seed=0)
        np.testing.assert_array_equal(again[e], read[e])
        assert (again != read).any()


def test_cross_fitting_uses_all_other_folds_and_equals_single_fits():
    latents, _, states = linear_data(episodes=5)
    predicted = latents[:, ::4] + 0.1
    read = cross_fitted_states(latents, states, predicted, folds=5, seed=3)
    for e in range(5):
        others = [i for i in range(5) if i != e]
        probe = fit_state_probe(latents[others], states[others])
        np.testing.assert_allclose(read[e], probe.predict(predicted[e]))


def test_cross_fitting_shows_that_noise_cannot_be_read():
    generator = np.random.default_rng(4)
    latents, states = generator.normal(size=(10, 10, 60)), generator.normal(size=(10, 10, 1))
    seen = fit_state_probe(latents, states).predict(latents)
    unseen = cross_fitted_states(latents, states, latents, folds=5, seed=0)
    assert np.square(seen - states).mean() < 0.6  # 60 weights on 100 rows
    assert np.square(unseen - states).mean() > 1.0


LATENTS, STATES = np.ones((3, 4, 2)), np.ones((3, 4, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_state_probe(LATENTS, STATES, ridge=0.0), "ridge=0.0"),
        (lambda: fit_state_probe(LATENTS, STATES[:2]), "latents .3, 4, 2. and states .2, 4, 1."),
        (lambda: fit_state_probe(LATENTS * np.nan, STATES), "latents: nan"),
        (
            lambda: cross_fitted_states(LATENTS, STATES, LATENTS, folds=4, seed=0),
            "folds=4: expected a whole number of at least 2 and at most 3",
        ),
        (
            lambda: cross_fitted_states(LATENTS, STATES, LATENTS[:2], folds=2, seed=0),
            "predicted .2, 4, 2.",
        ),
        (
            lambda: cross_fitted_states(LATENTS, STATES, LATENTS[..., :1], folds=2, seed=0),
            "predicted .3, 4, 1.",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Rollouts from a wrong latent: exact for linear models, bounded for recurrent ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sdewm.latent_sde.models import RSSMModel, StepModel
from sdewm.model_theorems import divergence
from sdewm.model_theorems.divergence import diverge_on_model
from sdewm.model_theorems.imagination import perturbed_initial_states
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.sde.rates import SAMPLED
from sdewm.theory.bounds import formulas, weighted_rollouts
from sdewm.theory.bounds.bound import GradeBound, RolloutBounds
from sdewm.theory.curve import NORMS, Curve
from tests.model.small_models import make_model
from tests.model_theorems.test_representation_error import MIXING, linear_model, recorded

ANGLE = torch.tensor(0.7, dtype=torch.float64)
TURN = torch.stack([ANGLE.cos(), -ANGLE.sin(), ANGLE.sin(), ANGLE.cos()]).view(2, 2)
NOISE = ObservationPerturbation("noise", 0.3)


def own_model(move, noise=0.1):
    """x' = move(x, a) + noise ξ; its encoder adds the first two observations."""
    return StepModel(
        lambda x, a, v: move(x, a) + noise * v,
        state_size=2,
        noise_size=2,
        encoder=lambda x, o: (x + o[:, :2], torch.full_like(x, 0.1)),
    )


def starts_of(model, episodes, **settings):
    settings = {"start": 2, "copies": 3, "mode": "accumulated", "seed": 0} | settings
    return perturbed_initial_states(model, episodes, NOISE, **settings)


def test_a_scaled_rotation_is_followed_exactly_and_every_bound_of_log_norms_is_attained():
    model, episodes = own_model(lambda x, a: 0.9 * x @ TURN.T + a[:, :2]), recorded(2, 6)
    found = diverge_on_model(model, episodes, NOISE, start=2, horizon=3, copies=3, paths=2)
    sizes = starts_of(model, episodes).errors.norm(dim=2).mean(1).numpy()
    expected = sizes.mean() * 0.9 ** np.arange(4)
    for curve in (found["mean"], found.prediction["mean"]):
        np.testing.assert_allclose(curve.values, expected, rtol=1e-12)
    np.testing.assert_allclose(found["sup"].values, sizes.mean(), rtol=1e-12)
    np.testing.assert_allclose(
        found["mean"].standard_errors, expected * sizes.std(ddof=1) / sizes.mean() / 2**0.5
    )
    assert found.error_size.value == pytest.approx(sizes.mean())
    for grade in ("log_norm", "weighted", "linearised"):
        assert found.bounds[grade].kind == "estimate"
        for norm in NORMS:
            np.testing.assert_allclose(
                found.bounds[grade][norm].values, found[norm].values, rtol=1e-7
            )
    enclosed = found.bounds["enclosure"]
    assert enclosed.kind == SAMPLED
    assert enclosed.constants == {"paths": 1.0, "abstains": np.inf}  # of each episode
    own = float(starts_of(model, episodes).errors[:, 0].norm(dim=1).mean()) * 0.9 ** np.arange(4)
    for curve in (enclosed["mean"], found.enclosed["mean"]):
        np.testing.assert_allclose(curve.values, own, rtol=1e-9)
    assert found.bounds["double_exponential"].kind == "recalled"
    assert found.bounds["gronwall"]["mean"].last.value > 2 * expected[-1]
    assert found.remainders["first"].values.max() < 1e-12 and found.stated_range == np.inf
    assert found.measured_range == pytest.approx(sizes.mean())
    assert "certified_rates" in found.left_out["certificate"]


def test_every_episode_takes_its_own_actions_from_the_step_after_the_start():
    episodes = recorded(3, 9)
    model = own_model(lambda x, a: torch.tanh(x @ TURN.T * (1 + a[:, :1]) + a[:, 1:3]), noise=0.0)
    found = diverge_on_model(
        model, episodes, NOISE, start=2, horizon=4, copies=3, paths=1, scales=(0.5,), grades=()
    )
    starts = starts_of(model, episodes)
    lengths = np.zeros((3, 3, 5))
    for e in range(3):
        for k in range(3):
            x, moved = starts.states[e], starts.states[e] + 0.5 * starts.errors[e, k]
            for n in range(5):
                lengths[e, k, n] = (moved - x).norm()
                if n < 4:
                    a = episodes.previous_actions[e, 3 + n]
                    x, moved = (torch.tanh(s @ TURN.T * (1 + a[0]) + a[1:3]) for s in (x, moved))
    halved = 0.5 * found.prediction["mean"].values / found.ratios[0.5].values
    np.testing.assert_allclose(halved, lengths.mean((0, 1)), rtol=1e-9)
    assert np.ptp(lengths.mean(1), axis=0)[-1] > 0.05 * lengths.mean()  # the episodes do differ


def test_a_policy_in_the_loop_is_part_of_the_dynamics():
    model, episodes = own_model(lambda x, a: 0.5 * x + a[:, :2]), recorded(3, 3)
    settings = {"start": 2, "horizon": 6, "copies": 3, "paths": 2, "grades": ()}
    found = diverge_on_model(model, episodes, NOISE, policy=lambda x: 0.3 * x, **settings)
    sizes = found["mean"].values
    np.testing.assert_allclose(sizes, sizes[0] * 0.8 ** np.arange(7), rtol=1e-12)


@pytest.fixture(scope="module")
def recurrent():
    """A random recurrent model, episodes, settings and what is found."""
    settings = {"start": 2, "horizon": 4, "copies": 4, "paths": 4}
    model, episodes = make_model("gaussian"), recorded(2, 7)
    return model, episodes, settings, diverge_on_model(model, episodes, NOISE, **settings)


def test_on_a_recurrent_model_what_is_measured_is_below_every_bound(recurrent):
    *_, found = recurrent
    assert {*found.bounds} >= {"gronwall", "log_norm", "weighted", "linearised"}
    for grade, bound in found.bounds.items():
        for norm, curve in bound.curves.items():
            measured = found.enclosed if grade == "enclosure" else found
            assert (measured[norm].values <= curve.values * (1 + 1e-9)).all(), (grade, norm)
    assert "additive noise" in found.left_out["block"]
    assert "Lipschitz constant of" in found.left_out["certificate"] and found.label == "exact"


def test_with_lowered_rates_what_is_measured_is_above_the_bounds(recurrent, monkeypatch):
    model, episodes, settings, found = recurrent
    log_norm = formulas.log_norm

    def lowered(rates, step_size, form):
        return log_norm(rates.lowered(0.1), step_size, form)

    monkeypatch.setattr(formulas, "log_norm", lowered)
    monkeypatch.setattr(weighted_rollouts, "log_norm", lowered)
    wrong = diverge_on_model(model, episodes, NOISE, grades=("log_norm", "weighted"), **settings)
    for bound in wrong.bounds.values():
        assert (bound["mean"].values < found["mean"].values)[1:].any()


def test_prediction_and_second_order_agree_as_the_error_goes_to_zero(recurrent):
    model, episodes, settings, found = recurrent
    small = diverge_on_model(
        model,
        episodes,
        ObservationPerturbation("noise", 0.003),
        scales=(),
        grades=(),
        **settings,
    )
    size = small["mean"].values[1:]
    rest, second = (small.remainders[name].values[1:] for name in ("first", "second"))
    assert (rest < 0.01 * size).all() and (second < 0.02 * rest).all() and (rest > 0).all()
    np.testing.assert_allclose(small.remainders["bend"].values[1:], rest, rtol=0.02)
    assert np.abs(small.ratios[1.0].values - 1).max() < 0.01
    # What S18 says of the range does not depend on the size from which it is found.
    assert small.stated_range == pytest.approx(found.stated_range, rel=0.3)
    assert small.stated_range > small.error_size.value


def test_the_measured_range_ends_at_the_first_scale_that_is_off(recurrent):
    found, size = recurrent[-1], recurrent[-1].error_size.value

    def ratios(**off):
        times = [0.0, 1.0]
        return {float(s[1:]) / 4: Curve(times, [1.0, 1.0 + d], [0, 0]) for s, d in off.items()}

    cases = {
        4.0: ratios(s1=0.0, s2=0.01, s8=0.2, s16=0.04),
        1.0: ratios(s1=0.01, s4=-0.049, s8=-0.051),
        0.0: ratios(s1=0.06, s4=0.0),
    }
    for reach, given in zip((0.5, 1.0, 0.0), cases.values(), strict=True):
        assert replace(found, ratios=given).measured_range == pytest.approx(reach * size)


def test_bounds_are_means_over_episodes_and_constants_the_largest():
    times = np.arange(2.0)

    def of_episode(value, **left_out):
        curves = {"mean": Curve(times, [value, 2 * value], [0.5, 0.5])}
        grades = {g: GradeBound(g, "estimate", curves, {"a": value}) for g in ("log_norm", "block")}
        return RolloutBounds(grades, None, "step", left_out)

    each = [of_episode(3.0), of_episode(1.0, block="why"), of_episode(2.0)]
    joined, left_out = divergence._joined(times, each)
    assert [*joined] == ["log_norm"] and left_out == {"block": "why"}
    found = joined["log_norm"]
    assert found["mean"].values.tolist() == [2.0, 4.0] and found.constants == {"a": 3.0}
    np.testing.assert_allclose(found["mean"].standard_errors, [1 / 3**0.5, 2 / 3**0.5])


def test_paths_in_tiles_are_the_same_paths(recurrent, monkeypatch):
    model, episodes, settings, found = recurrent
    monkeypatch.setattr(divergence, "_FACTORS_AT_ONCE", 21 * 5 * 10)  # 10, then 6
    settings = settings | {"grades": (), "scales": ()}
    again = diverge_on_model(model, episodes, NOISE, **settings)
    np.testing.assert_allclose(again["mean"].values, found["mean"].values, rtol=1e-12)
    np.testing.assert_allclose(again.quantiles[0.5].values, found.quantiles[0.5].values)


def test_errors_of_the_state_are_what_the_encoder_makes_of_the_observations():
    model, episodes = linear_model(), recorded(4, 5)
    shift = ObservationPerturbation("shift", 0.2)
    settings = {"start": 3, "copies": 2, "seed": 0}
    once = perturbed_initial_states(model, episodes, shift, mode="single_frame", **settings)
    of_z = 0.2 * MIXING.sum(1)
    expected = torch.cat([torch.zeros(2).double(), of_z]).expand(4, 2, -1)
    torch.testing.assert_close(once.errors, expected)
    all_rows = perturbed_initial_states(model, episodes, shift, mode="accumulated", **settings)
    h, z = torch.zeros(2).double(), of_z
    for _ in range(3):
        h = 0.8 * h + z
        z = 0.5 * h + of_z
    torch.testing.assert_close(all_rows.errors, torch.cat([h, z]).expand(4, 2, -1))
    torch.testing.assert_close(all_rows.states, once.states)


def test_the_same_noise_of_the_encoder_is_on_both_sides():
    """With a shift that the encoder does not see, the perturbed state is the clean one."""

    def last_row(observations, generator):
        changed = observations.clone()
        changed[:, -1] += 1e-9
        return changed

    model, episodes = make_model("gaussian"), recorded(3, 5)
    found = perturbed_initial_states(
        RSSMModel(model), episodes, last_row, start=3, copies=2, mode="accumulated", seed=1
    )
    assert 0 < float(found.errors.abs().max()) < 1e-7
    deter = found.errors[..., : model.rssm.deter_size]
    assert float(deter.abs().max()) < 1e-14  # only the last row was changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 7}, "expected at least 10"),
        ({"start": -1}, "start=-1"),
        ({"copies": 1, "paths": 1}, "copies·paths=1"),
        ({"mode": "both"}, "mode='both'"),
        ({"scales": (0.0,)}, "scales contains 0.0"),
        ({"grades": ("block", "best")}, "grades"),
    ],
)
def test_what_cannot_be_followed_is_refused(change, message):
    settings = {"start": 2, "horizon": 3, "copies": 2, "paths": 1} | change
    model = own_model(lambda x, a: 0.5 * x + a[:, :2])
    with pytest.raises(ValueError, match=message):
        diverge_on_model(model, recorded(3, 8), NOISE, **settings)


def test_an_error_of_nothing_and_a_single_episode_are_refused():
    model, settings = own_model(lambda x, a: 0.5 * x + a[:, :2]), {"start": 2, "horizon": 3}
    with pytest.raises(ValueError, match="perturbation changes no state"):
        diverge_on_model(model, recorded(3, 8), ObservationPerturbation("noise", 0.0), **settings)
    with pytest.raises(ValueError, match="episodes=1"):
        diverge_on_model(model, recorded(1, 8), NOISE, **settings)


def test_one_hot_latents_are_labelled():
    found = diverge_on_model(
        make_model("categorical"),
        recorded(2, 5),
        NOISE,
        start=1,
        horizon=2,
        copies=2,
        paths=1,
        grades=(),
    )
    assert found.label.startswith("surrogate") and np.isfinite(found["mean"].values).all()


def test_enclosures_end_at_the_first_abstention_of_an_episode():
    """Only the last step of the second episode is not linear, and there it is steep."""
    model = own_model(lambda x, a: 0.9 * x + torch.tanh(1e5 * a[:, :1] * x), noise=0.0)
    episodes = recorded(2, 6)
    episodes.previous_actions.fill_(0.0)
    episodes.previous_actions[1, 5] = 1.0
    found = diverge_on_model(
        model, episodes, NOISE, start=2, horizon=3, copies=3, paths=2, grades=["enclosure"]
    )
    bound = found.bounds["enclosure"]
    first = int(bound.constants["abstains"])
    finite = np.isfinite(bound["mean"].values)
    assert first == 3
    assert finite.tolist() == [True, True, True, False]
    ratio = bound["mean"].values[:3] / found.enclosed["mean"].values[:3]
    assert ratio.min() >= 1.0
    assert ratio.max() < 1.0 + 1e-9


def test_one_hot_latents_are_left_out_of_the_enclosures():
    model = RSSMModel(make_model("categorical"))
    grid = {"start": 2, "horizon": 2, "copies": 2, "paths": 1}
    found = diverge_on_model(model, recorded(2, 6), NOISE, **grid)
    assert "one-hot" in found.left_out["enclosure"]
    assert "enclosure" not in found.bounds
    with pytest.raises(ValueError, match="'enclosure'.*one-hot"):
        diverge_on_model(model, recorded(2, 6), NOISE, **grid, grades=["enclosure"])

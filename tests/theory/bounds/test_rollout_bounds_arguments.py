"""What rollout_bounds may call its bounds, what it takes and what it refuses."""

import math

import numpy as np
import pytest
import torch

import sdewm
from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.sde.examples import (
    GeometricBrownianMotion,
    LinearFlow,
    LinearWorldModel,
    OrnsteinUhlenbeck,
)
from sdewm.sde.rates import SAMPLED
from sdewm.theory.bounds import formulas
from sdewm.theory.bounds.bound import GradeBound
from sdewm.theory.bounds.rollout_bounds import ROLLOUT_GRADES, rollout_bounds
from sdewm.theory.curve import NORMS, Curve
from tests.recurrent_step import RecurrentStep
from tests.theory.bounds.rollout_cases import (
    ADDITIVE,
    CIRCLE,
    F64,
    PROVEN,
    SYSTEMS,
    TANH,
    assert_holds,
    bound,
    draw,
)


def test_kinds_are_certificates_where_rates_are_proven():
    for name, system in SYSTEMS.items():
        found = bound(system)
        for grade, one in found.items():
            sampled = grade == "linearised" and name in ("network", "recurrent")  # |y| is averaged
            expected = "certificate" if name in PROVEN and not sampled else "estimate"
            assert one.kind == ("recalled" if grade == "double_exponential" else expected)
            assert one.grade == grade
        assert ("block" in found) == (name in ADDITIVE)
        assert [*found] == [grade for grade in ROLLOUT_GRADES if grade in found]
        assert bound(system, kind="estimate")["log_norm"].kind == "estimate"


def test_no_certificate_has_a_sampling_error():
    drawn = 0.1 * draw(60, 2, seed=1)
    kinds = {grade: one.kind for grade, one in bound(SYSTEMS["flow"], drawn, grades="all").items()}
    assert kinds.pop("double_exponential") == "recalled"
    assert kinds.pop("enclosure") == SAMPLED
    assert set(kinds.values()) == {"estimate"}  # E|e|^p is a mean over the errors drawn
    on_circle = 0.1 * drawn / drawn.norm(dim=1, keepdim=True)
    sized = bound(SYSTEMS["flow"], on_circle, grades="all")
    certain = [grade for grade, one in sized.items() if one.kind == "certificate"]
    assert certain == ["gronwall", "log_norm"]  # they take |e| only, which is 0.1
    for name in PROVEN:
        for one in bound(SYSTEMS[name]).values():
            errors = [curve.standard_errors.max() for curve in one.curves.values()]
            assert one.kind != "certificate" or max(errors) == 0.0


def test_estimates_are_below_certificates():
    for name in ("network", "recurrent", "cubic"):
        sampled, proven = (bound(SYSTEMS[name], kind=k) for k in ("estimate", "certificate"))
        for grade in ("gronwall", "log_norm", "block", "linearised"):
            for norm in NORMS:
                below, above = sampled[grade][norm].values, proven[grade][norm].values
                assert (below <= above * (1 + 1e-12)).all()
        assert sampled["gronwall"]["mean"].last.value < 0.99 * proven["gronwall"]["mean"].last.value
    for name in ("flow", "Brownian"):
        sampled, proven = (bound(SYSTEMS[name], kind=k) for k in ("estimate", "certificate"))
        for norm in NORMS:
            below, above = (one["log_norm"][norm].values for one in (sampled, proven))
            np.testing.assert_allclose(below, above, rtol=1e-10)


def test_a_certificate_is_refused_where_nothing_is_proven():
    with pytest.raises(ValueError, match=r"TanhWorldModel proves no rates; give it jacobians\(\)"):
        bound(TANH, kind="certificate")
    reason = bound(TANH).left_out["certificate"]
    for needed in ("jacobians()", "certified_rates", "sdewm.certificates.network_system"):
        assert needed in reason
    with pytest.raises(
        ValueError, match=r"CubicFlow has no proof: step_size=5: expected at most 2/r²"
    ):
        bound(SYSTEMS["cubic"], t1=10.0, steps=2, kind="certificate")
    far = torch.full((8,), 1.5, **F64)
    with pytest.raises(ValueError, match=r"RecurrentSystem has no proof: .*\|h\| up to 2"):
        bound(SYSTEMS["recurrent"], far, kind="certificate")
    assert bound(SYSTEMS["recurrent"], far)["log_norm"].kind == "estimate"


def test_the_linearised_bound_of_the_equation_takes_no_prediction_of_the_scheme():
    """One step of the cubic flow from 1 ends in y = 0: the bound was 3.7e-7, |D| is 4.6e-4."""
    case, e, grid = SYSTEMS["cubic"], torch.tensor([1e-3], **F64), {"t1": 1 / 3, "kind": "estimate"}
    x0 = torch.ones(1, **F64)

    def of(steps, form):
        found = bound(case, e, x0=x0, steps=steps, form=form, grades=("linearised",), **grid)
        return found["linearised"]["mean"].last.value

    assert of(1, "step") < 1e-5  # which is what the scheme does
    ends = [(x**-2 + 2 / 3) ** -0.5 for x in (1.0, 1.001)]  # of x′ = −x³
    true = ends[1] - ends[0]
    assert true == pytest.approx(4.645e-4, rel=1e-3)
    assert of(1, "sde") > 0.75 * true
    assert of(200, "sde") == pytest.approx(true, rel=1e-3)


def test_where_the_prediction_is_that_of_the_scheme_the_grade_is_left_out():
    found = bound(SYSTEMS["circle"], form="sde")
    assert "linearised" not in found and "form='step'" in found.left_out["linearised"]
    with pytest.raises(ValueError, match="grades contains 'linearised': .* form='step'"):
        bound(SYSTEMS["circle"], form="sde", grades=("linearised",))
    assert "linearised" in bound(SYSTEMS["circle"])
    assert "linearised" in bound(SYSTEMS["flow"], form="sde")  # affine: y has known moments


def test_the_linearised_grade_of_the_equation_is_an_estimate():
    found = bound(SYSTEMS["network"], form="sde")
    assert found["linearised"].kind == "estimate"
    assert found["log_norm"].kind == "certificate"


def test_affine_systems_have_exact_moments_in_both_forms():
    case = LinearFlow()
    e, grid = torch.tensor([0.0, 0.1], **F64), {"t1": 1.5, "steps": 15}
    drift, noise = case.jacobians()
    for form in ("step", "sde"):
        found = bound(case, e, form=form, **grid)["linearised"]
        assert found.kind == "certificate"
        covariance = torch.outer(e, e)
        for _ in range(15):  # S19, both levels, by other means than moment_path
            if form == "step":
                step = torch.eye(2, **F64) + 0.1 * drift
                covariance = step @ covariance @ step.T + 0.1 * sum(
                    a @ covariance @ a.T for a in noise
                )
            else:
                eye = torch.eye(2, **F64)
                rate = torch.kron(drift, eye) + torch.kron(eye, drift)
                rate = rate + sum(torch.kron(a, a) for a in noise)
                covariance = (torch.linalg.matrix_exp(0.1 * rate) @ covariance.flatten()).view(2, 2)
        assert found["mean_square"].last.value == pytest.approx(
            float(covariance.trace()), rel=1e-12
        )
        assert found["mean"].last.value == pytest.approx(
            float(covariance.trace()) ** 0.5, rel=1e-12
        )
        whole = bound(case, e, form=form, **grid)["log_norm"]
        assert found["sup"].last.value == whole["sup"].last.value


def test_drawn_errors_of_affine_systems_have_the_mean_of_their_exact_moments():
    case, drawn = LinearFlow(), 0.1 * draw(40, 2, seed=1)
    found = bound(case, drawn, paths=40)["linearised"]
    each = [bound(case, e)["linearised"]["mean_square"].last.value for e in drawn]
    spread = np.std(each, ddof=1) / 40**0.5
    assert found["mean_square"].last.value == pytest.approx(np.mean(each), rel=1e-12)
    assert found["mean_square"].last.standard_error == pytest.approx(spread, rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sampler_that_drew_equal_errors_has_no_certificate(seed):
    """E|e| is 0.1999, of which a hundred draws show 0.1 in nine of ten cases."""

    def rare(count, generator):
        chance = torch.rand(count, 1, generator=generator, dtype=torch.float64)
        return torch.where(chance < 1e-3, 100.0, 0.1)

    case = OrnsteinUhlenbeck()
    given = {"t1": 1.5, "steps": 15, "paths": 100, "seed": seed, "grades": "all"}
    drawn = rollout_bounds(case, case.x0, rare, **given)
    exact = (0.999 * 0.1 + 0.001 * 100.0) * 0.92**15
    assert drawn["log_norm"]["mean"].last.value < 0.6 * exact
    assert drawn["log_norm"]["mean"].last.standard_error == 0  # nothing shows that it is too low
    assert {bound.kind for bound in drawn.values()} == {"estimate", SAMPLED, "recalled"}
    same = rollout_bounds(case, case.x0, torch.tensor([0.1]).double(), **given)
    assert {bound.kind for bound in same.values()} >= {"certificate"}


def test_heavy_tails_do_not_beat_a_certificate():
    # 1000 sampled paths miss the rare ones that carry E|D|²: their mean is mostly far below it.
    e, exact = torch.ones(1, **F64), 1.2**20
    case = GeometricBrownianMotion(growth=0.0, volatility=2.0)
    below = 0
    for seed in range(25):
        found = bound(case, e, steps=20, paths=1000, seed=seed, grades=("linearised", "log_norm"))
        for one in found.values():
            assert one.kind == "certificate"
            assert one["mean_square"].last.value >= exact * (1 - 1e-12)
        assert found["linearised"]["mean_square"].last.value == pytest.approx(exact, rel=1e-12)
        below += found["linearised"].prediction["mean_square"].last.value < exact
    assert below >= 18
    sampled = bound(case, e, steps=20, paths=1000, kind="estimate")["linearised"]
    assert sampled.kind == "estimate"
    assert sampled["mean_square"].last.value < exact


def test_blocks_are_refused_for_multiplicative_noise():
    with pytest.raises(ValueError, match="grades contains 'block': it needs additive noise"):
        bound(TANH, grades=("log_norm", "block"))
    assert "block" not in bound(TANH)


def test_too_many_blocks_for_a_large_state_are_refused_by_name():
    system = RecurrentSystem.like_trained(hidden=64, latent=4)
    options, single = {"paths": 2, "steps": 1}, [slice(i, i + 1) for i in range(68)]
    with pytest.raises(ValueError, match="grades contains 'block': 68 blocks are too many"):
        bound(system, grades=("block",), blocks=single, **options)
    assert "block" not in bound(system, blocks=single, **options)
    few = [slice(0, 64), slice(64, 68)]
    assert "block" in bound(system, grades=("block",), blocks=few, **options)


def test_finer_blocks_are_used_where_given():
    case = LinearWorldModel()
    whole, fine = (
        bound(case, grades=("block", "log_norm"), blocks=blocks, t1=4.0)["block"]["mean"].values
        for blocks in ([slice(0, 4)], None)
    )
    np.testing.assert_allclose(whole, bound(case, t1=4.0)["log_norm"]["mean"].values, rtol=1e-10)
    assert fine[-1] < 0.9 * whole[-1]


def test_a_missing_curve_is_named():
    found = bound(TANH)
    with pytest.raises(KeyError, match=r"'double_exponential' has no bound of 'mean_square'"):
        found["double_exponential"]["mean_square"]
    with pytest.raises(ValueError, match="did you mean 'sup_square'"):
        found["log_norm"]["sup_squared"]
    with pytest.raises(ValueError, match="grade='log_nrm' is not allowed; did you mean 'log_norm'"):
        found["log_nrm"]
    with pytest.raises(ValueError, match="grade='block'"):
        found["block"]


def test_tightness_is_a_ratio_with_errors_and_refuses_another_grid():
    times = np.array([0.0, 1.0])
    one = GradeBound("log_norm", "estimate", {"mean": Curve(times, [1.0, 3.0], [0.0, 0.3])}, {})
    ratio = one.tightness({"mean": Curve(times, [1.0, 2.0], [0.0, 0.1])})["mean"]
    np.testing.assert_allclose(ratio.values, [1.0, 1.5])
    np.testing.assert_allclose(ratio.standard_errors, [0.0, 1.5 * math.hypot(0.1, 0.05)])
    for other in (np.array([0.0, 2.0]), np.array([0.0, 0.5, 1.0])):
        curve = Curve(other, np.ones(len(other)), np.zeros(len(other)))
        with pytest.raises(ValueError, match="measure with the same t0, t1 and steps"):
            one.tightness({"mean": curve})
    # Where a bound overflows, or both are zero, the ratio is infinite, or 1, without a warning.
    end = GradeBound("g", "estimate", {"mean": Curve(times, [0.0, np.inf], [0.0, np.nan])}, {})
    ratio = end.tightness({"mean": Curve(times, [0.0, 2.0], [0.0, 0.1])})["mean"]
    np.testing.assert_array_equal(ratio.values, [1.0, np.inf])


class Faster(LinearFlow):
    """The same drift with less noise."""

    def g(self, t, y):
        return 0.9 * super().g(t, y)


def test_tightness_refuses_a_measurement_of_another_system_start_or_error():
    case, e, grid = LinearFlow(), torch.tensor([0.1, 0.0], **F64), {"t1": 1.0, "steps": 5}
    found = sdewm.rollout_bounds(case, case.x0, e, paths=20, **grid)["log_norm"]

    def measured(system=case, x0=case.x0, error=e, **options):
        chosen = grid | {"paths": 30, "seed": 3} | options
        return sdewm.rollout_divergence(system, x0, error, **chosen)

    for same in (measured(), measured(LinearFlow()), measured(error=e.expand(6, 2))):
        assert found.tightness(same)["mean"].last.value > 0.9
    assert found.tightness(measured(case, case.x0.float(), dtype=torch.float32))
    for name, other in (
        ("system", measured(Faster())),
        ("x0", measured(x0=2 * case.x0)),
        ("error", measured(error=1.01 * e)),
        ("error", measured(error=e.flip(0))),  # of the same size
        ("error", sdewm.fundamental_matrix(case, case.x0, paths=2, **grid)),
    ):
        with pytest.raises(ValueError, match=f"measured is of another {name} .* 'log_norm'"):
            found.tightness(other)
    with pytest.raises(ValueError, match="measure with the same t0, t1 and steps"):
        found.tightness(measured(t1=2.0))


def test_tightness_takes_other_draws_of_one_law_and_refuses_another_law():
    case, grid = LinearFlow(), {"t1": 1.0, "steps": 5}

    def law(size):
        return lambda count, generator: size * torch.randn(count, 2, generator=generator, **F64)

    found = sdewm.rollout_bounds(case, case.x0, law(0.1), paths=2000, **grid)["log_norm"]
    for seed in range(20):
        options = {"paths": 500, "seed": seed} | grid
        found.tightness(sdewm.rollout_divergence(case, case.x0, law(0.1), **options))
    other = sdewm.rollout_divergence(case, case.x0, law(0.15), paths=500, **grid)
    with pytest.raises(ValueError, match="another error"):
        found.tightness(other)


def values_of(found):
    return {(g, n): curve.values for g, one in found.items() for n, curve in one.curves.items()}


def test_results_repeat_for_a_seed():
    first, again, other = (values_of(bound(TANH, seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    changed = [key for key in first if not np.allclose(first[key], other[key], rtol=1e-9)]
    assert ("linearised", "mean") in changed


def test_an_error_is_a_vector_samples_or_a_sampler():
    e = 0.1 * draw(60, 3, seed=2)
    vector = values_of(bound(TANH, e[0]))
    repeated = values_of(bound(TANH, e[:1]))
    assert all(np.array_equal(vector[key], repeated[key]) for key in vector)
    rows = values_of(bound(TANH, e))
    asked = values_of(bound(TANH, lambda count, generator: e[:count]))
    assert all(np.array_equal(rows[key], asked[key]) for key in rows)
    found = bound(TANH, e)["log_norm"]
    lengths = e.norm(dim=1)
    assert found["mean"].values[0] == pytest.approx(float(lengths.mean()))
    assert found["mean_square"].values[0] == pytest.approx(float(lengths.square().mean()))
    spread = float(lengths.std()) / math.sqrt(60)
    assert found["mean"].standard_errors[0] == pytest.approx(spread)
    assert not bound(TANH, e[0])["log_norm"]["mean"].standard_errors.any()


def test_the_remainder_for_multiplicative_noise_takes_the_fourth_moment_of_the_error():
    # Rare and large: the fourth moment is far above the fourth power of the mean.
    e = torch.zeros(60, 3, **F64)
    e[::10, 0] = 0.3
    found = bound(TANH, e)
    fourth = (6 / 60 * 0.3**4) ** 0.25
    expected = formulas.linearised_mean_square(found.rates, 0.2, fourth, "step")[0]
    np.testing.assert_allclose(found["linearised"].remainder.values, expected, rtol=1e-12)
    assert fourth > 5 * found["log_norm"]["mean"].values[0]


def test_one_start_per_path_is_followed():
    starts = TANH.x0 + draw(60, 3, seed=4)
    spread, single = bound(TANH, x0=starts), bound(TANH)
    assert (spread.rates.curvature[0] > single.rates.curvature[0]).all()
    same = bound(TANH, x0=TANH.x0.expand(60, 3).contiguous())
    assert np.array_equal(same["linearised"]["sup"].values, single["linearised"]["sup"].values)
    measured = sdewm.rollout_divergence(
        TANH, starts, torch.full((3,), 0.1, **F64), t1=1.0, steps=5, paths=60, quantiles=()
    )
    for grade in ("gronwall", "log_norm", "linearised"):
        assert_holds(spread[grade], measured)


def test_the_grid_starts_at_t0():
    found = bound(TANH, t0=0.5)
    np.testing.assert_allclose(found["log_norm"]["mean"].times, np.linspace(0.5, 1.0, 6))


def test_constants_are_the_largest_rates():
    found = bound(CIRCLE, torch.tensor([1.0], **F64))
    constants = found["log_norm"].constants
    assert constants["alpha"] == float(found.rates.drift.max())
    assert constants["lambda_2"] == float(found.rates.log_norm[1].max())
    assert 0.8 < constants["curvature"] <= 0.9 and constants["noise_curvature"] <= 0.2
    assert {*constants} >= {"alpha", "beta", "lambda_1", "kappa", "step"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"paths": 1}, "paths=1"),
        ({"t1": -1.0}, r"t1=-1\.0"),
        ({"form": "steps"}, "form='steps' is not allowed; did you mean 'step'"),
        ({"kind": "certified"}, "kind='certified' is not allowed; did you mean 'certificate'"),
        ({"grades": ("gronwal",)}, "grades='gronwal' is not allowed; did you mean 'gronwall'"),
        ({"blocks": [slice(0, 2)]}, "blocks="),
        ({"device": "gpu"}, "device='gpu'"),
        ({"x0": torch.zeros(7, 3)}, r"x0 has shape \(7, 3\)"),
        ({"error": torch.zeros(2)}, r"error has shape \(2,\)"),
    ],
)
def test_bad_input_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        bound(TANH, **options)


def test_a_system_without_f_and_g_is_refused():
    with pytest.raises(ValueError, match="RecurrentStep has no 'f'"):
        step = RecurrentStep()
        rollout_bounds(step, step.x0, 0.1 * step.x0, t1=1.0, steps=2)

"""The penalty: norms against slow loops, estimators against S22 and S23, gradients, compilation."""

import itertools
import math

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from sdewm.base.stats import BatchSums
from sdewm.jacobian.penalty import (
    Exact,
    InputProjection,
    OutputProjection,
    draw_rows,
    gaussian_probes,
    jacobian_penalty,
    log_norm_penalty,
    rademacher_probes,
    sphere_probes,
    step_log_norms,
)
from tests.jacobian.jacobian_step import make_step, slow_jacobians

torch64 = {"dtype": torch.float64}
J = torch.tensor([[0.9, -0.4, 0.2, 0.1], [0.3, 1.1, -0.7, 0.0], [0.5, 0.2, 0.6, -1.3]], **torch64)
LAWS = {"gaussian": gaussian_probes, "rademacher": rademacher_probes, "sphere": sphere_probes}
SIDES = {"input": (InputProjection, J.T @ J), "output": (OutputProjection, J @ J.T)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(x):
    return x @ J.to(x.dtype).T


def variance(law, gram):
    """The table of S22."""
    c, square, trace = len(gram), (gram @ gram).trace(), gram.trace()
    return {
        "gaussian": 2 * square,
        "rademacher": 2 * (square - gram.diagonal().square().sum()),
        "sphere": 2 * c / (c + 2) * (square - trace**2 / c),
    }[law]


def deviations(values, law, gram):
    """Of mean and variance of one-probe estimates from S22, in standard errors of 256 batches."""
    truth = gram.trace()
    sums = BatchSums(len(values), 2)
    sums.add(0, torch.stack([values, (values - truth).square()], dim=1))
    mean = sums.estimate(torch.tensor([1.0, 0.0]))
    spread = sums.estimate(torch.tensor([0.0, 1.0]))
    return mean.deviation_from(float(truth)), spread.deviation_from(float(variance(law, gram)))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("law", LAWS)
def test_each_estimator_is_unbiased_with_the_variance_of_the_table(law, side):
    projection, gram = SIDES[side]
    x = torch.zeros(200_000, 4, **torch64)
    like = x if side == "input" else torch.zeros(200_000, 3, **torch64)
    probes = LAWS[law](1, like, generator(3))
    values = projection(probes)(linear, x)
    mean, spread = deviations(values, law, gram)
    assert mean <= 5 and spread <= 5
    # Negative controls: another law's variance, and a sphere without its factor C.
    for other in LAWS.keys() - {law}:
        assert deviations(values, other, gram)[1] > 5
    if law == "sphere":
        unit = probes / math.sqrt(len(gram))
        assert deviations(projection(unit)(linear, x), law, gram)[0] > 5


@pytest.mark.parametrize("side", SIDES)
def test_enumerated_signs_give_mean_and_variance_exactly(side):
    projection, gram = SIDES[side]
    signs = torch.tensor([*itertools.product([-1.0, 1.0], repeat=len(gram))], **torch64)
    x = torch.zeros(len(signs), 4, **torch64)
    values = projection(signs[None])(linear, x)
    torch.testing.assert_close(values.mean(), gram.trace(), rtol=1e-13, atol=0)
    spread = values.var(unbiased=False)
    torch.testing.assert_close(spread, variance("rademacher", gram), rtol=1e-13, atol=0)
    assert abs(values[: len(values) // 4].mean() - gram.trace()) > 0.1  # half of half the signs


@pytest.mark.parametrize("side", SIDES)
def test_orthonormal_probes_that_span_the_space_are_exact(side):
    projection, gram = SIDES[side]
    size = len(gram)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator(1), **torch64))[0]
    probes = math.sqrt(size) * basis[:, None].expand(size, 5, size)
    x = torch.zeros(5, 4, **torch64)
    values = projection(probes)(linear, x)
    torch.testing.assert_close(values, gram.trace().expand(5), rtol=1e-13, atol=0)
    half = projection(probes[: size // 2])(linear, x)
    assert (half - gram.trace()).abs().min() > 0.1  # dropping half of them shows


@pytest.mark.parametrize("law", LAWS)
def test_averaging_probes_divides_the_variance_by_their_number(law):
    x = torch.zeros(50_000, 4, **torch64)
    values = InputProjection(LAWS[law](4, x, generator(5)))(linear, x)
    gram = J.T @ J
    sums = BatchSums(len(values), 1)
    sums.add(0, 4 * (values - gram.trace()).square()[:, None])
    estimate = sums.estimate(torch.ones(1))
    assert estimate.deviation_from(float(variance(law, gram))) <= 5
    assert estimate.deviation_from(float(2 * variance(law, gram))) > 5


@pytest.mark.parametrize("rank_one", [True, False])
def test_root_of_one_gaussian_probe_lies_between_its_bounds(rank_one):
    matrix = torch.outer(J[:, 0], J[0]) if rank_one else J
    norm = float(matrix.norm())
    x = torch.zeros(200_000, 4, **torch64)
    probes = gaussian_probes(1, x, generator(7))
    roots = InputProjection(probes)(lambda x: x @ matrix.T, x).sqrt()
    sums = BatchSums(len(roots), 1)
    sums.add(0, roots[:, None])
    estimate = sums.estimate(torch.ones(1))
    low = math.sqrt(2 / math.pi) * norm
    if rank_one:
        assert estimate.deviation_from(low) <= 5
    else:
        assert low + 5 * estimate.standard_error < estimate.value
    assert estimate.value < norm - 5 * estimate.standard_error


def test_root_is_taken_after_averaging_the_probes():
    """Taken before, its bias stays however many probes there are: 0.798 of a norm of rank one."""
    vector = torch.tensor([0.6, -0.8, 1.2, 0.4], **torch64)
    norm = float(vector.norm())
    x = torch.zeros(500, 4, **torch64)
    probes = gaussian_probes(400, x, generator(2))

    def step(x):
        return x @ vector[:, None]

    after = jacobian_penalty(step, x, InputProjection(probes), squared=False)
    before = torch.stack(
        [jacobian_penalty(step, x, InputProjection(p[None]), squared=False) for p in probes]
    ).mean()
    bias = (2 * norm**4 / 400) / (8 * norm**3)  # S23 with the variance of one Gaussian probe / K
    error = norm * math.sqrt(2 / 400 / 500) / 2  # standard error of the mean root over 500 rows
    assert abs(float(after) - (norm - bias)) <= 5 * error
    assert abs(float(before) - math.sqrt(2 / math.pi) * norm) <= 5 * error


def test_penalty_is_the_mean_over_rows_of_the_sum_of_squares():
    step, inputs = make_step("layer")
    slow = slow_jacobians(step, inputs)
    squares = slow.square().sum((1, 2))
    torch.testing.assert_close(jacobian_penalty(step, inputs, Exact()), squares.mean())
    root = jacobian_penalty(step, inputs, Exact(), squared=False)
    torch.testing.assert_close(root, squares.sqrt().mean())
    v, u = (
        torch.randn(3, *slow[:, 0].shape, **torch64),
        torch.randn(3, *slow[:, :, 0].shape, **torch64),
    )
    pushed = torch.einsum("bcn,kbn->kbc", slow, v).square().sum(2)
    pulled = torch.einsum("bcn,kbc->kbn", slow, u).square().sum(2)
    torch.testing.assert_close(InputProjection(v)(step, inputs), pushed.mean(0))
    torch.testing.assert_close(OutputProjection(u)(step, inputs), pulled.mean(0))
    torch.testing.assert_close(OutputProjection(u[:1])(step, inputs), pulled[0])


def test_root_at_a_vanishing_jacobian_has_finite_gradient():
    w = torch.zeros(2, 2, requires_grad=True)
    jacobian_penalty(lambda x: x @ w, torch.ones(3, 2), Exact(), squared=False).backward()
    assert torch.equal(w.grad, torch.zeros(2, 2))


def test_gradients_reach_the_inputs_unless_detached():
    step, (h, z) = make_step("rms")
    h.requires_grad_()
    jacobian_penalty(step, (h, z), Exact()).backward()
    assert h.grad.abs().min() > 0
    h.grad = None
    jacobian_penalty(step, (h.detach(), z), Exact()).backward()
    assert h.grad is None


def test_inputs_left_out_are_not_differentiated():
    step, (h, z) = make_step("rms")
    both = slow_jacobians(step, (h, z)).square()
    deter = Exact()(lambda h: step(h, z), h)
    stoch = Exact()(lambda z: step(h, z), z)
    torch.testing.assert_close(deter, both[:, :, :3].sum((1, 2)))
    torch.testing.assert_close(stoch, both[:, :, 3:].sum((1, 2)))


def test_logarithmic_norm_is_the_rate_of_mean_square_growth_to_first_order():
    """S24: 1 + 2λ ≤ a² ≤ 1 + 2λ + ‖A‖², a² the largest factor of the mean square in one step."""
    mean = 0.3 * J[:, :3] + torch.eye(3, **torch64)
    spread = 0.4 * J[:2, 1:]
    x = torch.zeros(2, 3, **torch64)
    rate = step_log_norms(lambda x: (x @ mean.T, x @ spread.T), x)
    drift = mean - torch.eye(3, **torch64)
    by_hand = torch.linalg.eigvalsh(0.5 * (drift + drift.T) + 0.5 * spread.T @ spread)[-1]
    torch.testing.assert_close(rate, by_hand.expand(2), rtol=1e-12, atol=0)
    factor = torch.linalg.eigvalsh(mean.T @ mean + spread.T @ spread)[-1]
    assert 1 + 2 * by_hand <= factor <= 1 + 2 * by_hand + torch.linalg.matrix_norm(drift, 2) ** 2
    penalty = log_norm_penalty(lambda x: (x @ mean.T, x @ spread.T), x, threshold=0.1)
    torch.testing.assert_close(penalty, by_hand - 0.1)
    assert log_norm_penalty(lambda x: 0.9 * x, x) == 0


def test_gradient_of_the_logarithmic_norm_equals_differences():
    step, (h, z) = make_step("layer", outputs=3)
    weight = "inner.weight"

    def value(w):
        changed = lambda h: functional_call(step, {weight: w}, (h, z))  # noqa: E731
        return log_norm_penalty(changed, h, threshold=-2.0)

    w = step.inner.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(value, w)


def test_share_draws_distinct_rows_and_leaves_the_mean_unbiased():
    rows = torch.stack([draw_rows(10, 0.3, generator(s)) for s in range(2000)])
    assert rows.shape == (2000, 3) and all(len(set(row.tolist())) == 3 for row in rows)
    counts = torch.bincount(rows.flatten(), minlength=10).double()
    assert ((counts - 600).abs() <= 5 * math.sqrt(2000 * 0.3 * 0.7)).all()
    assert sorted(draw_rows(4, 1.0, generator()).tolist()) == [0, 1, 2, 3]
    assert len(draw_rows(10, 0.001, generator())) == 1


def test_probes_follow_the_generator():
    x = torch.zeros(3, 4)
    for law in LAWS.values():
        assert torch.equal(law(2, x, generator(1)), law(2, x, generator(1)))
        assert not torch.equal(law(2, x, generator(1)), law(2, x, generator(2)))
    radius = sphere_probes(2, x, generator()).norm(dim=-1)
    torch.testing.assert_close(radius, torch.full((2, 3), 2.0))
    assert set(rademacher_probes(5, x, generator()).flatten().tolist()) == {-1.0, 1.0}


NORMALISATIONS = {
    "layer_norm": lambda h: functional.layer_norm(h, (12,)),
    "InstanceNorm2d": lambda h: torch.nn.InstanceNorm2d(3)(h.view(-1, 3, 2, 2)).flatten(1),
    "GroupNorm": lambda h: functional.group_norm(h, 3),
}


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("how", ["input projection", "exact, C > n"])
def test_a_normalisation_by_any_door_has_the_gradient_of_central_differences(name, how):
    torch.manual_seed(1)
    width = 4 if how == "input projection" else 9
    first, last = torch.nn.Linear(4, 12).double(), torch.nn.Linear(12, width).double()
    weights = [*first.parameters(), *last.parameters()]
    x = torch.randn(5, 4, dtype=torch.float64)
    probes = rademacher_probes(1, x, torch.Generator().manual_seed(0))
    estimator = InputProjection(probes) if how == "input projection" else Exact()

    def penalty():
        return jacobian_penalty(
            lambda x: last(torch.tanh(NORMALISATIONS[name](first(x)))), x, estimator
        )

    gradient = torch.autograd.grad(penalty(), weights, allow_unused=True)
    along, ends = [torch.randn_like(weight) for weight in weights], []
    pairs = [(g, d) for g, d in zip(gradient, along, strict=True) if g is not None]
    automatic = sum(float((g * d).sum()) for g, d in pairs)
    with torch.no_grad():
        for size in (1e-6, -2e-6):
            for weight, direction in zip(weights, along, strict=True):
                weight.add_(size * direction)
            ends.append(float(penalty()))
    assert automatic == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("step", "inputs", "probes", "message"),
    [
        (lambda h: h.detach(), torch.ones(4, 2), (1, 4, 2), "does not depend on its inputs"),
        (torch.tanh, torch.ones(0, 2), (1, 0, 2), "inputs has 0 rows"),
        (torch.tanh, torch.ones(4, 2), (1, 4, 3), r"expected \(K, 4, 2\)"),
        (torch.tanh, torch.ones(4, 2), (1, 3, 2), r"expected \(K, 4, 2\)"),
        (torch.tanh, torch.ones(4, 2), (0, 4, 2), r"expected \(K, 4, 2\)"),
        (torch.tanh, torch.ones(4, 2), (4, 2), r"expected \(K, 4, 2\)"),
    ],
)
@pytest.mark.parametrize("side", [InputProjection, OutputProjection])
def test_what_has_no_penalty_is_refused_with_a_sentence(step, inputs, probes, message, side):
    with pytest.raises(ValueError, match=message):
        jacobian_penalty(step, inputs, side(torch.ones(probes)))

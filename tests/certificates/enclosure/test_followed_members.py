"""Members of a set that are followed through the step: a wrong enclosure of a function shows."""

import pytest
import torch

from sdewm.certificates.enclosure import execution, rules
from sdewm.certificates.enclosure.members import LENGTHS, Followed, NotEnclosed, polynomial
from sdewm.certificates.enclosure.taylor_set import TaylorSet, aligned
from tests.certificates.enclosure.members import ERRORS, Draw, random_set
from tests.certificates.enclosure.test_as_torch import GAIN, HALF, SINGLE, START, enclosed

BYTES = torch.tensor([200, 2, 3], dtype=torch.uint8)
TURNED = torch.linalg.qr(Draw(3).normal(3, 3)).Q


def followed(errors=ERRORS):
    """The unit ball of errors at two rows, as it starts."""
    zero = torch.zeros(2, 3, dtype=torch.float64)
    sets = TaylorSet(
        Draw(0).normal(2, 3),
        Draw(1).normal(2, 3, errors),
        Draw(2).normal(2, 3, errors, errors),
        zero[..., None][..., :0],
        zero,
    )
    return Followed.start(sets)


def test_the_members_are_of_the_ball_and_of_both_signs():
    start = followed()
    assert start.errors.norm(dim=1).max() <= 1.0
    assert sorted(start.errors.norm(dim=1).round(decimals=6).tolist()) == sorted(
        [0.0, *LENGTHS, *LENGTHS]
    )
    assert {tuple(e) for e in (-start.errors + 0.0).tolist()} == {
        tuple(e) for e in start.errors.tolist()
    }
    assert followed(0).errors.shape == (2, 0)  # twice, as a batch


def test_the_polynomial_is_that_of_every_number():
    start = followed()
    values, errors = start.values, start.errors
    for i, e in enumerate(errors):
        for row in range(2):
            for k in range(3):
                expected = values.centre[row, k] + values.linear[row, k] @ e
                expected = expected + e @ values.quadratic[row, k] @ e
                found = polynomial(values, errors)[row, i, k]
                assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def inside(start, members, rows=(0, 1), alone=None):
    moved = Followed(start.values, start.errors, members)
    moved.require_inside(rows, members[:, 0] if alone is None else alone, "the step")


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 3, 2)])
def test_a_member_may_be_as_far_off_as_the_rest_and_the_box_allow(place):
    """|G|₁ + ρ in each number; one part in 10⁹ more is refused, and so is what is not a number."""
    values = random_set(Draw(0), (2, 3))
    start = Followed.start(values)
    inside(start, start.members)
    row, member, number = place
    for scale, allowed in ((1.0 - 1e-9, True), (1.0 + 1e-9, False), (torch.nan, False)):
        members = start.members.clone()
        members[place] += scale * values.spread[row, number]
        alone = start.members[:, 0].clone()
        alone[row, number] += scale * values.spread[row, number]
        for given in ((members, None), (start.members, alone)):
            if allowed:
                inside(start, given[0], alone=given[1])
            else:
                with pytest.raises(NotEnclosed, match="the step takes a state .* by (.*e-10|inf):"):
                    inside(start, given[0], alone=given[1])


def test_members_of_rows_that_are_left_out_are_not_asked_for():
    start = followed()
    members = start.members.clone()
    members[1] = torch.nan
    inside(start, members, rows=[0])
    with pytest.raises(NotEnclosed):
        inside(start, members)
    lost = Followed(start.values, start.errors, members).without([1])
    inside(lost, lost.members)


def without_axes(run, x, dim=None, keepdim=False):
    """A sum over no axes that sums nothing, where torch sums all."""
    return x if dim == () else RULES["sum"](run, x, dim, keepdim)


RULES = dict(rules.RULES)
# Faults that were found in the enclosure by attacks, or that are close to one: a replaced rule, and
# a step that shows it.
FAULTS = {
    "a conversion that keeps bytes": (
        {"to": lambda run, x, *target: x},
        lambda x: x * (BYTES.to(x) * 2),
    ),
    "a sum over no axes": (
        {"sum": without_axes},
        lambda x: torch.stack([r - r.sum(dim=()) for r in x]),
    ),
    "a softmax in another precision": (
        {"softmax": lambda run, x, dim, dtype=None: RULES["softmax"](run, x, dim)},
        lambda x: torch.softmax(x, 1, torch.float32).double(),
    ),
    "a normalisation without its gain": (
        {
            "rms_norm": lambda run, x, shape, weight, eps: RULES["rms_norm"](
                run, x, shape, None, eps
            )
        },
        lambda x: torch.nn.functional.rms_norm(x, (3,), 1 + GAIN),
    ),
    "another activation": (
        {"gelu": lambda run, x, approximate="none": RULES["gelu"](run, x, "tanh")},
        torch.nn.functional.gelu,
    ),
    "a transposed matrix": (
        {"matmul": lambda run, x, other: RULES["matmul"](run, x, other.T)},
        lambda x: torch.matmul(x, TURNED),
    ),
    "a lost bias": (
        {"linear": lambda run, x, weight, bias: RULES["linear"](run, x, weight)},
        lambda x: torch.nn.functional.linear(x, TURNED, 1e-12 * GAIN),
    ),
    "a derivative that is wrong": (
        {"tanh": lambda run, x: frozen(RULES["tanh"](run, x))},
        torch.tanh,
    ),
    "a remainder that is left out": (
        {"exp": lambda run, x: straight(RULES["exp"](run, x))},
        torch.exp,
    ),
}


def frozen(values):
    """The set with its slopes made smaller by one part in a thousand."""
    zero = 0.0 * values.centre
    parts = [*values.parts]
    parts[1] = 0.999 * parts[1]
    return TaylorSet(*parts[:4], zero + 1e-9, rows=values.rows)


def straight(values):
    """The set without its quadratic part."""
    centre, linear, quadratic, rest, box = values.parts
    return TaylorSet(centre, linear, 0.0 * quadratic, rest, 0.0 * box + 1e-9, rows=values.rows)


@pytest.mark.parametrize("paths", [1, 2])
@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_enclosure_of_a_function_is_refused(name, paths, monkeypatch):
    changed, function = FAULTS[name]
    for rule, wrong in changed.items():
        monkeypatch.setitem(rules.RULES, rule, wrong)
    for settings in ({}, {"slabs": 4}, {"radius": 1e-3}):
        with pytest.raises(ValueError, match="out of its enclosure, by"):
            enclosed(function, paths=paths, **settings)
    with pytest.raises(ValueError, match="out of its enclosure, by"):
        enclosed(lambda x: 0.5 * x, readout=function, paths=paths)
    monkeypatch.undo()
    if "precision" not in name:  # which is refused by its name
        enclosed(function, paths=paths)


IN_SINGLE = {
    "constants": lambda x: x * torch.sqrt(SINGLE),
    "their product": lambda x: x * (SINGLE * SINGLE),
    "a number of the state": lambda x: torch.stack([r[0] * SINGLE for r in x]),
    "half of them": lambda x: torch.stack([HALF - r.sum() for r in x]),
}


@pytest.mark.parametrize("name", IN_SINGLE)
def test_another_precision_shows_in_the_members_too(name, monkeypatch):
    """Without the check by torch's rules of types, which names the function."""
    monkeypatch.setattr(execution, "_check_precision", lambda name, tensors: None)
    with pytest.raises(ValueError, match="out of its enclosure, by"):
        enclosed(IN_SINGLE[name])


def test_the_first_states_are_followed_from_an_observation_on(monkeypatch):
    from sdewm.certificates.enclosure.rollout import Propagation
    from sdewm.certificates.enclosure.slabs import start_sets

    start = start_sets(START[None], 0.1 * torch.eye(3).double()[None], 2)
    sets = list(Propagation(lambda n, x: 0.5 * x, start, 1, 50, torch.tanh))
    assert torch.allclose(sets[0].members, torch.tanh(Followed.start(start).members))
    monkeypatch.setitem(rules.RULES, "tanh", rules.RULES["sigmoid"])
    with pytest.raises(NotEnclosed):
        list(Propagation(lambda n, x: 0.5 * x, start, 1, 50, torch.tanh))


def test_sums_of_sets_keep_the_errors_of_both():
    """The check relies on one e in all sets: a difference of two sets has that of their members."""
    first, second = aligned(random_set(Draw(1), (2, 3)), random_set(Draw(2), (2, 3)))
    errors = Followed.start(first).errors
    gap = TaylorSet.of(
        (a - b for a, b in zip(first.parts[:4], second.parts[:4], strict=True)), first.box
    )
    expected = polynomial(first, errors) - polynomial(second, errors)
    assert torch.allclose(polynomial(gap, errors), expected, rtol=1e-12, atol=1e-12)

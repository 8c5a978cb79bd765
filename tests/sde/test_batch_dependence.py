"""A row's value may depend on nothing but the row: not on the batch, its size or its order."""

import numpy as np
import pytest
import torch

import sdewm

F64 = torch.float64
X0 = torch.tensor([1.0, -0.5], dtype=F64)
STEPS = 10
ERROR = sdewm.Perturbation(drift=lambda t, y: torch.full_like(y, 0.3))


class Made:
    """A system with diagonal noise, of a drift and a diffusion."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, f, g=lambda t, y: 0.3 + 0.1 * y):
        self.f, self.g = f, g


def decay(t, y):
    return -y


def square(y):
    return y.square().sum(1)


def expanded(f=decay, error=ERROR, loss=square, **named):
    return sdewm.expand(Made(f, **named), error, loss, X0, t1=1.0, steps=STEPS, paths=300).terms


def reseeded(t, y):
    drawn = torch.randn(y.shape, generator=torch.Generator().manual_seed(5), dtype=y.dtype)
    return -y + 0.1 * drawn


def size_of_batch(t, y):
    return -y * (1 if len(y) <= 64 else 2)


def mixes_once(t, y):
    return -y + (y.mean(0) if abs(float(t) - 0.1) < 1e-9 else 0 * y)


WRONG = {
    "the number of rows": (size_of_batch, "in a batch of 4096"),
    "the other rows at a single step": (mixes_once, "system.f at t = 0.1 "),
    "a generator seeded anew": (reseeded, "in a batch of 2"),
}


@pytest.mark.parametrize("what", [*WRONG])
def test_a_drift_that_depends_on_more_than_its_row_is_refused(what):
    function, said = WRONG[what]
    with pytest.raises(ValueError, match="gives a row another value|mixes the rows") as refusal:
        expanded(function)
    assert said in str(refusal.value)
    assert "each row of the result may depend on its own row only" in str(refusal.value)


def test_the_other_functions_are_looked_at_as_well():
    doubled = lambda t, y: 0.3 * size_of_batch(t, y)  # noqa: E731
    with pytest.raises(ValueError, match=r"system\.g at t = 0 gives a row another value"):
        expanded(g=lambda t, y: 0.3 - 0.1 * size_of_batch(t, y))
    with pytest.raises(ValueError, match=r"error\.drift at t = 0 gives a row another value"):
        expanded(error=sdewm.Perturbation(drift=doubled))
    with pytest.raises(ValueError, match="loss gives a row another value"):
        expanded(loss=lambda y: square(y) * (1 if len(y) <= 64 else 2))


def test_check_system_finds_it_and_a_right_system_has_no_findings():
    for function, _ in WRONG.values():
        found = sdewm.check_system(Made(function), X0, t1=1.0, steps=STEPS)
        assert "rows" in {finding.check for finding in found}
    assert sdewm.check_system(Made(decay), X0, t1=1.0, steps=STEPS) == []


def test_a_model_whose_step_depends_on_the_number_of_rows_is_found():
    def step(state, action, noise):
        factor = 0.5 if len(state) <= 64 else 0.9
        return factor * state + 0.1 * noise

    right = sdewm.StepModel(lambda s, a, n: 0.5 * s + 0.1 * n, state_size=2, noise_size=2)
    wrong = sdewm.StepModel(step, state_size=2, noise_size=2)
    rows = sdewm.Episodes(torch.zeros(3, 9, 2), torch.zeros(3, 9, 1), torch.zeros(3, 9))
    found = sdewm.check_model(wrong, rows)
    assert [one.check for one in found] == ["rows"] and "in a batch of 4096" in found[0].message
    assert sdewm.check_model(right, rows) == []


def test_a_constant_that_numpy_reads_is_right():
    """The time, or what is computed from it, is no function of the state."""

    def by_numpy(t, y):
        return -y * (1 + float(np.sin(6 * np.asarray(t.detach().numpy()))))

    def by_torch(t, y):
        return -y * (1 + torch.sin(6 * t))

    seen, expected = expanded(by_numpy), expanded(by_torch)
    for name in ("c0", "c1", "c2"):
        assert seen[name].value == pytest.approx(expected[name].value, rel=1e-12)


def test_what_belongs_to_a_row_may_be_looked_up_by_its_place():
    contexts = torch.linspace(-1, 1, 40, dtype=F64)[:, None]

    def drift(t, y):
        return -y + contexts[: len(y)]  # takes 40 rows at most

    x0 = X0 + torch.zeros(40, 2, dtype=F64)
    assert sdewm.check_system(Made(drift), x0, t1=1.0, steps=STEPS) == []


@pytest.mark.parametrize("rows", [1, 6])
def test_a_drift_that_depends_on_the_first_row_is_refused(rows):
    x0 = X0 + 0.1 * torch.arange(rows, dtype=F64)[:, None]
    found = sdewm.check_system(Made(lambda t, y: -(y - y[:1])), x0, t1=1.0, steps=STEPS)
    assert [one.check for one in found] == ["rows"]

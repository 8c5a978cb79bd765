"""Computations that agree at their first state only are told apart; equal ones are not."""

import pytest
import torch

import sdewm
from sdewm.sde import monte_carlo

X0 = torch.tensor([1.0], dtype=torch.float64)


class System:
    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, drift=1, diffusion=0, switch=2.0):
        self.drift, self.diffusion, self.switch = drift, diffusion, switch

    def f(self, t, y):
        return -(y**self.drift) * (1.0 if float(t) < self.switch else 2.0)

    def g(self, t, y):
        return 0.5 * y**self.diffusion


def expansion(system=None, error=0, loss=2, **options):
    perturbation = sdewm.Perturbation(drift=lambda t, y: 0.4 * y**error)
    result = sdewm.expand(
        system or System(),
        perturbation,
        loss if callable(loss) else lambda y: y[:, 0] ** loss,
        X0,
        t1=1.0,
        steps=8,
        paths=20_000,
        chunk=1,
        **options,
    )
    return result.terms


def value(system=None, q_function=2, **options):
    q = q_function if callable(q_function) else lambda y: y[:, 0] ** q_function
    options = {"t1": 1.0, "steps": 8, "paths": 20_000, "chunk": 1, **options}
    return sdewm.value_expansion(system or System(), q, X0, 0.1 * X0, **options).terms


def stopping(function, tiles=2):
    calls = []

    def stops(y):
        calls.append(len(y))
        if calls.count(4096) > tiles:
            raise KeyboardInterrupt
        return function(y)

    return stops


@pytest.mark.parametrize(
    ("run", "name", "other"),
    [
        (expansion, "loss", {"loss": 4}),
        (expansion, "loss", {"system": System(drift=3)}),
        (expansion, "loss", {"system": System(diffusion=1)}),
        (expansion, "loss", {"system": System(switch=0.5)}),
        (expansion, "loss", {"error": 1}),
        (value, "q_function", {"q_function": 4}),
        (value, "q_function", {"system": System(drift=3)}),
    ],
)
def test_a_checkpoint_of_functions_that_agree_at_the_first_state_is_not_used(
    run, name, other, tmp_path, monkeypatch
):
    monkeypatch.setattr(monte_carlo, "_SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt, match="sums saved"):
        run(**{name: stopping(lambda y: y[:, 0] ** 2)}, checkpoint=tmp_path)
    assert run(**other, checkpoint=tmp_path) == run(**other)
    assert len(list(tmp_path.iterdir())) == 1  # that of the first run is still there


def test_errors_that_differ_at_one_step_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(monte_carlo, "_SAVE_SECONDS", 0.0)

    def terms(height, loss=lambda y: y[:, 0] ** 2, checkpoint=None):
        def kick(t, y):
            return torch.where((60 * t).round() == 31, height, 1.0) * torch.ones_like(y)

        grid = {"t1": 1.0, "steps": 60, "paths": 20_000, "chunk": 1}
        error = sdewm.Perturbation(drift=kick)
        return sdewm.expand(System(), error, loss, X0, **grid, checkpoint=checkpoint).terms

    with pytest.raises(KeyboardInterrupt, match="sums saved"):
        terms(1.0, stopping(lambda y: y[:, 0] ** 2, 5), tmp_path)
    assert terms(5.0, checkpoint=tmp_path) == terms(5.0)
    assert len(list(tmp_path.iterdir())) == 1

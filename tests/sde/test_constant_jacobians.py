"""Constant Jacobians that a system gives are compared wherever its paths go."""

import pytest
import torch

import sdewm
from sdewm.sde.examples import LinearFlow
from sdewm.sde.system import check_jacobians

F64 = torch.float64
ONE = torch.ones(1, dtype=F64)


class Claimed:
    """dy = f(t, y) dt + g(t, y) dB, of which the Jacobians a and b are claimed."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, f, a=0.5, g=lambda t, y: 0 * y, b=0.0):
        self.f, self.g, self.claim = f, g, (a, b)

    def jacobians(self):
        a, b = self.claim
        return a * torch.ones(1, 1, dtype=F64), b * torch.ones(1, 1, 1, dtype=F64)


def kinked(t, y):
    return torch.where(y > 40.0, 5 * (y - 40.0) + 20.0, 0.5 * y)


FALSE = {
    "a kink that the error reaches": Claimed(kinked),
    "a kink in the diffusion": Claimed(lambda t, y: 0.5 * y, g=kinked, b=0.5),
    "at one time of a thousand": Claimed(
        lambda t, y: (500.0 if abs(float(t) - 0.617) < 6e-4 else 0.5) * y
    ),
    "behind a large constant": Claimed(lambda t, y: 0.5 * y + 1e9, a=0.0),
    "behind one that rounds": Claimed(lambda t, y: 0.5 * y + 1e17, a=0.0),
    "by a millionth": Claimed(lambda t, y: 0.5 * y, a=0.5 * (1 - 1e-6)),
    "by the rounding of float32": Claimed(lambda t, y: 0.1 * y, a=float(torch.tensor(0.1))),
}


@pytest.mark.parametrize("name", FALSE)
def test_jacobians_that_are_wrong_somewhere_are_refused(name):
    system = FALSE[name]
    with pytest.raises(ValueError, match=r"system\.jacobians\(\) is not the derivative of"):
        sdewm.rollout_bounds(system, ONE, 100.0 * ONE, t1=1.0, steps=1000)
    with pytest.raises(ValueError, match=r"system\.jacobians\(\) is not the derivative of"):
        sdewm.fundamental_matrix(system, ONE, t1=1.0, steps=1000, paths=2)


def test_the_bound_of_such_a_system_as_an_estimate_needs_no_jacobians():
    bounds = sdewm.rollout_bounds(
        FALSE["by a millionth"], ONE, ONE, t1=1.0, steps=10, kind="estimate"
    )
    assert bounds["log_norm"].kind == "estimate"


SOUND = {
    "growth": Claimed(lambda t, y: 0.5 * y),
    "with a large constant": Claimed(lambda t, y: 0.5 * y + 1e9),
    "around a distant point": Claimed(lambda t, y: 0.5 * (y - 1e9)),
    "with a force in time": Claimed(lambda t, y: 0.5 * y + torch.sin(50 * t)),
    "multiplicative": Claimed(lambda t, y: 0.5 * y, g=lambda t, y: 1.0 + 0.3 * y, b=0.3),
}


@pytest.mark.parametrize("name", SOUND)
def test_right_jacobians_pass(name):
    bounds = sdewm.rollout_bounds(SOUND[name], ONE, 100.0 * ONE, t1=1.0, steps=50)
    assert bounds["log_norm"].kind == "certificate"


def test_a_constant_that_rounds_the_slope_away_hides_it_from_differences_only():
    start, state = torch.zeros(1, dtype=F64), ONE.unsqueeze(0)
    system = Claimed(lambda t, y: 0.5 * y + 1e20, a=0.0)
    with pytest.raises(ValueError, match="along one direction by automatic differentiation"):
        check_jacobians(system, start, state)
    check_jacobians(Claimed(system.f), start, state)


def test_only_states_of_later_times_show_what_is_looked_at_with_them():
    case = LinearFlow()
    times = torch.linspace(0.0, 1.0, 5, dtype=F64)
    states = case.x0.expand(5, 3, -1)
    check_jacobians(case, times, states)

    class Late(LinearFlow):
        def f(self, t, y):
            return super().f(t, y) + 1e-3 * torch.relu(y - 1e6)

    check_jacobians(Late(), times, states)  # nothing looks so far away,
    for later in (torch.cat((states[:4], 1e7 + states[4:])), states):
        others = None if later is not states else 1e7 + states[0]  # unless paths go there
        with pytest.raises(ValueError, match="system.f at t = "):
            check_jacobians(Late(), times, later, others)

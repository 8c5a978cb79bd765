"""What users of rollouts, growth and term bounds may get wrong, and systems they may bring."""

import pytest
import torch
from torch import nn

import sdewm
from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.sde.examples import CubicFlow, LinearFlow, OrnsteinUhlenbeck

F64 = torch.float64
X0, ERROR = torch.tensor([0.5, 0.2], dtype=F64), torch.tensor([0.1, -0.05], dtype=F64)
GRID = {"t1": 1.0, "steps": 4}


class Diagonal:
    """dx = drift(t, x) dt + noise x dB, or with certified rates that are refused."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, drift, noise=0.0):
        self.drift, self.noise = drift, noise

    def f(self, t, y):
        return self.drift(t, y)

    def g(self, t, y):
        return self.noise * y


class Unproven(Diagonal):
    def certified_rates(self, low, high, step_size, blocks):
        raise ValueError("no proof for this step")


class Affine(Diagonal):
    """Claims to be dx = −x dt."""

    def jacobians(self):
        return -torch.eye(2, dtype=F64), torch.zeros(2, 2, 2, dtype=F64)


def bounds(system, **changes):
    return sdewm.rollout_bounds(system, X0, ERROR, **{**GRID, "paths": 8, **changes})


def grow(system, x0=X0, **changes):
    return sdewm.fundamental_matrix(system, x0, **{**GRID, "paths": 8, **changes})


def test_jacobians_are_compared_with_the_coefficients():
    assert bounds(Affine(lambda t, y: -y))["log_norm"].kind == "certificate"
    assert grow(Affine(lambda t, y: 1.0 - y)).bounds["log_norm"].kind == "certificate"
    error = sdewm.Perturbation(drift=lambda t, y: torch.ones_like(y))
    wrong = {
        "f at t = 0": Affine(lambda t, y: 2.0 * y),
        "f at t = 0.5": Affine(lambda t, y: -(1.0 + t) * y if t > 0.4 else -y),
        "g at t = 0": Affine(lambda t, y: -y, noise=0.3),
    }
    for text, system in wrong.items():
        message = rf"system.jacobians\(\) is not the derivative of system.{text}"
        with pytest.raises(ValueError, match=message):
            bounds(system)
        with pytest.raises(ValueError, match=message):
            grow(system)
        with pytest.raises(ValueError, match=message):
            sdewm.term_bounds(system, error, lambda y: y.square().sum(1), X0, **GRID)
        assert bounds(system, kind="estimate")["log_norm"].kind == "estimate"


def test_jacobians_of_other_shapes_are_refused():
    class Misshapen(Diagonal):
        def jacobians(self):
            return -torch.eye(3, dtype=F64), torch.zeros(2, 2)

    with pytest.raises(ValueError, match=r"has shapes \[\(3, 3\), \(2, 2\)\]; expected \[\(2, 2\)"):
        bounds(Misshapen(lambda t, y: -y))


def test_a_kink_leaves_no_linearised_grade():
    bent = Diagonal(lambda t, y: -torch.relu(y - 0.55))
    found = bounds(bent)
    assert "linearised" not in found and "log_norm" in found
    with pytest.raises(ValueError, match="grades contains 'linearised': it fails on the sampled"):
        bounds(bent, grades=("linearised",))
    softened = Diagonal(lambda t, y: torch.relu(y - 0.55) - 0.01 * y**3)
    assert "linearised" not in bounds(softened)
    assert "linearised" in bounds(Diagonal(lambda t, y: -(y**3)))


def test_the_moments_of_the_equation_are_not_those_of_the_scheme():
    case, error = OrnsteinUhlenbeck(), torch.tensor([0.1], dtype=F64)
    found = sdewm.rollout_bounds(case, case.x0, error, t1=1.5, steps=15, form="sde")
    equation = 0.1 * torch.tensor(-1.2, dtype=F64).exp().item()
    assert found["linearised"].prediction["mean"].last.value < 0.99 * equation  # the scheme's |y|
    assert found["linearised"]["mean"].last.value == pytest.approx(equation, rel=1e-12)
    assert found["linearised"].kind == found["log_norm"].kind == "certificate"
    assert found["log_norm"]["mean"].last.value >= equation


def test_grades_and_blocks_are_refused_by_name():
    case = LinearFlow()
    for grades in ("log_norm", (), 5):
        with pytest.raises(ValueError, match="grades=.*: expected a sequence of names"):
            bounds(case, grades=grades)
    for blocks in (5, [0, 1], [slice(None)], [slice(0, 2, 2)]):
        with pytest.raises(
            ValueError, match="blocks=.*: expected consecutive slices that partition 0 … 2"
        ):
            bounds(case, blocks=blocks)


def test_an_error_of_complex_numbers_is_refused():
    with pytest.raises(ValueError, match="error is a tensor of torch.complex64"):
        sdewm.rollout_divergence(LinearFlow(), X0, torch.tensor([1j, 0]), paths=2, **GRID)


def test_a_module_of_another_dtype_is_refused_with_the_remedy():
    network = nn.Linear(2, 2)
    system = Diagonal(lambda t, y: network(y))
    with pytest.raises(
        ValueError, match=r"system.f fails for a state .* of torch.float64: .*module.double\(\)"
    ):
        bounds(system)
    network.double()
    assert bounds(system)["log_norm"].kind == "estimate"


def test_a_start_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"system.f fails for a state \(2, 3\)"):
        grow(LinearFlow(), x0=torch.zeros(3, dtype=F64))


def test_parameters_may_require_gradients():
    network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    found = grow(Diagonal(lambda t, y: network(y) - y, noise=0.1))
    assert {bound.kind for bound in found.bounds.values()} == {"estimate"}


def test_derivatives_that_are_not_finite_are_refused():
    root = Diagonal(lambda t, y: torch.sqrt(y))
    with pytest.raises(FloatingPointError, match="derivatives that are not finite in component 0"):
        grow(root, x0=torch.zeros(2, dtype=F64))
    with pytest.raises(FloatingPointError, match=r"derivatives along the path \(x, y, w\)"):
        sdewm.rollout_bounds(root, torch.zeros(2, dtype=F64), ERROR.abs(), paths=2, **GRID)


def test_an_explosion_names_the_component_of_the_system():
    steep = Diagonal(lambda t, y: torch.stack((-y[:, 0], 1e3 * y[:, 1] ** 3), dim=1))
    with pytest.raises(FloatingPointError, match=r"component 1 \(state there: \[[^,]*, [^,]*\]\)"):
        bounds(steep, steps=60)


class Roots(Diagonal):
    """dx = −x dt + √max(x, 0) dB, whose first component soon stays below zero."""

    def __init__(self):
        super().__init__(lambda t, y: -y - torch.tensor([2.0, 0.0], dtype=y.dtype))

    def g(self, t, y):
        return y.clamp(min=0).sqrt()


def test_a_derivative_that_is_infinite_is_named_with_component_and_state_of_the_user():
    def loss(y):
        return y.square().sum(1)

    def change(t, y):
        return torch.ones_like(y)

    x0, error = torch.tensor([0.2, 2.0], dtype=F64), sdewm.Perturbation(change, change)
    grid = {"t1": 1.5, "steps": 10, "paths": 4}
    calls = {
        r"first derivative in the size of error\.diffusion": lambda system: sdewm.expand(
            system, error, loss, x0, **grid
        ),
        r"first derivative y": lambda system: sdewm.value_expansion(
            system, loss, x0, ERROR.abs(), **grid
        ),
    }
    for derivative, call in calls.items():
        where = rf"diffusion of the {derivative} is nan .* component 0"
        state = r"\(state there: \[-[^,]*, [^,]*\]\); the path is finite there"
        with pytest.raises(FloatingPointError, match=f"{where} {state}.* more steps do not help"):
            call(Roots())
        steep = Diagonal(lambda t, y: torch.stack((-y[:, 0], 1e3 * y[:, 1] ** 3), dim=1))
        with pytest.raises(FloatingPointError, match="component 1 .* use more steps than 10"):
            call(steep)


def test_growth_of_a_recurrent_model_is_certified():
    system = RecurrentSystem.like_trained(hidden=4, latent=2)
    found = grow(system, x0=system.x0, t1=4.0)
    assert found.bounds["log_norm"].kind == "certificate"
    for name in ("mean", "sup_square"):
        assert (found.bounds["log_norm"][name].values >= found[name].values).all()
    error = sdewm.Perturbation(drift=lambda t, y: torch.ones_like(y))
    terms = sdewm.term_bounds(
        system, error, lambda y: y.square().sum(1), system.x0, t1=4.0, steps=4, paths=4
    )
    assert terms["P_drift"] > 0


def test_growth_falls_back_to_an_estimate_where_a_proof_fails():
    system = Unproven(lambda t, y: -(y**3))
    assert grow(system).bounds["log_norm"].kind == "estimate"
    with pytest.raises(ValueError, match="Unproven has no proof: no proof for this step"):
        grow(system, kind="certificate")
    error = sdewm.Perturbation(drift=lambda t, y: torch.ones_like(y))
    assert sdewm.term_bounds(system, error, lambda y: y.square().sum(1), X0, **GRID)["xi"] > 0


def test_a_name_that_is_not_there_is_a_missing_key():
    case = CubicFlow()
    error = torch.tensor([0.1], dtype=F64)
    measured = sdewm.rollout_divergence(case, case.x0, error, paths=2, **GRID)
    found = sdewm.rollout_bounds(case, case.x0, error, grades=("log_norm",), paths=2, **GRID)
    growth = grow(case, x0=case.x0)
    for mapping in (measured, growth, found):
        assert "mena" not in mapping and mapping.get("mena") is None
        with pytest.raises(ValueError, match="'mena' is not allowed"):
            mapping["mena"]
    assert "mean" in measured and "mean" in growth and "log_norm" in found


def test_term_bounds_refuse_other_losses_and_errors():
    case = LinearFlow()
    error = sdewm.Perturbation(drift=case.error_drift)
    with pytest.raises(ValueError, match="error=NoneType: expected a sdewm.Perturbation"):
        sdewm.term_bounds(case, None, case.loss, case.x0, **GRID)
    with pytest.raises(ValueError, match="loss=None: expected a function"):
        sdewm.term_bounds(case, error, None, case.x0, **GRID)
    with pytest.raises(ValueError, match=r"loss returned shape \(2, 2\); expected \(2,\)"):
        sdewm.term_bounds(case, error, lambda y: y, case.x0, **GRID)


def test_a_single_path_is_refused_because_it_has_no_standard_error():
    case = LinearFlow()
    square = lambda y: y.square().sum(1)  # noqa: E731
    error = sdewm.Perturbation(drift=lambda t, y: torch.ones_like(y))
    one = {**GRID, "paths": 1}
    message = "paths=1: expected a whole number of at least 2"
    with pytest.raises(ValueError, match=message):
        sdewm.rollout_divergence(case, case.x0, ERROR, **one)
    with pytest.raises(ValueError, match=message):
        sdewm.fundamental_matrix(case, case.x0, **one)
    with pytest.raises(ValueError, match=message):
        sdewm.value_expansion(case, square, case.x0, ERROR, **one)
    with pytest.raises(ValueError, match=message):
        sdewm.expand(case, error, square, case.x0, **one)

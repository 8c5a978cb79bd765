"""Linear flow: its exact moments against the Kronecker exponential, its contract, its terms."""

import pytest
import torch

import sdewm
from sdewm.sde.examples import LinearFlow
from sdewm.sde.linear_moments import generator, mean_square_growth_rate, moment_path, weight_matrix
from sdewm.sde.rates import ConstantJacobians

EYE = torch.eye(2, dtype=torch.float64)


def random_matrices(size, drivers, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(1 + drivers, size, size, dtype=torch.float64, generator=generator)
    return 0.6 * draw[0] / size**0.5, 0.4 * draw[1:] / size**0.5


def kronecker(drift, noise):
    """A ⊗ I + I ⊗ A + Σ A_k ⊗ A_k, the slow definition of S12."""
    eye = torch.eye(len(drift), dtype=drift.dtype)
    total = torch.kron(drift, eye) + torch.kron(eye, drift)
    for one in noise:
        total = total + torch.kron(one, one)
    return total


def test_second_moments_equal_the_tabulated_oracles():
    case = LinearFlow()
    assert float(case.second_moment(EYE, 1.5).trace()) == pytest.approx(1.2823094145, abs=6e-11)
    error = torch.diag(torch.tensor([0.0, 0.01], dtype=torch.float64))
    found = float(case.second_moment(error, 1.5).trace())
    assert found == pytest.approx(0.0098428365, abs=6e-11)
    # Negative control: without the noise both are other numbers.
    still = LinearFlow(noise=())
    assert float(still.second_moment(EYE, 1.5).trace()) < 1.2
    assert float(still.second_moment(error, 1.5).trace()) < 0.0095


@pytest.mark.parametrize(("size", "drivers"), [(1, 1), (2, 2), (5, 0), (17, 3)])
def test_moments_of_the_equation_are_the_exponential_of_the_kronecker_matrix(size, drivers):
    drift, noise = random_matrices(size, drivers)
    start = torch.eye(size, dtype=torch.float64) + 0.3
    path = moment_path(drift, noise, start, 0.7, 3, scheme=False)
    assert path.shape == (4, size, size)
    for n in range(4):
        direct = torch.linalg.matrix_exp(0.7 * n * kronecker(drift, noise)) @ start.flatten()
        torch.testing.assert_close(path[n].flatten(), direct, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(
        generator(drift, noise, start).flatten(), kronecker(drift, noise) @ start.flatten()
    )


def test_moments_of_the_scheme_are_the_average_over_its_steps():
    case = LinearFlow()
    a, (b,) = case.jacobians()
    dt = 0.3
    # Two steps, each increment ±√dt: the same second moments as normal ones.
    total = torch.zeros_like(EYE)
    for first in (-1, 1):
        for second in (-1, 1):
            steps = [EYE + dt * a + sign * dt**0.5 * b for sign in (first, second)]
            total = total + (steps[1] @ steps[0]) @ (steps[1] @ steps[0]).T / 4
    torch.testing.assert_close(case.second_moment(EYE, 2 * dt, steps=2), total)
    assert not torch.allclose(case.second_moment(EYE, 2 * dt), total, rtol=1e-3)


def test_moments_of_the_scheme_converge_with_order_one():
    case = LinearFlow()
    limit = case.second_moment(EYE, 1.5).trace()
    gaps = [float(case.second_moment(EYE, 1.5, n).trace() - limit) for n in (100, 200, 400)]
    assert gaps[0] / gaps[1] == pytest.approx(2.0, abs=0.05)
    assert gaps[1] / gaps[2] == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize(("size", "drivers"), [(2, 1), (6, 0), (16, 2), (17, 2), (24, 3)])
def test_the_rate_is_half_the_spectral_abscissa(size, drivers):
    drift, noise = random_matrices(size, drivers, seed=size)
    exact = 0.5 * float(torch.linalg.eigvals(kronecker(drift, noise)).real.max())
    assert mean_square_growth_rate(drift, noise) == pytest.approx(exact, abs=1e-10)


def test_the_rate_of_the_oracle():
    # The oracle's printed -0.0597327427 has a wrong digit; 40-digit arithmetic gives this value.
    assert mean_square_growth_rate(*LinearFlow().jacobians()) == pytest.approx(
        -0.059732642701718, abs=1e-14
    )


@pytest.mark.parametrize("drivers", [0, 2])
def test_moments_grow_in_the_metric_at_most_at_its_rate(drivers):
    drift, noise = random_matrices(6, drivers, seed=1)
    rho = mean_square_growth_rate(drift, noise)
    for gap in (0.01, 0.1, 1.0):
        matrix = weight_matrix(drift, noise, rho + gap)
        assert float(matrix.trace()) == pytest.approx(6.0)
        assert float(torch.linalg.eigvalsh(matrix)[0]) > 0
        backward = generator(drift.T, noise.mT, matrix)  # 𝓛*M ⪯ 2rM
        highest = torch.linalg.eigvalsh(backward - 2 * (rho + gap) * matrix)[-1]
        assert float(highest) < 1e-6
        # Negative control: no weighted norm does better than ρ.
        assert float(torch.linalg.eigvalsh(backward - 2 * (rho - 0.01) * matrix)[-1]) > 0


def test_a_rate_inside_the_spectrum_has_no_metric():
    drift, noise = random_matrices(3, 0)
    with pytest.raises(ValueError, match=r"rate=-5\.0"):
        weight_matrix(drift, noise, -5.0)


def test_coefficients_keep_the_contract_of_a_system():
    case = LinearFlow(noise=(((0.1, 0.2), (0.0, 0.3)), ((0.0, 0.0), (0.1, 0.0))))
    assert isinstance(case, ConstantJacobians)
    t, y = torch.zeros(()), torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    assert case.f(t, y).shape == case.error_drift(t, y).shape == (5, 2)
    assert case.g(t, y).shape == case.error_diffusion(t, y).shape == (5, 2, 2)
    assert case.g(t, y).dtype == case.error_diffusion(t, y).dtype == torch.float32
    a, parts = case.jacobians()
    torch.testing.assert_close(case.f(t, y), y @ a.T.float())
    torch.testing.assert_close(case.g(t, y), torch.einsum("kij,bj->bik", parts.float(), y))
    one = LinearFlow(noise=())
    assert not one.g(t, y).any()
    assert one.jacobians()[1].shape == (1, 2, 2)


def test_terms_are_those_of_the_scheme():
    case = LinearFlow()
    result = sdewm.expand(
        case,
        sdewm.Perturbation(drift=case.error_drift, diffusion=case.error_diffusion),
        case.loss,
        case.x0,
        t1=case.t1,
        steps=4,
        increments="enumerate",
    )
    exact = case.exact_terms(steps=4)
    for name in ("c0", "P", "S", "P_drift", "S_cross", "S_drift"):
        assert result.terms[name].value == pytest.approx(exact[name], abs=1e-12)
        assert exact[name] != 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LinearFlow(matrix=((1.0, 2.0),)), r"matrix has shape \(1, 2\); expected \(1, 1\)"),
        (lambda: LinearFlow(noise=(((1.0,),),)), r"noise has shape \(1, 1\); expected \(2, 2\)"),
        (lambda: LinearFlow(start=(1.0,)), r"start has shape \(1,\)"),
        (lambda: LinearFlow(sigma=float("inf")), "sigma=inf"),
        (lambda: LinearFlow(t1=-1.0), r"t1=-1\.0"),
        (lambda: LinearFlow().second_moment(torch.eye(3), 1.0), r"c has shape \(3, 3\)"),
        (lambda: LinearFlow().second_moment(EYE, 0.0), r"t1=0\.0"),
        (lambda: LinearFlow().second_moment(EYE, 1.0, steps=0), "steps=0"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("seed", range(3))
def test_the_growth_rate_of_many_components_is_the_largest_of_close_ones(seed):
    """Eigenvalues of A near the largest real part, in a skew basis; A_1 = s I adds s²/2."""
    generator = torch.Generator().manual_seed(seed)
    size = 56
    drift = torch.diag(-0.2 - 0.8 * torch.rand(size, dtype=torch.float64, generator=generator))
    drift[0, 0] = -0.0293
    for i, (real, turn) in zip(
        (1, 3, 5), ((-0.0336, 0.072), (-0.0436, 0.153), (-0.13, 0.11)), strict=True
    ):
        block = torch.tensor([[real, turn], [-turn, real]], dtype=torch.float64)
        drift[i : i + 2, i : i + 2] = block
    mixing = torch.randn(size, size, dtype=torch.float64, generator=generator) / size**0.5
    basis = torch.eye(size, dtype=torch.float64) + mixing
    drift = basis @ drift @ torch.linalg.inv(basis)
    noise = 0.1 * torch.eye(size, dtype=torch.float64)[None]
    assert mean_square_growth_rate(drift, noise) == pytest.approx(-0.0293 + 0.005, abs=1e-9)

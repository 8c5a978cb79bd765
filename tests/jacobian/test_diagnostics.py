"""Metrics of the Jacobian against numpy and scipy on dense matrices; Krylov against exact."""

import numpy as np
import pytest
import torch
from scipy.sparse import linalg as sparse

from sdewm.jacobian.diagnostics import exact_metrics, jacobian_metrics, krylov_metrics
from tests.jacobian.jacobian_step import make_step, slow_jacobians

NAMES = ("frobenius", "top_singular_value", "log_norm", "spectral_radius")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def metrics_by_numpy(jacobian):
    return {
        "frobenius": np.sqrt((jacobian**2).sum()),
        "top_singular_value": np.linalg.svd(jacobian, compute_uv=False)[0],
        "log_norm": np.linalg.eigvalsh((jacobian + jacobian.T) / 2)[-1] - 1,
        "spectral_radius": abs(np.linalg.eigvals(jacobian)).max(),
    }


def metrics_by_scipy(jacobian):
    return {
        "frobenius": np.linalg.norm(jacobian),
        "top_singular_value": sparse.svds(jacobian, k=1, return_singular_vectors=False)[0],
        "log_norm": sparse.eigsh((jacobian + jacobian.T) / 2, k=1, which="LA")[0][0] - 1,
        "spectral_radius": abs(sparse.eigs(jacobian, k=2, which="LM")[0]).max(),
    }


def test_exact_metrics_equal_numpy_state_by_state():
    step, inputs = make_step("layer", outputs=2)
    square = lambda h, z: (step(h, z)[0], step(h, z)[1][:, :3])  # noqa: E731
    dense = slow_jacobians(square, inputs).detach().numpy()
    found = exact_metrics(square, inputs)
    for b, jacobian in enumerate(dense):
        for name, value in metrics_by_numpy(jacobian).items():
            assert float(getattr(found, name)[b]) == pytest.approx(value, rel=1e-9, abs=1e-10), name


def test_a_jordan_block_grows_though_its_spectral_radius_does_not():
    matrix = torch.tensor([[0.5, 3.0], [0.0, 0.5]], dtype=torch.float64)
    found = exact_metrics(lambda x: x @ matrix.T, torch.zeros(1, 2, dtype=torch.float64))
    assert float(found.spectral_radius) == pytest.approx(0.5, abs=1e-7)
    assert float(found.log_norm) == pytest.approx(0.5 + 1.5 - 1)
    assert float(found.top_singular_value) > 3


@pytest.mark.parametrize("n", [120, 400])
def test_krylov_metrics_equal_scipy_on_a_gated_step(n):
    torch.manual_seed(0)
    cell = torch.nn.GRUCell(4, n).double()
    x, h = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, n, dtype=torch.float64) * 2 - 1

    def step(h):
        return cell(x, h)

    found = krylov_metrics(step, h, generator(), iterations=80, probes=200)
    dense = torch.func.vmap(torch.func.jacrev(lambda h, x: cell(x[None], h[None])[0]))(h, x)
    for b, jacobian in enumerate(dense.detach().numpy()):
        for name, value in metrics_by_scipy(jacobian).items():
            tolerance = {"frobenius": 0.02, "spectral_radius": 1e-3}.get(name, 1e-6)
            assert float(getattr(found, name)[b]) == pytest.approx(value, rel=tolerance), name
    few = krylov_metrics(step, h, generator(), iterations=3)
    assert (few.top_singular_value < 0.999 * found.top_singular_value).all()  # from below


def test_krylov_with_as_many_iterations_as_inputs_is_exact():
    step, inputs = make_step("rms", outputs=2)
    square = lambda h, z: (step(h, z)[0], step(h, z)[1][:, :3])  # noqa: E731
    found, exact = krylov_metrics(square, inputs, generator()), exact_metrics(square, inputs)
    for name in NAMES[1:]:
        torch.testing.assert_close(getattr(found, name), getattr(exact, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factor", [0.0, 0.5, -2.0])
def test_krylov_space_that_is_exhausted_at_once(factor):
    found = krylov_metrics(lambda x: factor * x, torch.ones(2, 60), generator())
    expected = torch.full((2,), factor, dtype=torch.float64)
    torch.testing.assert_close(found.log_norm, expected - 1, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.spectral_radius, expected.abs(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.top_singular_value, expected.abs(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.frobenius, expected.abs() * 60**0.5, rtol=1e-5, atol=1e-6)


def test_maps_that_are_not_square_have_the_first_two_metrics_only():
    step, inputs = make_step("rms")
    dense = slow_jacobians(step, inputs).detach()
    for found in (exact_metrics(step, inputs), krylov_metrics(step, inputs, generator())):
        assert found.log_norm is None and found.spectral_radius is None
        top = torch.linalg.matrix_norm(dense, 2)
        torch.testing.assert_close(found.top_singular_value, top, rtol=1e-9, atol=0)
        assert set(found.summary()) == {
            "frobenius_mean", "frobenius_max", "top_singular_value_mean", "top_singular_value_max"
        }  # fmt: skip


def test_the_choice_by_size_and_the_summary():
    small, large = torch.zeros(2, 256), torch.zeros(2, 257)
    matrix = lambda x: x * torch.linspace(0.1, 0.9, x.shape[1])  # noqa: E731
    exact, krylov = (jacobian_metrics(matrix, x, generator()) for x in (small, large))
    reference = float(torch.linspace(0.1, 0.9, 256).norm())
    assert float(exact.frobenius[0]) == pytest.approx(reference, rel=1e-6)
    assert float(krylov.spectral_radius[0]) == pytest.approx(0.9, rel=1e-3)
    spread = krylov.summary()
    assert spread["spectral_radius_mean"] <= spread["spectral_radius_max"]
    assert len(spread) == 8


def test_metrics_carry_no_gradient_and_leave_none_behind():
    step, inputs = make_step("layer", outputs=2)
    inputs[0].requires_grad_()
    for found in (exact_metrics(step, inputs), krylov_metrics(step, inputs, generator())):
        assert not found.frobenius.requires_grad
    assert all(p.grad is None for p in step.parameters())

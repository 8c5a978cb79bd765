"""Jacobian products and dense Jacobians against slow loops, with their gradients; refusals."""

import warnings

import pytest
import torch

from sdewm.jacobian.products import pull_back, push_forward, row_jacobians
from tests.jacobian.jacobian_step import NORMS, make_step, slow_jacobians


def gradient(value, step):
    grads = torch.autograd.grad(
        value, [*step.parameters()], retain_graph=True, materialize_grads=True
    )
    return torch.cat([g.flatten() for g in grads])


def assert_same_with_gradient(fast, slow, step):
    """Values to 1e-11, and the gradients of a sum of squares in the parameters to 1e-10."""
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-13)
    fast, slow = (gradient(values.square().sum(), step) for values in (fast, slow))
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("outputs", [1, 9], ids=["C < n", "C > n"])
@pytest.mark.parametrize("norm", NORMS)
def test_dense_jacobians_and_their_gradients_equal_a_slow_loop(norm, outputs):
    step, inputs = make_step(norm, outputs)
    one = (lambda h, z: step(h, z)[:1]) if outputs == 1 else step
    assert_same_with_gradient(row_jacobians(one, inputs), slow_jacobians(one, inputs), step)


@pytest.mark.parametrize("norm", NORMS)
def test_products_and_their_gradients_equal_a_slow_loop(norm):
    step, inputs = make_step(norm)
    slow = slow_jacobians(step, inputs)
    v, u = torch.randn_like(slow[:, 0, :]), torch.randn_like(slow[:, :, 0])
    push = push_forward(step, inputs)
    assert_same_with_gradient(push(v), torch.einsum("bcn,bn->bc", slow, v), step)
    outputs, pull = pull_back(step, inputs)
    torch.testing.assert_close(outputs, torch.cat(step(*inputs), dim=1))
    assert_same_with_gradient(pull(u), torch.einsum("bcn,bc->bn", slow, u), step)


def test_torch_forward_mode_loses_part_of_the_gradient_of_a_layer_norm():
    """Why layer norms are written out. Skipped by a torch that is right: then they need not be."""
    step, inputs = make_step("layer")
    slow = slow_jacobians(step, inputs)
    v = torch.ones_like(slow[:, 0, :])
    tangents = v[:, :3], v[:, 3:].reshape(inputs[1].shape)
    with warnings.catch_warnings():  # torch loads its forward rules by torch.jit
        warnings.simplefilter("ignore", DeprecationWarning)
        joined = torch.cat(torch.func.jvp(step, inputs, tangents)[1], dim=1)
    torch.testing.assert_close(joined, torch.einsum("bcn,bn->bc", slow, v))
    slow = gradient(torch.einsum("bcn,bn->bc", slow, v).square().sum(), step)
    wrong = (gradient(joined.square().sum(), step) - slow).abs().max()
    if wrong < 1e-9 * slow.abs().max():
        pytest.skip("this torch differentiates its forward rule of layer_norm correctly")
    assert wrong > 0.01 * slow.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_follows_float64(dtype):
    step, inputs = make_step("layer")
    expected = row_jacobians(step, inputs).detach()
    found = row_jacobians(step.to(dtype), tuple(x.to(dtype) for x in inputs))
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.double(), expected, rtol=0, atol=20 * torch.finfo(dtype).eps * float(expected.max())
    )


def test_a_step_that_ignores_its_inputs_has_jacobian_zero():
    inputs = torch.ones(3, 2)
    assert torch.equal(row_jacobians(lambda x: torch.ones(3, 4), inputs), torch.zeros(3, 4, 2))
    assert torch.equal(row_jacobians(lambda x: torch.ones(3, 1), inputs), torch.zeros(3, 1, 2))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "at least one tensor"),
        (torch.ones(2, 3, dtype=torch.int64), "torch.int64"),
        ((torch.ones(2, 3), torch.ones(3, 3)), "the same B"),
        (([1.0],), "holds list"),
        (torch.tensor(1.0), "the same B"),
        (torch.ones(0, 3), "0 rows"),
    ],
    ids=["none", "integers", "two batch sizes", "list", "no batch", "empty"],
)
def test_inputs_that_do_not_fit_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        row_jacobians(lambda *x: x[0], inputs)


def test_outputs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="returned 1 rows for inputs of 3"):
        row_jacobians(lambda x: x.mean(0, keepdim=True), torch.ones(3, 2))
    with pytest.raises(ValueError, match="the output of step"):
        row_jacobians(lambda x: x > 0, torch.ones(3, 2))

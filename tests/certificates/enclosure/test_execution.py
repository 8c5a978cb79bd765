"""Running code on sets: what is supported, and what is refused by its name."""

import pytest
import torch
from torch import nn

from sdewm.certificates.enclosure.execution import SetExecution, Unbounded, enclosed
from sdewm.certificates.enclosure.taylor_set import Symbols
from tests.certificates.enclosure.members import Draw, random_set

REFUSED = {
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "erf": torch.erf,
    "dropout": lambda x: nn.functional.dropout(x, 0.5),
    "batch_norm": nn.BatchNorm1d(4).double(),
    "add_": lambda x: x.__iadd__(1.0),
    "__setitem__": lambda x: x.__setitem__(0, 1.0),
    "bool": lambda x: 1.0 if x.sum() else 2.0,
    "gt": lambda x: 1.0 if x.sum() > 0 else 2.0,
    "item": lambda x: x.sum().item(),
    "float": lambda x: x.float(),
    "to": lambda x: x.to(torch.float32),
    "view": lambda x: x.view(torch.int64),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "randn_like": torch.randn_like,
    "randn": lambda x: x + torch.randn(4).double(),
    "cat": lambda x: torch.cat([x, x], -1, out=torch.zeros(1)),
    "pow": lambda x: x**2.5,
    "layer_norm": lambda x: nn.functional.layer_norm(x, (1, 4)),
    "matmul": lambda x: x @ x.T,
    "softplus": nn.Softplus(threshold=2.0),
    "elu": nn.ELU(inplace=True),
    "linear": lambda x: nn.functional.linear(torch.ones(1, 4).double(), x),
    "clamp": lambda x: x.clamp(torch.zeros(4), torch.ones(4)),
    "norm": lambda x: x.norm(),
    "conv1d": lambda x: nn.functional.conv1d(x[:, None], torch.ones(1, 1, 2).double()),
}


def run(function, values=None):
    values = random_set(Draw(0), (1, 4), 0.1) if values is None else values
    with torch.no_grad(), SetExecution(Symbols(4), values):
        return function(enclosed(values)).taylor


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_without_an_enclosure_is_refused_by_its_name(name):
    with pytest.raises(ValueError, match=f"{name}.* is not supported"):
        run(REFUSED[name])


def test_compiled_code_finds_no_numbers():
    """What does not pass through the torch functions cannot read the centres."""
    values = random_set(Draw(0), (1, 4))
    with pytest.raises(ValueError, match="hides it"):
        torch.ops.aten.sin.default(enclosed(values))


def test_a_tensor_kept_from_another_step_is_refused():
    values, kept = random_set(Draw(0), (1, 4)), []
    with SetExecution(Symbols(4), values):
        kept.append(torch.tanh(enclosed(values)))
    with pytest.raises(ValueError, match="keeps a tensor"), SetExecution(Symbols(4), values):
        torch.tanh(enclosed(values)) + kept[0]


def test_functions_of_exact_tensors_that_round_are_enclosed():
    """0.1 · 3 is rounded although it does not depend on the state."""
    values = random_set(Draw(0), (1, 1), 0.0)

    def step(x):
        third = torch.tensor([[0.1]], dtype=torch.float64) * 3.0
        return 0.0 * x + third

    assert run(step, values).box.item() >= 0.1 * 3.0 - 0.3 > 0.0


@pytest.mark.parametrize("turned", [False, True])
def test_the_rounding_of_computed_weights_is_enclosed(turned):
    """(10⁸ + 0.3) − 10⁸ is 0.3 in exact arithmetic."""
    values = random_set(Draw(0), (1, 2), 0.0)

    def step(x):
        weight = (torch.full((2, 2), 0.3, dtype=torch.float64) + 1e8) - 1e8
        return (weight @ x[..., None])[..., 0] if turned else nn.functional.linear(x, weight)

    found = run(step, values)
    exact = 0.3 * values.centre.sum(1)
    missed = (found.centre - exact[:, None]).abs()
    assert (missed > 1e-10).all()
    assert (missed <= found.spread).all()


def test_functions_of_exact_tensors_that_do_not_round_stay_exact():
    values = random_set(Draw(0), (1, 4), 0.1)

    def step(x):
        table = torch.arange(8.0, dtype=torch.float64).reshape(2, 4)
        index = torch.tensor([1])
        return x + table.index_select(0, index + 0).clamp(max=6.0)

    assert torch.equal(run(step, values).centre, values.centre + torch.tensor([4.0, 5.0, 6.0, 6.0]))


def test_quotients_of_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="whole numbers"):
        run(lambda x: x * (torch.tensor(1) / torch.tensor(3)))


def test_a_set_that_becomes_unbounded_says_where():
    with pytest.raises(Unbounded, match="rsqrt"):
        run(torch.rsqrt)


def test_modules_run_as_they_are():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.SiLU(), nn.Linear(8, 4)).double()
    values = random_set(Draw(1), (1, 4), 0.01)
    assert torch.allclose(run(module, values).centre, module(values.centre), rtol=0, atol=1e-15)

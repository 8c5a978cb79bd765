"""Classes of one's own: read where they are chains of supported modules, else refused by name."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from sdewm.certificates.certificate import certify
from sdewm.certificates.layers import Residual

F64 = torch.float64
BOX = (-torch.ones(3), torch.ones(3))


def filled(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape, generator=generator).to(weight) / 2
    return module.double()


def perceptron():
    return nn.Sequential(nn.Linear(3, 5), nn.Mish(), nn.Linear(5, 3), nn.Tanh())


class Named(nn.Sequential):
    """A sequence with a constructor of its own."""

    def __init__(self):
        super().__init__(*perceptron())


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = perceptron()

    def forward(self, x):
        return self.net(x)


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(perceptron())

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 5), Wide(5, 3)

    def forward(self, x):
        return torch.tanh(self.second(functional.mish(self.first(x))))


class Wide(nn.Linear):
    """A linear layer with other weights at the start."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        nn.init.zeros_(self.bias)


@pytest.mark.parametrize("kind", [Named, Wrapper, Listed, Functional])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_containers_of_ones_own_have_the_certificate_of_the_sequence(kind, dtype):
    expected = certify(filled(perceptron()).to(dtype), BOX)
    found = certify(nn.Sequential(filled(kind()).to(dtype)), BOX)
    for name in ("lipschitz_2", "curvature_2", "log_norm_2"):
        assert getattr(found, name) == getattr(expected, name)
    assert torch.equal(found.output[0], expected.output[0])


class Skip(nn.Module):
    def __init__(self, add):
        super().__init__()
        self.add, self.inner, self.last = add, Wrapper(), nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.add(x, self.inner(x)))


@pytest.mark.parametrize("add", [torch.add, lambda x, y: x + y, lambda x, y: y + x])
def test_a_sum_with_an_earlier_result_is_a_residual(add):
    found, plain = filled(Skip(add)), filled(Skip(add))
    expected = nn.Sequential(Residual(plain.inner.net), plain.last)
    assert certify(found).lipschitz_2 == certify(expected).lipschitz_2
    assert certify(found).lipschitz_2 != certify(nn.Sequential(plain.inner, plain.last)).lipschitz_2


@pytest.mark.parametrize(
    ("made", "module"),
    [
        (torch.sigmoid, nn.Sigmoid()),
        (torch.relu, nn.ReLU()),
        (lambda x: x.tanh(), nn.Tanh()),
        (functional.silu, nn.SiLU()),
        (functional.sigmoid, nn.Sigmoid()),
        (functools.partial(functional.elu, alpha=0.5), nn.ELU(0.5)),
        (lambda x: functional.softplus(x, 2.0, 18.0), nn.Softplus(2.0, 18.0)),
        (functools.partial(functional.gelu, approximate="tanh"), nn.GELU("tanh")),
    ],
)
def test_functions_are_read_as_the_modules_that_they_are(made, module):
    class Own(nn.Module):
        def forward(self, x):
            return made(x)

    found, expected = certify(Own(), BOX), certify(module, BOX)
    for name in ("lipschitz_2", "curvature_2", "lipschitz_inf"):
        assert getattr(found, name) == getattr(expected, name)
    assert torch.equal(found.output[1], expected.output[1])


def forward_of(function, base=nn.Module):
    """A class with this forward and a linear layer `inner`."""

    class Own(base):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)
            self.scale = nn.Parameter(torch.ones(3))

        forward = function

    return filled(Own())


def input_is_changed(self, x):
    x += self.inner(x)
    return torch.tanh(x)


def large_is_doubled(self, x):
    if isinstance(x, torch.Tensor) and float(x.abs().max()) > 1e6:
        return 2 * self.inner(x)
    return self.inner(x)


def tensors_are_doubled(self, x):
    y = self.inner(x)
    return torch.tanh(y) if isinstance(x, torch.Tensor) else torch.sigmoid(y)


REFUSED = {
    "a product": (lambda self, x: self.inner(x) * self.scale, "it calls mul|not take the result"),
    "a parameter": (
        lambda self, x: self.inner(x) + self.scale,
        "self.scale does not take the result",
    ),
    "twice itself": (lambda self, x: x + x, "no sum of the last result"),
    "two branches": (
        lambda self, x: torch.tanh(self.inner(x)) + torch.sigmoid(self.inner(x)),
        "does not take the result of the operation before it",
    ),
    "a branch on values": (
        lambda self, x: self.inner(x) if x.sum() > 0 else x,
        "torch.fx cannot record its forward",
    ),
    "a hidden branch on values": (large_is_doubled, "its forward depends on values"),
    "a look at the type": (tensors_are_doubled, "other values than what torch.fx records"),
    "other functions": (lambda self, x: torch.sin(self.inner(x)), "it calls sin"),
    "its input in place": (input_is_changed, "it changes its input in place"),
    "in place": (lambda self, x: functional.silu(x, inplace=True), "it calls silu with arguments"),
    "two arguments": (lambda self, x, y=None: self.inner(x), "takes more than one argument"),
    "an earlier result": (
        lambda self, x: (self.inner(x), x)[1],
        "does not return the result of its last operation",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_forward_that_is_no_chain_is_refused_with_the_reason(name):
    function, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason) as caught:
        certify(nn.Sequential(nn.Linear(3, 3), forward_of(function)))
    assert f"module.1={__name__}.forward_of.<locals>.Own is not supported" in str(caught.value)


def test_a_subclass_with_a_forward_or_another_method_of_its_own_is_not_taken_for_its_base():
    class Doubled(nn.Tanh):
        def forward(self, x):
            return 2 * super().forward(x)

    class Called(nn.Tanh):
        def __call__(self, x):
            return 2 * x

    class Reversed(nn.Sequential):
        def __iter__(self):
            return iter(reversed([*self._modules.values()]))

    for module in (Doubled(), Called()):
        with pytest.raises(ValueError, match=f"{type(module).__name__} is not supported"):
            certify(module, BOX)
    backwards = filled(Reversed(nn.Linear(3, 3), nn.Tanh()))
    expected = certify(nn.Sequential(nn.Tanh(), backwards[0]), BOX)
    assert certify(backwards, BOX).output[1].tolist() == expected.output[1].tolist()


def test_an_activation_in_place_inside_a_residual_is_refused():
    network = Residual(nn.Sequential(nn.SiLU(inplace=True), nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="inplace=True inside, which changes the input"):
        certify(network)


def test_the_place_of_what_is_refused_is_named():
    network = nn.Sequential(Wrapper(), Residual(nn.Sequential(nn.Linear(3, 3), nn.Dropout())))
    with pytest.raises(ValueError, match=r"module\.1\.inner\.1=torch\.nn\.Dropout is not .*eval"):
        certify(network)
    wrapper = Wrapper()
    wrapper.net[1] = nn.Hardtanh()
    with pytest.raises(ValueError, match=r"module\.0\.net\.1=torch\.nn\.Hardtanh is not"):
        certify(nn.Sequential(wrapper))

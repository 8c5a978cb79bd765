"""Certificates: above every attack, below the global ones, equal where equality holds."""

import math

import pytest
import torch
from torch import nn

import sdewm
from sdewm.base.taylor import fuse, second_order
from sdewm.certificates import activations, layers, modules
from sdewm.certificates.activations import Activation
from sdewm.certificates.attack import LowerBounds
from sdewm.certificates.layers import Residual
from tests.certificates.random_networks import Draw, cases, perceptron, values

NAMES = tuple(LowerBounds.__dataclass_fields__)
UPPER = (*NAMES, "log_norm_inf")


def beaten(certificate: sdewm.Certificate, lower: LowerBounds) -> list[str]:
    """Constants below what the attack found."""
    pairs = {name: (getattr(certificate, name), getattr(lower, name)) for name in NAMES}
    return [name for name, (up, low) in pairs.items() if None not in (up, low) and not up >= low]


def inside(tensor: torch.Tensor, box: tuple[torch.Tensor, torch.Tensor] | None) -> bool:
    assert box is not None
    return bool(((tensor >= box[0]) & (tensor <= box[1])).all())


@pytest.mark.parametrize("block", range(10))
def test_networks_are_never_above_their_certificates(block):
    for number, (module, region) in enumerate(cases(30 * block, 30 * block + 30)):
        certificate = sdewm.certify(module, region)
        lower = certificate.attack(seed=number, starts=8, steps=5 if number % 5 == 0 else 0)
        assert not beaten(certificate, lower), (block, number)
        assert certificate.target is not None and certificate.region is not None
        points = certificate.target.points(20, torch.Generator().manual_seed(number))
        assert inside(values(module, points), certificate.output), (block, number)
        jacobians = certificate.target.jacobians(points)
        # Automatic differentiation rounds; the enclosure of a linear map has no width.
        rounding = 1e-13 * (1 + jacobians.abs().amax())
        assert certificate.jacobian is not None
        low, high = certificate.jacobian
        assert inside(jacobians, (low - rounding, high + rounding)), (block, number)


@pytest.mark.parametrize("size", [1, 3])
def test_an_attack_on_a_contraction_finds_its_negative_logarithmic_norm(size):
    module = torch.nn.Linear(size, size).double()
    with torch.no_grad():
        module.weight.copy_(-0.02 * torch.eye(size))
    for seed in range(20):
        found = sdewm.certify(module).attack(seed=seed, starts=8, steps=5)
        assert found.log_norm_2 == pytest.approx(-0.02)


def test_global_certificates_are_above_the_attack_and_above_the_regional_ones():
    for number, (module, region) in enumerate(cases(2000, 2060)):
        globally, locally = sdewm.certify(module), sdewm.certify(module, region)
        assert not beaten(globally, globally.attack(starts=16, steps=0)), number
        for name in UPPER:
            if (bound := getattr(globally, name)) is not None:
                assert getattr(locally, name) <= bound, (number, name)


def lowered(activation: Activation) -> Activation:
    """The same function with slopes and bends said to be smaller by 30 %."""

    class Lowered(Activation):
        def slope_range(self, box):
            found = super().slope_range(box)
            return type(found)(found.lower, 0.7 * found.upper)

        def bend_bound(self, box):
            return 0.7 * super().bend_bound(box)

    names = activation.__dataclass_fields__
    return Lowered(**{name: getattr(activation, name) for name in names})


@pytest.mark.parametrize("what", ["activation", "norm"])
def test_attack_beats_certificates_that_are_wrong(what, monkeypatch):
    if what == "activation":
        monkeypatch.setitem(modules.ACTIVATIONS, nn.Tanh, lambda module: lowered(activations.TANH))
    else:
        true = layers.spectral_norm
        monkeypatch.setattr(layers, "spectral_norm", lambda matrix: 0.5 * true(matrix))
        loose = "sdewm.certificates.derivative_enclosure.spectral_norm"
        monkeypatch.setattr(loose, lambda *a: math.inf)
    found = set()
    for seed in range(20):
        draw = Draw(seed)
        narrow = nn.Sequential(draw.linear(2, 2), nn.Tanh(), draw.linear(2, 2))
        zero = torch.zeros(2, dtype=torch.float64)
        certificate = sdewm.certify(narrow, (zero - 2, zero + 2))
        found.update(beaten(certificate, certificate.attack(starts=16, steps=20)))
    assert "lipschitz_2" in found
    assert what == "norm" or {"curvature_2", "curvature_inf", "lipschitz_inf"} <= found


def orthogonal(size: int, seed: int) -> nn.Linear:
    layer = nn.Linear(size, size, dtype=torch.float64)
    layer.weight.data = torch.linalg.qr(Draw(seed).normal(size, size))[0]
    return layer


def test_linear_maps_and_orthogonal_products_are_certified_exactly():
    linear = Draw(3).linear(7, 7)
    weight = linear.weight.detach()
    certificate = sdewm.certify(linear)
    exact = {
        "lipschitz_2": float(torch.linalg.matrix_norm(weight, 2)),
        "lipschitz_inf": float(weight.abs().sum(dim=1).max()),
        "log_norm_2": float(torch.linalg.eigvalsh((weight + weight.T) / 2)[-1]),
    }
    for name, value in exact.items():
        assert 0.0 <= getattr(certificate, name) - value < 1e-9 * value
        assert getattr(certificate, name) / getattr(certificate.lower, name) < 1 + 1e-9
    assert certificate.curvature_2 == certificate.curvature_inf == 0.0
    product = nn.Sequential(*(orthogonal(6, seed) for seed in range(4)))
    assert 1.0 <= sdewm.certify(product).lipschitz_2 < 1 + 1e-9


def test_log_norm_of_a_contracting_drift_is_negative_and_exact_at_one_unit():
    inner = nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1)).double()
    for parameter, value in zip(inner.parameters(), (1.0, 0.0, -0.5, 0.0), strict=True):
        parameter.data.fill_(value)
    box = torch.ones(1, dtype=torch.float64)
    certificate = sdewm.certify(Residual(inner), (-box, box))
    slope = 1 - math.tanh(1.0) ** 2
    assert certificate.log_norm_2 == pytest.approx(1 - 0.5 * slope, rel=1e-9)
    assert certificate.log_norm_inf == pytest.approx(1 - 0.5 * slope, rel=1e-9)
    assert sdewm.certify(inner, (-box, box)).log_norm_2 == pytest.approx(-0.5 * slope, rel=1e-9)


def test_constants_shrink_with_the_box_to_the_norms_at_its_centre():
    draw = Draw(5)
    tanh = nn.Sequential(draw.linear(4, 16), nn.Tanh(), draw.linear(16, 16), nn.SiLU())
    network = tanh.append(draw.linear(16, 4))
    centre = draw.normal(4)
    found = []
    for width in (1.0, 0.3, 0.1, 0.01, 1e-3, 1e-6):
        found.append(sdewm.certify(network, (centre - width, centre + width)))
    for wide, narrow in zip(found, found[1:], strict=False):
        for name in UPPER:
            assert getattr(narrow, name) < getattr(wide, name)
    assert found[-1].target is not None
    jacobian = found[-1].target.jacobians(centre[None])[0]
    assert found[-1].lipschitz_2 == pytest.approx(
        float(torch.linalg.matrix_norm(jacobian, 2)), rel=1e-4
    )
    assert found[-1].lipschitz_inf == pytest.approx(float(jacobian.abs().sum(1).max()), rel=1e-4)
    top = float(torch.linalg.eigvalsh((jacobian + jacobian.T) / 2)[-1])
    assert found[-1].log_norm_2 == pytest.approx(top, rel=1e-4)


def test_taylor_arithmetic_of_the_layers_is_nested_forward_mode_of_the_recorded_module():
    """Recorded first: of layer_norm itself torch computes a wrong second derivative."""
    for seed in range(12):
        draw = Draw(1000 + seed)
        module, size = perceptron(draw)
        x, y = draw.normal(3, size), draw.normal(3, size)
        nothing = torch.zeros_like(x)
        plain = fuse(lambda x, module=module: (module(x),), (x,))
        kinds = {type(part) for part in module.modules()}
        if {nn.LayerNorm, nn.RMSNorm} <= kinds:  # torch cannot record the latter
            continue
        value, first, second = second_order(plain, (x,), [(y,)], {(0, 0): (nothing,)})
        target = sdewm.certify(module).target
        assert target is not None
        found = target.taylor(x, y, nothing)
        for mine, theirs in zip(found, (value[0], first[0][0], second[0, 0][0]), strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-9), seed


def test_float32_modules_are_read_exactly():
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))
    single, double = sdewm.certify(module), sdewm.certify(module.double())
    assert single.lipschitz_2 == double.lipschitz_2
    assert single.log_norm_2 == double.log_norm_2


def test_table_shows_upper_lower_and_ratio_and_computes_the_attack_once():
    certificate = sdewm.certify(nn.Sequential(Draw(0).linear(2, 3), nn.Softplus()))
    lines = str(certificate).splitlines()
    assert lines[0].split() == "constant proven upper attacked lower ratio".split()
    assert [line.split()[0] for line in lines[1:]] == list(NAMES[:4])  # 2 to 3: no logarithmic norm
    name, upper, lower, ratio = lines[1].split()
    assert float(upper) / float(lower) == pytest.approx(float(ratio), rel=1e-3)
    assert certificate.lower is certificate.lower


def test_kinks_have_infinite_curvature_unless_the_region_keeps_off():
    for kind in (nn.ELU, nn.ReLU):
        module = nn.Sequential(orthogonal(2, 0), kind())
        certificate = sdewm.certify(module)
        assert certificate.curvature_2 == certificate.curvature_inf == math.inf
        assert certificate.lipschitz_2 == pytest.approx(1.0, rel=1e-9)
        bias = torch.full((2,), 5.0, dtype=torch.float64)
        module[0].bias.data = bias
        box = torch.ones(2, dtype=torch.float64)
        assert sdewm.certify(module, (-box, box)).curvature_2 < 1e-9


REFUSED = {
    "Dropout": (nn.Sequential(nn.Linear(2, 2), nn.Dropout()), "identity in eval mode"),
    "Conv1d": (nn.Conv1d(1, 1, 1), "supported are Linear"),
    "BatchNorm1d": (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "GRUCell"),
    "LSTMCell": (nn.LSTMCell(2, 2), "supported are"),
    "GRUCell": (nn.Sequential(nn.GRUCell(2, 2)), "by itself"),
    "LayerNorm": (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm((2, 2))), "last dimension"),
    "RMSNorm": (nn.RMSNorm(2, eps=0.0), "positive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_modules_are_refused_by_name(name):
    module, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        sdewm.certify(module)
    assert name in str(caught.value)


def test_subclasses_are_refused_since_they_may_compute_something_else():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(ValueError, match="Doubled is not supported"):
        sdewm.certify(Doubled(2, 2))


BOX = torch.ones(2)
REGIONS = {
    "a pair": (BOX, "expected a pair"),
    "length": ((BOX, torch.ones(3)), r"high is \(3,\); expected a tensor \(2,\)"),
    "a number": ((0.0, 1.0), "low is float"),
    "order": ((BOX, -BOX), "low <= high"),
    "nan": ((BOX, BOX * math.nan), "low <= high"),
    "infinite": ((BOX * math.inf, BOX * math.inf), "low < inf"),
}


@pytest.mark.parametrize("name", REGIONS)
def test_bad_regions_are_refused(name):
    region, words = REGIONS[name]
    with pytest.raises(ValueError, match=words):
        sdewm.certify(nn.Linear(2, 2), region)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="does not determine its number of inputs"):
        sdewm.certify(nn.Tanh())
    broken = nn.Linear(2, 2)
    broken.weight.data[0, 0] = math.inf
    with pytest.raises(ValueError, match="parameter weight of Linear is not finite"):
        sdewm.certify(broken)
    with pytest.raises(ValueError, match="steps=-1"):
        sdewm.certify(nn.Linear(2, 2)).attack(steps=-1)


@pytest.mark.parametrize("sizes", [(1e-170, 1e200), (1e200, 1e-170), (1e-160, 1e-3), (1e160, 1.0)])
def test_the_slope_of_weights_whose_squares_vanish_or_overflow(sizes):
    """v tanh(w x) has the slope v w at 0; half of it was proven for v = 1e-170, w = 1e200."""
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1, bias=False))
    network.double()
    network[2].weight.data.fill_(sizes[0])
    network[0].weight.data.fill_(sizes[1])
    found = sdewm.certify(network)
    assert found.log_norm_2 is not None and found.log_norm_inf is not None
    for bound in (found.lipschitz_2, found.lipschitz_inf, found.log_norm_2, found.log_norm_inf):
        assert 1.0 <= bound / sizes[0] / sizes[1] < 1.0 + 1e-9


def test_formulas_that_exceed_all_numbers_give_infinity():
    """Not nan, which compares with nothing, and no failure of a solver."""
    cell = nn.GRUCell(2, 2, dtype=torch.float64)
    cell.weight_hh.data *= 1e200
    assert sdewm.certify(cell).lipschitz_inf == math.inf
    huge = 1e200 * torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=torch.float64)
    for middle in (nn.Tanh(), nn.ReLU(), nn.LayerNorm(2).double()):
        network = nn.Sequential(nn.Linear(2, 2), middle, nn.Linear(2, 2)).double()
        network[0].weight.data, network[2].weight.data = huge, huge
        found = sdewm.certify(network)
        assert {getattr(found, name) for name in UPPER} == {math.inf}


def test_a_box_of_the_largest_numbers_has_outputs():
    box = torch.full((2,), 1.7e308, dtype=torch.float64)
    draw = Draw(0)
    network = nn.Sequential(draw.linear(2, 4), nn.Tanh(), draw.linear(4, 2))
    found = sdewm.certify(network, (-box, box))
    assert found.output is not None and bool(torch.isfinite(torch.stack(found.output)).all())
    assert inside(values(network, torch.stack([box, -box])), found.output)

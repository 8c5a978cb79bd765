"""Which modules are refused, and that a certificate is one of the weights as they are."""

import math

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from sdewm.certificates.certificate import certify, checksum
from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.certificates.layers import Residual
from sdewm.certificates.network_system import NetworkSystem
from sdewm.certificates.norms import spectral_norm

F64 = torch.float64


def test_what_is_no_module_is_refused():
    for given in (None, torch.tanh):
        with pytest.raises(ValueError, match="expected a torch.nn.Module"):
            certify(given)  # type: ignore[arg-type]


def test_hooks_and_replaced_forwards_are_refused():
    def wrapped(change):
        network = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        change(network[0])
        return network

    changes = (
        lambda layer: layer.register_forward_hook(lambda module, given, out: 100 * out),
        lambda layer: layer.register_forward_pre_hook(lambda module, given: None),
        lambda layer: setattr(layer, "forward", lambda x: 100 * x),
    )
    for change in changes:
        with pytest.raises(ValueError, match=r"0 \(Linear\) has forward hooks or a replaced"):
            certify(wrapped(change))
    cell = nn.GRUCell(1, 2)
    changes[0](cell)
    with pytest.raises(ValueError, match=r"module \(GRUCell\) has forward hooks"):
        certify(cell)
    network = wrapped(lambda layer: None)
    for register in (
        lambda: register_module_forward_hook(lambda module, given, out: 100 * out),
        lambda: register_module_forward_pre_hook(lambda module, given: None),
    ):
        hook = register()
        try:
            for module in (network, nn.GRUCell(1, 2)):
                with pytest.raises(ValueError, match="forward hooks of all modules"):
                    certify(module)
        finally:
            hook.remove()
    assert certify(network).lipschitz_2 > 0


def test_parameters_without_finite_real_values_are_refused():
    cell = nn.GRUCell(1, 2)
    cell.weight_hh.data[0, 0] = torch.nan
    for module in (cell, nn.Linear(2, 2, dtype=torch.complex64)):
        with pytest.raises(ValueError, match="not finite or not of a real"):
            certify(module)
    with pytest.raises(ValueError, match="parameter weight of Linear is uninitialised"):
        certify(nn.Linear(2, 2, device="meta"))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a layer with 4 inputs receives 8 values"):
        certify(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(4, 2)))
    with pytest.raises(ValueError, match="a layer with 3 inputs receives 2 values"):
        certify(nn.Sequential(nn.Tanh(), nn.Linear(3, 2), nn.LayerNorm(3)))
    with pytest.raises(ValueError, match="a Residual maps 3 values to 2"):
        certify(Residual(nn.Linear(3, 2)))
    inner = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))
    assert certify(nn.Sequential(Residual(inner), nn.Linear(3, 1))).log_norm_2 is None


def test_a_normalisation_whose_floor_depends_on_its_input_is_refused():
    with pytest.raises(ValueError, match="RMSNorm with eps=None and no weight"):
        certify(nn.RMSNorm(3, elementwise_affine=False))
    set_to = certify(nn.RMSNorm(3, eps=1e-4, elementwise_affine=False))
    assert set_to.lipschitz_2 == pytest.approx(100.0)


def test_a_softplus_that_jumps_is_refused():
    for options in ({"threshold": 1.0}, {"beta": -1.0}, {"beta": 0.0}):
        with pytest.raises(ValueError, match="expected beta > 0 and threshold >= 15"):
            certify(nn.Sequential(nn.Linear(1, 1), nn.Softplus(**options)))
    assert certify(nn.Sequential(nn.Linear(1, 1), nn.Softplus(2.0, 15.0))).lipschitz_2 > 0


def test_a_softplus_whose_exponential_overflows_and_an_elu_without_a_slope_are_refused():
    """softplus(750) of a threshold of 2000 is inf in torch."""
    for options in ({"threshold": 2000.0}, {"beta": math.inf}, {"threshold": math.nan}):
        with pytest.raises(ValueError, match="both finite, and threshold <= 700"):
            certify(nn.Sequential(nn.Linear(1, 1), nn.Softplus(**options)))
    for alpha in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"ELU with alpha={alpha}: expected a finite number"):
            certify(nn.Sequential(nn.Linear(1, 1), nn.ELU(alpha)))


def test_layers_without_inputs_or_outputs_are_refused():
    narrow = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    narrow[1].weight.data = torch.zeros(0, 3)
    for module in (nn.GRUCell(0, 2), narrow):
        with pytest.raises(ValueError, match="is empty; expected layers with inputs and outputs"):
            certify(module)


def test_a_module_that_comes_twice_counts_twice():
    layer, curve = nn.Linear(3, 3, dtype=F64), nn.Tanh()
    layer.weight.data = 3.0 * torch.eye(3, dtype=F64)
    for inner in (nn.Sequential(layer, layer), nn.Sequential(nn.Sequential(layer), layer)):
        assert certify(inner).lipschitz_2 == pytest.approx(9.0)
        assert certify(Residual(inner)).lipschitz_2 == pytest.approx(10.0)
    point = torch.ones(3, dtype=F64)
    network = nn.Sequential(layer, curve, layer, curve)
    output = certify(network, (point, point)).output
    assert output is not None
    assert bool((output[0] <= network(point)).all() & (network(point) <= output[1]).all())


def test_norms_of_the_largest_numbers_do_not_fail():
    assert spectral_norm(torch.full((1, 1), 1.5e308, dtype=F64)) >= 1.5e308


def test_certificates_of_systems_follow_the_weights():
    network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    system = NetworkSystem(network, 0.1, torch.zeros(2, dtype=F64))
    before = system.certificate
    assert system.certificate is before
    network[0].weight.data *= 10.0
    assert system.certificate.lipschitz_2 > 2.0 * before.lipschitz_2
    recurrent = RecurrentSystem.like_trained(hidden=3, latent=1)
    first = recurrent.certificates
    assert recurrent.certificates is first
    recurrent.cell.weight_hh.data *= 3.0
    assert recurrent.certificates[0].lipschitz_2 > first[0].lipschitz_2


def test_certificates_of_systems_follow_the_layers():
    """Not the weights alone: an activation, an option of one, a normalisation, a hook."""
    network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.LayerNorm(3), nn.Linear(3, 2)).double()
    system = NetworkSystem(network, 0.1, torch.zeros(2, dtype=F64))

    def read():
        assert system.certificate.lipschitz_2 == certify(network).lipschitz_2
        return system.certificate.lipschitz_2

    found = [read()]
    for change in (
        lambda: network.__setitem__(1, nn.ELU(8.0)),
        lambda: setattr(network[1], "alpha", 20.0),
        lambda: setattr(network[2], "eps", 1e-8),
        lambda: network.__setitem__(2, nn.RMSNorm(3, eps=1e-8).double()),
    ):
        change()
        found.append(read())
    assert len(set(found)) == len(found)
    network[1].register_forward_hook(lambda module, given, out: 100 * out)
    with pytest.raises(ValueError, match="has forward hooks"):
        read()
    recurrent = RecurrentSystem.like_trained(hidden=3, latent=1)
    first = recurrent.certificates[1]
    recurrent.head[1] = nn.ELU(8.0)
    assert recurrent.certificates[1].lipschitz_2 > 2.0 * first.lipschitz_2


def test_a_checksum_is_that_of_all_that_is_read():
    layers = nn.Linear(2, 3), nn.Linear(3, 2)
    networks = (
        nn.Sequential(*layers),
        nn.Sequential(layers[0], nn.Tanh(), layers[1]),
        nn.Sequential(layers[0], nn.Softplus(2.0), layers[1]),
        nn.Sequential(layers[0], nn.Softplus(3.0), layers[1]),
        Residual(nn.Sequential(*layers)),
        nn.GRUCell(2, 3),
        nn.GRUCell(2, 3),
    )
    assert len({checksum(network) for network in networks}) == len(networks)
    assert checksum(nn.Sequential(*layers)) == checksum(networks[0])
    with pytest.raises(ValueError, match="is not supported"):
        checksum(nn.Conv1d(1, 1, 1))


def test_systems_refuse_other_sizes_and_dtypes():
    with pytest.raises(ValueError, match=r"network has parameters of torch.float32.*double\(\)"):
        NetworkSystem(nn.Linear(2, 2), 0.1, torch.zeros(2, dtype=F64))
    cell, head = nn.GRUCell(1, 2, dtype=F64), nn.Linear(2, 1, dtype=F64)
    with pytest.raises(ValueError, match=r"start has shape \(2,\); expected \(R \+ Z,\) = \(3,\)"):
        RecurrentSystem(cell, head, start=torch.zeros(2, dtype=F64))

"""The Itô correction, and the perturbed system."""

import pytest
import torch

import sdewm
from sdewm.sde.examples import EnumerationWorldModel, PearsonDiffusion
from sdewm.theory.expansion.perturbation import PerturbedSystem, ito_correction

STATES = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
T = torch.zeros((), dtype=torch.float64)


class Coupled:
    """Diagonal noise whose size depends on the other components."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return -y

    def g(self, t, y):
        return 1.0 + 0.3 * torch.sin(y).sum(dim=1, keepdim=True) * torch.ones_like(y)


def test_driver_k_moves_component_k_only():
    """For diagonal noise A_k σ̄_k has the single entry ∂_k g_k σ̄_k."""
    error = sdewm.Perturbation(diffusion=lambda t, y: torch.cos(y))
    found = ito_correction(Coupled(), error)(T, STATES)
    torch.testing.assert_close(found, 0.3 * torch.cos(STATES) ** 2)


def test_it_vanishes_for_the_block_structure_and_not_in_general():
    model, pearson = EnumerationWorldModel(), PearsonDiffusion()
    states = model.x0 + 0.3 * torch.arange(5, dtype=torch.float64)[:, None]
    error = sdewm.Perturbation(diffusion=model.error_diffusion)
    assert float(ito_correction(model, error)(T, states).abs().max()) == 0.0
    error = sdewm.Perturbation(diffusion=pearson.error_diffusion)
    assert float(ito_correction(pearson, error)(T, STATES[:, :1]).abs().max()) > 0.01


def test_an_error_with_its_own_driver_has_none():
    error = sdewm.Perturbation(diffusion=lambda t, y: y, driver="independent")
    with pytest.raises(ValueError, match="driver 'same'"):
        ito_correction(Coupled(), error)


def test_the_perturbed_step_is_affine_in_both_sizes():
    model = EnumerationWorldModel()
    error = sdewm.Perturbation(model.error_drift, model.independent_error_diffusion, "independent")
    states = model.x0 + 0.1 * torch.arange(4, dtype=torch.float64)[:, None]
    v = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def step(d, n):
        parts = PerturbedSystem(model, error, 3, d, n).f_and_g_prod(T, states, v)
        return torch.stack(parts)

    mixed = step(0.3, 0.7) - step(0.3, 0.0) - step(0.0, 0.7) + step(0.0, 0.0)
    torch.testing.assert_close(mixed, torch.zeros_like(mixed), rtol=0, atol=1e-15)
    drift, noise = step(1.0, 1.0) - step(0.0, 0.0)
    torch.testing.assert_close(drift, model.error_drift(T, states))
    expected = model.independent_error_diffusion(T, states)[:, :, 0] * v[:, 3:]
    torch.testing.assert_close(noise, expected)


@pytest.mark.parametrize("driver", ["same", "independent"])
@pytest.mark.parametrize("moves", [False, True])
def test_the_loss_is_even_in_an_error_without_drift_on_its_own_driver_alone(moves, driver):
    error = sdewm.Perturbation(
        drift=(lambda t, y: y) if moves else None, diffusion=lambda t, y: y, driver=driver
    )
    assert error.is_even == (not moves and driver == "independent")


def scaled(factor):
    """An error whose product with increments is `factor` times that of its diffusion."""
    model = EnumerationWorldModel()

    def product(t, y, v):
        return factor * torch.einsum("bdm,bm->bd", model.error_diffusion(t, y), v)

    return model, sdewm.Perturbation(
        model.error_drift, model.error_diffusion, diffusion_product=product
    )


def test_a_product_takes_the_place_of_the_diffusion_and_gives_the_same_expansion():
    model, error = scaled(1.0)
    plain = sdewm.Perturbation(model.error_drift, model.error_diffusion)
    grid = {"t1": 1.0, "steps": 4, "increments": "enumerate"}
    found, expected = (
        sdewm.expand(model, one, model.loss, model.x0, **grid) for one in (error, plain)
    )
    for name, estimate in expected.terms.items():
        assert found.terms[name].value == pytest.approx(estimate.value, rel=1e-12, abs=1e-14)
    states = model.x0.expand(4, -1)
    seen = []
    watched = sdewm.Perturbation(
        diffusion=lambda t, y: seen.append(t) or model.error_diffusion(t, y),
        diffusion_product=error.diffusion_product,
    )
    PerturbedSystem(model, watched, 3, 0.0, 1.0).f_and_g_prod(T, states, torch.ones(4, 3).double())
    assert not seen


def test_a_product_that_is_not_that_of_the_diffusion_is_refused():
    model, wrong = scaled(1.001)
    with pytest.raises(ValueError, match=r"error\.diffusion_product at t = 0 differs"):
        sdewm.expand(model, wrong, model.loss, model.x0, t1=1.0, steps=4, paths=8)
    product = wrong.diffusion_product
    for settings in ({}, {"diffusion": model.error_diffusion, "driver": "independent"}):
        with pytest.raises(ValueError, match="diffusion_product: expected with it the diffusion"):
            sdewm.Perturbation(model.error_drift, diffusion_product=product, **settings)
    with pytest.raises(ValueError, match="diffusion_product=3: expected a function"):
        sdewm.Perturbation(diffusion=model.error_diffusion, diffusion_product=3)

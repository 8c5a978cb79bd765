"""O8: enumeration of every sign pattern, and its formulas as blocks of a LatentWorldModel."""

import itertools
import math

import pytest
import torch

from sdewm.sde.examples import EnumerationWorldModel
from sdewm.sde.world_model_sde import ClosedLoopTaskState, LatentWorldModel


def enumerated_loss(sizes, steps, driver):
    """E L of the O8 scheme with increments +-sqrt(step), averaged over every sign pattern."""
    case = EnumerationWorldModel()
    step = case.t1 / steps
    drivers = 3 if driver == "same" else 4
    signs = torch.tensor(
        list(itertools.product((-1.0, 1.0), repeat=drivers * steps)), dtype=torch.float64
    )
    increments = signs.reshape(-1, steps, drivers) * math.sqrt(step)
    x = case.x0.expand(len(signs), 5)
    for n in range(steps):
        t = torch.tensor(n * step)
        noise = case.g(t, x)
        if driver == "same":
            noise = noise + sizes[1] * case.error_diffusion(t, x)
        else:
            noise = torch.cat([noise, sizes[1] * case.independent_error_diffusion(t, x)], dim=2)
        drift = case.f(t, x) + sizes[0] * case.error_drift(t, x)
        x = x + step * drift + (noise * increments[:, n, None, :]).sum(dim=2)
    return case.loss(x).mean()


@pytest.mark.parametrize(
    ("driver", "steps", "expected"),
    [
        ("same", 4, (0.3741174005, 0.115886893, 0.0287855953, 0.144672488, 0.080056486,
                     0.000547290846 + 0.141440733 / 2)),
        ("independent", 3, (0.3769343455, 0.0, 0.0292507986, 0.0292507986, 0.0801941046,
                            -2.12788e-05 + 0.15143983 / 2)),
    ],
)  # fmt: skip
def test_enumeration_world_model_has_the_tabulated_derivatives(driver, steps, expected):
    def loss(sizes):
        return enumerated_loss(sizes, steps, driver)

    origin = torch.zeros(2, dtype=torch.float64)
    gradient = torch.func.jacrev(loss)(origin)
    hessian = torch.func.jacrev(torch.func.jacrev(loss))(origin)
    found = [
        loss(origin),
        gradient[1],
        gradient[0],
        gradient.sum(),
        hessian.sum() / 2,
        hessian[1, 1] / 2,
    ]
    assert [float(value) for value in found] == pytest.approx(expected, rel=3e-9, abs=1e-10)


def test_enumeration_world_model_has_the_tabulated_losses_at_finite_size():
    for epsilon, expected in ((0.1, 0.3893856754), (-0.1, 0.3604501928)):
        assert float(enumerated_loss((epsilon, epsilon), 4, "same")) == pytest.approx(
            expected, abs=1e-10
        )


def enumeration_blocks(task_state):
    """The formulas of O8 as blocks; s is the time."""
    return dict(
        z_size=1,
        h_size=1,
        z_tilde_size=1,
        s_tilde_size=1,
        encoder=lambda h, s: torch.tanh(1.1 * h + torch.sin(s)),
        sequence=lambda h, z, a: -0.6 * h + torch.tanh(0.9 * z + 0.4 * h + a),
        predictor=lambda h: 0.8 * torch.sin(h),
        decoder=lambda h, z_tilde: torch.tanh(z_tilde + h / 2),
        policy=lambda h, z: 0.5 * torch.tanh(z - h),
        encoder_diffusion=lambda h, s: 0.3 + 0.1 * torch.cos(h),
        predictor_diffusion=lambda h: 0.25 + 0.1 * torch.sin(h),
        decoder_diffusion=lambda h, z_tilde: torch.full_like(h, 0.1),
        task_state=task_state,
        encoder_relaxation_time=1.0,
    )


def test_enumeration_world_model_is_a_latent_world_model():
    case = EnumerationWorldModel()
    forced = LatentWorldModel(**enumeration_blocks(lambda t: t.reshape(1)))
    clock = ClosedLoopTaskState(1, lambda s, a: torch.ones_like(s))
    closed = LatentWorldModel(**enumeration_blocks(clock))
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(closed.f(torch.tensor(0.0), y), case.f(torch.tensor(0.0), y))
    torch.testing.assert_close(closed.g(torch.tensor(0.0), y), case.g(torch.tensor(0.0), y))
    for time in (0.0, 0.4, 1.1):
        t = torch.tensor(time, dtype=torch.float64)
        y[:, 4] = t
        torch.testing.assert_close(forced.f(t, y[:, :4]), case.f(t, y)[:, :4])
        torch.testing.assert_close(forced.g(t, y[:, :4]), case.g(t, y)[:, :4])
    assert not torch.allclose(forced.f(torch.tensor(0.0), y[:, :4]), case.f(t, y)[:, :4])

    def sigma(h, s):
        return 0.4 * torch.sin(h + 0.3)

    def sigma_bar(h, s):
        return 0.5 + 0.2 * torch.tanh(h)

    error_drift = closed.latent_error_drift(sigma)
    same = closed.latent_error_diffusion(sigma_bar)
    own = closed.latent_error_diffusion(sigma_bar, driver="independent")
    torch.testing.assert_close(error_drift(t, y), case.error_drift(t, y))
    torch.testing.assert_close(same(t, y), case.error_diffusion(t, y))
    torch.testing.assert_close(own(t, y), case.independent_error_diffusion(t, y))

"""A recurrent world model at its native step: equal to torch's own, with proven rates."""

import math

import pytest
import torch
from torch import nn

from sdewm.base.taylor import second_order
from sdewm.certificates.gru_system import RecurrentSystem, gru
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import CertifiedSystem
from sdewm.sde.solve import solve_path
from sdewm.sde.system import StepSystem, check_protocol
from sdewm.theory.bounds.jacobian_rates import jacobian_rates

F64 = {"dtype": torch.float64}
ZERO = torch.zeros(())


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, **F64, generator=generator)


def model(action=None, noise=0.2, seed=0):
    torch.manual_seed(seed)
    actions = 0 if action is None else len(action)
    cell = nn.GRUCell(2 + actions, 5, **F64).requires_grad_(False)
    head = nn.Sequential(nn.Linear(5, 6, **F64), nn.Tanh(), nn.Linear(6, 2, **F64))
    start = torch.cat((0.9 * torch.tanh(draw(5, seed=1)), draw(2, seed=2)))
    return RecurrentSystem(
        cell, head.requires_grad_(False), noise=noise, action=action, start=start
    )


def states_of(system, count, seed=0, spread=2.0):
    """States with |h|_∞ ≤ 1 and z wide."""
    hidden = system.blocks["h"].stop
    return torch.cat(
        (
            2 * torch.rand(count, hidden, **F64, generator=torch.Generator().manual_seed(seed)) - 1,
            spread * draw(count, system.state_size - hidden, seed=seed + 1),
        ),
        dim=1,
    )


def rates_of(system, step_size=1.0, start=None):
    start = system.x0 if start is None else start
    return system.certified_rates(start, start, step_size, list(system.blocks.values()))


@pytest.mark.parametrize("action", [None, torch.tensor([0.3, -1.2, 0.5], **F64)])
def test_a_native_step_is_the_models_own(action):
    system = model(action)
    states, noise = states_of(system, 7), GaussianNoise(drivers=2, steps=1, t1=1.0)
    with torch.no_grad():
        after = solve_path(system, states, noise)[:, 0]
    h, z = states[:, :5], states[:, 5:]
    given = z if action is None else torch.cat((z, action.expand(7, 3)), dim=1)
    hidden = system.cell(given, h)
    latent = system.head(hidden) + 0.2 * noise.increments(0, 7)[0]
    torch.testing.assert_close(after, torch.cat((hidden, latent), 1), rtol=1e-13, atol=1e-14)
    still = model(None if action is None else 0 * action)
    assert action is None or not torch.allclose(still.f(ZERO, states), system.f(ZERO, states))


@pytest.mark.parametrize("seed", range(3))
def test_the_cell_in_elementary_operations_is_torchs(seed):
    torch.manual_seed(seed)
    cell = nn.GRUCell(3, 5, **F64)
    x, h = 3 * draw(20, 3, seed=seed), draw(20, 5, seed=seed + 9)
    torch.testing.assert_close(gru(cell, x, h), cell(x, h), rtol=1e-13, atol=1e-14)
    # Negative control: the other convention, in which the update gate u lets the candidate in.
    own = cell(x, h)
    for weight in cell.parameters():
        weight.data[5:10] *= -1
    assert not torch.allclose(gru(cell, x, h), own, rtol=1e-2)


def test_second_derivatives_of_the_cell_are_those_of_differences():
    system, h = model(), 1e-3
    states, v = states_of(system, 6), draw(6, 7, seed=3)

    def drift(x):
        return (system.f(ZERO, x),)

    mixed = second_order(drift, (states,), [(v,)], {(0, 0): (torch.zeros_like(v),)})[2]
    near = (drift(states + h * v)[0] - 2 * drift(states)[0] + drift(states - h * v)[0]) / h**2
    torch.testing.assert_close(mixed[0, 0][0], near, rtol=1e-4, atol=1e-5)
    assert near.abs().max() > 0.01


def test_drift_and_noise_of_a_step_are_those_of_f_and_g():
    system = model(torch.tensor([0.4], **F64))
    y, v = states_of(system, 4), draw(4, 2, seed=8)
    drift, noise = system.f_and_g_prod(ZERO, y, v)
    assert torch.equal(drift, system.f(ZERO, y))
    torch.testing.assert_close(noise, torch.einsum("bdm,bm->bd", system.g(ZERO, y), v))
    assert not noise[:, :5].any() and noise[:, 5:].all()
    assert check_protocol(system, ZERO, y) == 2
    assert isinstance(system, StepSystem) and isinstance(system, CertifiedSystem)


@pytest.mark.parametrize("steps", [12, 40])
def test_the_hidden_state_stays_in_its_box(steps):
    system = RecurrentSystem.like_trained(hidden=12, latent=3, gain=4.0, seed=5)
    system.noise = 5.0
    start = states_of(system, 200, spread=10.0)
    start[:100, :12] = start[:100, :12].sign()  # corners
    noise = GaussianNoise(drivers=3, steps=steps, t1=12.0)
    path = solve_path(system, start, noise, times=noise.grid(torch.float64).tolist())
    assert path[..., :12].abs().max() <= 1.0 + 1e-14
    assert path[:, -1, :12].abs().max() > 0.9
    # Outside of it nothing is claimed, and steps above 1 leave it.
    wide = GaussianNoise(drivers=3, steps=4, t1=8.0)
    out = solve_path(system, start, wide, times=wide.grid(torch.float64).tolist())
    assert out[..., :12].abs().max() > 1.1


@pytest.mark.parametrize("step_size", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_state_has_rates_above_the_proven_ones(step_size, seed):
    system = model(torch.tensor([0.5], **F64), seed=seed)
    blocks = list(system.blocks.values())
    points = states_of(system, 500, seed=seed, spread=3.0)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: system.f(ZERO, x[None])[0]))(points)
    found, proven = jacobian_rates(jacobian, None, step_size, blocks), rates_of(system, step_size)
    for name, value in found.items():
        bound = getattr(proven, name)
        bound = bound[:, 0] if name == "log_norm" else bound[0]
        top = value.amax(-1) if name == "log_norm" else value.amax(0)
        if name == "least_log_norm":
            top, bound = -value.amin(0), -bound
        assert (top <= bound + 1e-12).all(), name
        if name in ("drift", "step"):
            assert top > 0.3 * bound, name  # half of it would be refused at some seed
    v, h = draw(500, 7, seed=4), 1e-3
    v = v / v.norm(dim=1, keepdim=True)
    values = [system.f(ZERO, points + s * h * v) for s in (1, 0, -1)]
    bend = ((values[0] - 2 * values[1] + values[2]) / h**2).norm(dim=1).max()
    assert 0.02 * proven.curvature < bend <= proven.curvature


def test_norms_of_blocks_compose_those_of_cell_and_head():
    system = model()
    cell, head = system.certificates
    rates = rates_of(system)
    hidden, latent = cell.parts["hidden"].lipschitz_2, cell.parts["input"].lipschitz_2
    m = head.lipschitz_2
    expected = torch.tensor([[hidden, latent], [m * hidden, m * latent]], **F64)
    assert (rates.step_blocks[0] <= expected * (1 + 1e-12)).all()
    torch.testing.assert_close(rates.step_blocks[0, [0, 1], [1, 0]], expected[[0, 1], [1, 0]])
    assert rates.step.item() <= cell.lipschitz_2 * math.hypot(1, m) * (1 + 1e-9)
    assert rates.additive


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 1.5}, "step_size=1.5, .*: rates are proven for steps up to 1"),
        ({"low": 1.2}, r"\|h\| up to 1.2"),
        ({"high": -1.3}, r"\|h\| up to 1.3"),
        (
            {"blocks": [slice(0, 7)]},
            r"blocks=\[slice\(0, 7, None\)\]: rates are proven for .* only",
        ),
        ({"blocks": [slice(0, 4), slice(4, 7)]}, "blocks="),
    ],
)
def test_rates_without_a_proof_are_refused(options, message):
    system = model()
    ends = {"low": system.x0.clone(), "high": system.x0.clone()}
    for name in ends:
        if name in options:
            ends[name][0] = options[name]
    blocks = options.get("blocks", list(system.blocks.values()))
    with pytest.raises(ValueError, match=message):
        system.certified_rates(ends["low"], ends["high"], options.get("step_size", 1.0), blocks)


def test_a_wide_latent_is_no_obstacle_to_the_proof():
    system = model()
    far = system.x0.clone()
    far[5:] = 100.0
    assert torch.equal(rates_of(system, start=far).step, rates_of(system).step)


@pytest.mark.parametrize(
    ("cell", "head", "action"),
    [
        (nn.GRUCell(2, 5, **F64), nn.Linear(5, 3, **F64), None),
        (nn.GRUCell(3, 5, **F64), nn.Linear(5, 3, **F64), torch.zeros(1, **F64)),
        (nn.GRUCell(1, 5, **F64), nn.Linear(5, 1, **F64), torch.zeros(1, **F64)),
    ],
)
def test_sizes_that_do_not_fit_are_refused(cell, head, action):
    with pytest.raises(ValueError, match=r"head returned shape .* expected \(1, Z\) with Z = "):
        RecurrentSystem(cell, head, action=action)


def test_bad_numbers_are_refused_by_name():
    with pytest.raises(ValueError, match="noise=nan"):
        model(noise=math.nan)
    with pytest.raises(ValueError, match="hidden=0"):
        RecurrentSystem.like_trained(hidden=0)
    with pytest.raises(ValueError, match="seed=-1"):
        RecurrentSystem.like_trained(seed=-1)


def test_a_seed_gives_one_model_with_orthogonal_recurrence():
    first, again, other = (RecurrentSystem.like_trained(hidden=6, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.cell.weight_hh, again.cell.weight_hh)
    assert torch.equal(first.x0, again.x0)
    assert not torch.equal(first.cell.weight_hh, other.cell.weight_hh)
    gate = first.cell.weight_hh[:6] / 1.2
    torch.testing.assert_close(gate @ gate.T, torch.eye(6, **F64))
    assert (first.cell.bias_ih[6:12] == 1.0).all()
    assert (first.x0[:6].abs() <= 1).all()

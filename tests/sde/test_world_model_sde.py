"""LatentWorldModel: formulas, block structure against Jacobians, who feels the error, refusals."""

import pytest
import torch
from torch.func import jacrev

from sdewm.sde.examples import TanhWorldModel
from sdewm.sde.examples.tanh_world_model import TanhNetwork
from sdewm.sde.world_model_sde import ClosedLoopTaskState, LatentWorldModel

SIZES = {"z_size": 2, "h_size": 3, "z_tilde_size": 2, "s_tilde_size": 1}
EULER_STEPS = 6


def network(inputs, outputs, seed, columns=None):
    """A tanh network of several arguments; with ``columns`` its value is (B, outputs, columns)."""
    generator = torch.Generator().manual_seed(seed)
    inner = TanhNetwork(inputs, 8, outputs * (columns or 1), 0.7, generator)

    def call(*arguments):
        value = inner(torch.cat(arguments, dim=1))
        return value if columns is None else value.reshape(len(value), outputs, columns)

    return call


def build(**changes):
    """All blocks with noise, a policy, a closed-loop task state of size 2."""
    options = dict(
        **SIZES,
        encoder=network(5, 2, 1),
        sequence=network(6, 3, 2),
        predictor=network(3, 2, 3),
        decoder=network(5, 1, 4),
        policy=network(5, 1, 5),
        encoder_diffusion=network(5, 2, 6, columns=3),
        sequence_diffusion=network(6, 3, 7),
        predictor_diffusion=network(3, 2, 8),
        decoder_diffusion=network(5, 1, 9, columns=2),
        task_state=ClosedLoopTaskState(2, network(3, 2, 10), network(3, 2, 11)),
    )
    return LatentWorldModel(**(options | changes))


def states(size, batch=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, size, dtype=dtype, generator=generator)


def test_slices_and_drivers_follow_the_blocks():
    model = build()
    assert model.state_size == 10
    assert list(model.blocks) == ["z", "h", "z_tilde", "s_tilde", "s"]
    assert list(model.drivers.values()) == [
        slice(0, 3),
        slice(3, 6),
        slice(6, 8),
        slice(8, 10),
        slice(10, 12),
    ]
    g = model.g(torch.zeros(()), states(10))
    assert g.shape == (4, 10, 12)
    for row, rows in model.blocks.items():
        for column, drivers in model.drivers.items():
            assert bool((g[:, rows, drivers] != 0).any()) is (row == column)


@pytest.mark.parametrize(
    "loop", ["closed", "none", "forced", "residual", "noiseless sequence", "no policy"]
)
def test_structure_is_the_pattern_of_the_jacobian(loop):
    model = {
        "closed": lambda: build(),
        "none": lambda: build(
            task_state=None, encoder=network(3, 2, 1), encoder_diffusion=network(3, 2, 6, columns=3)
        ),
        "forced": lambda: build(task_state=lambda t: torch.stack([t, t.cos()])),
        "residual": lambda: build(encoder_relaxation_time=0.5, predictor_relaxation_time=2.0),
        "noiseless sequence": lambda: build(sequence_diffusion=None),
        "no policy": lambda: build(
            policy=None,
            sequence=network(5, 3, 2),
            sequence_diffusion=network(5, 3, 7),
            task_state=ClosedLoopTaskState(2, network(2, 2, 10), network(2, 2, 11)),
        ),
    }[loop]()
    t, names = torch.zeros((), dtype=torch.float64), list(model.blocks)
    tables = {"f": torch.zeros(len(names), len(names), dtype=torch.bool)}
    tables["g"] = tables["f"].clone()
    for y in states(model.state_size, seed=3):
        for key, function in (("f", model.f), ("g", model.g)):
            jacobian = jacrev(lambda x, call=function: call(t, x[None])[0])(y)
            for i, row in enumerate(names):
                for j, column in enumerate(names):
                    block = jacobian[model.blocks[row]][..., model.blocks[column]]
                    tables[key][i, j] |= bool((block != 0).any())
    assert torch.equal(tables["f"], model.drift_structure)
    assert torch.equal(tables["g"], model.diffusion_structure)
    assert (loop == "residual") == bool(model.drift_structure[0, 0])
    assert not model.diffusion_structure[0, 0]  # what the vanishing Ito correction rests on (S6)


def ito_correction(model, error, y):
    """Sum over drivers of (D g_k) sigma_bar_k, the first-order Ito correction of S3 (B, D)."""
    t = torch.zeros((), dtype=torch.float64)
    rows = []
    for x in y:
        jacobian = jacrev(lambda v: model.g(t, v[None])[0])(x)  # (D, M, D)
        rows.append(torch.einsum("imj,jm->i", jacobian, error(t, x[None])[0]))
    return torch.stack(rows)


def test_first_order_ito_correction_vanishes_on_the_latent_rows_only():
    model, y = build(), states(10)
    error = model.latent_error_diffusion(network(5, 2, 20, columns=3))
    assert bool((error(torch.zeros(()), y) != 0).any())
    assert bool((ito_correction(model, error, y) == 0).all())

    def error_on_the_sequence(t, y):
        return torch.ones_like(model.g(t, y))

    assert bool((ito_correction(model, error_on_the_sequence, y)[:, 2:5].abs() > 1e-3).any())
    unstructured = TanhWorldModel(state_size=10, drivers=12)
    assert bool((ito_correction(unstructured, error, y).abs() > 1e-3).any())


def first_variation(model, y, seed=5):
    """Derivative in epsilon of an Euler-Maruyama path of the perturbed model (D,)."""
    error_drift = model.latent_error_drift(lambda h, s: torch.ones_like(h[:, :2]))
    error = model.latent_error_diffusion(network(3, 2, 20, columns=3))
    increments = states(model.g(torch.zeros(()), y).shape[2], batch=EULER_STEPS, seed=seed)

    def path(epsilon):
        x, t = y, torch.zeros((), dtype=y.dtype)
        for dw in increments:
            noise = model.g(t, x) + epsilon * error(t, x)
            x = x + 0.1 * (model.f(t, x) + epsilon * error_drift(t, x)) + 0.3 * (noise * dw).sum(2)
        return x[0]

    return jacrev(path)(torch.zeros((), dtype=y.dtype))


@pytest.mark.parametrize(
    ("h_reads_z", "policy_reads_z", "felt"),
    [(True, False, True), (False, True, True), (False, False, False)],
)
def test_only_what_flows_through_the_sequence_is_felt(h_reads_z, policy_reads_z, felt):
    """S8: if z reaches h neither directly nor by the policy, no other block sees the error."""
    body = network(6, 3, 2)
    act = network(5, 1, 5)
    model = build(
        task_state=None,
        encoder=network(3, 2, 1),
        encoder_diffusion=network(3, 2, 6, columns=3),
        sequence_diffusion=None,
        sequence=lambda h, z, a: body(h, z if h_reads_z else 0 * z, a),
        policy=lambda h, z: act(h, z if policy_reads_z else 0 * z),
    )
    variation = first_variation(model, states(8, batch=1))
    assert bool((variation[model.blocks["z"]].abs() > 1e-3).all())
    for block in ("h", "z_tilde", "s_tilde"):
        assert bool((variation[model.blocks[block]].abs() > 1e-5).any()) is felt, block


def test_task_state_enters_as_a_function_of_time():
    model = build(task_state=lambda t: torch.stack([t, t**2]))
    y = states(8)
    assert model.state_size == 8
    early, late = (model.f(torch.tensor(t, dtype=torch.float64), y) for t in (0.0, 0.7))
    assert not torch.allclose(early[:, :2], late[:, :2])
    assert torch.equal(early[:, 2:], late[:, 2:])  # s enters the encoder only
    per_path = build(
        task_state=lambda t: torch.ones(4, 2) * t, probe=torch.zeros(4, 8, dtype=torch.float64)
    )
    both = per_path.f(torch.tensor(0.5), y)
    torch.testing.assert_close(
        both, build(task_state=lambda t: torch.ones(2) * t).f(torch.tensor(0.5), y)
    )
    with pytest.raises(
        ValueError, match=r"task_state\(t\) returned \(4, 2\); expected \(S,\) or \(3, S\)"
    ):
        per_path.f(torch.tensor(0.5), y[:3])


def test_residual_form_contains_the_discrete_step():
    """S21: one Euler step of length tau replaces z by q_enc(h, s) and z-tilde by p(h)."""
    tau = 0.25
    plain = build()
    model = build(encoder_relaxation_time=tau, predictor_relaxation_time=tau)
    y, t = states(10), torch.zeros(())
    stepped = y + tau * model.f(t, y)
    for block in ("z", "z_tilde"):
        part = model.blocks[block]
        torch.testing.assert_close(stepped[:, part], plain.f(t, y)[:, part])
    torch.testing.assert_close(model.g(t, y), plain.g(t, y))


def test_model_without_noise_has_one_zero_driver():
    quiet = dict.fromkeys(
        (
            "encoder_diffusion",
            "sequence_diffusion",
            "predictor_diffusion",
            "decoder_diffusion",
            "task_state",
        )
    )
    model = build(**quiet, encoder=network(3, 2, 1))
    y = states(8)
    assert torch.equal(model.g(torch.zeros(()), y), torch.zeros(4, 8, 1, dtype=y.dtype))
    assert not model.diffusion_structure.any()
    with pytest.raises(ValueError, match="driver='same' needs encoder noise"):
        model.latent_error_diffusion(network(3, 2, 20))
    own = model.latent_error_diffusion(network(3, 2, 20, columns=5), driver="independent")
    assert own(torch.zeros(()), y).shape == (4, 8, 5)


def test_probe_sets_dtype_for_single_precision_networks():
    encoder = torch.nn.Linear(3, 2)
    options = dict(encoder=lambda h, s: encoder(h), task_state=None, encoder_diffusion=None)
    model = build(**options, probe=torch.zeros(1, 8))
    y = states(8, dtype=torch.float32)
    assert model.f(torch.zeros(()), y).dtype == torch.float32
    assert model.g(torch.zeros(()), y).dtype == torch.float32
    with pytest.raises(RuntimeError):
        build(**options)  # the default probe is float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_size": 0}, "z_size=0"),
        ({"h_size": 2.5}, "h_size=2.5"),
        ({"task_state": ClosedLoopTaskState(-1, network(3, 2, 10))}, "task_state.size=-1"),
        ({"task_state": 3.0}, "task_state=3.0"),
        ({"task_state": lambda t: 1.0}, r"task_state\(t\) returned float"),
        ({"task_state": lambda t: t}, r"task_state\(t\) returned \(\)"),
        ({"encoder": network(5, 3, 1)}, r"encoder returned shape \(2, 3\); expected \(2, 2\)"),
        ({"sequence": lambda h, z, a: h[:, 0]}, r"sequence returned shape \(2,\)"),
        ({"predictor": None}, "predictor=None: expected a function"),
        ({"decoder": lambda h, z_tilde: 1.0}, "decoder returned float"),
        ({"policy": lambda h, z: h[:, 0]}, r"policy returned shape \(2,\)"),
        ({"policy": lambda h, z: None}, "policy returned NoneType"),
        ({"encoder_diffusion": network(5, 3, 6, columns=3)}, r"encoder_diffusion .* \(2, 3, 3\)"),
        ({"sequence_diffusion": lambda h, z, a: h[:, :2]}, r"sequence_diffusion .* \(2, 2\)"),
        ({"decoder_diffusion": lambda h, z_tilde: h[:, :1].float()}, "decoder_diffusion .*float32"),
        ({"encoder_relaxation_time": 0.0}, "encoder_relaxation_time=0.0: expected"),
        ({"predictor_relaxation_time": float("nan")}, "predictor_relaxation_time=nan"),
        ({"probe": torch.zeros(2, 9)}, r"probe returned shape \(2, 9\); expected \(2, 10\)"),
    ],
)  # fmt: skip
def test_constructor_refuses_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_error_builders_refuse_by_name():
    model = build()
    with pytest.raises(
        ValueError, match=r"sigma\(h, s\) returned shape \(2, 3\); expected \(2, 2\)"
    ):
        model.latent_error_drift(network(5, 3, 20))
    with pytest.raises(
        ValueError, match=r"sigma_bar\(h, s\) returned shape \(2, 2, 2\); expected \(2, 2, 3\)"
    ):
        model.latent_error_diffusion(network(5, 2, 20))
    with pytest.raises(ValueError, match="driver='own'"):
        model.latent_error_diffusion(network(5, 2, 20), driver="own")

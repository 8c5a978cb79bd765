"""What is checked of a system where its paths go: the right value, or a refusal by name."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import sdewm
from sdewm.sde.examples import CubicFlow, LinearFlow, OrnsteinUhlenbeck, TanhWorldModel

F64 = torch.float64
X0 = torch.tensor([1.0, -0.5], dtype=F64)
GRID = {"t1": 1.0, "steps": 10}
ERROR = sdewm.Perturbation(drift=lambda t, y: torch.full_like(y, 0.3))


class Made:
    """A system with diagonal noise, of a drift and a diffusion."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, f, g=lambda t, y: 0.3 + 0.1 * y):
        self.f, self.g = f, g


def square(y):
    return y.square().sum(1)


def terms(system, loss=square, x0=X0, paths=300, **grid):
    return sdewm.expand(system, ERROR, loss, x0, paths=paths, **{**GRID, **grid}).terms


CALLS = {
    "expand": lambda s, x: sdewm.expand(s, ERROR, square, x, paths=200, **GRID),
    "value_expansion": lambda s, x: sdewm.value_expansion(s, square, x, 0.1 * x, paths=200, **GRID),
    "fundamental_matrix": lambda s, x: sdewm.fundamental_matrix(s, x, paths=200, **GRID),
    "rollout_divergence": lambda s, x: sdewm.rollout_divergence(s, x, 0.1 * x, paths=200, **GRID),
    "rollout_bounds": lambda s, x: sdewm.rollout_bounds(s, x, 0.1 * x, paths=20, **GRID),
    "term_bounds": lambda s, x: sdewm.term_bounds(s, ERROR, square, x, paths=20, **GRID),
    "lyapunov_exponents": lambda s, x: sdewm.lyapunov_exponents(
        s, x.repeat(4, 1), steps=10, exponents=1, dt=0.1
    ),
}


def half(t, y):
    y *= 0.5
    return -y


def half_later(t, y):
    if t > 0.55:
        y *= 0.5
    return -y


def half_noise(t, y):
    return y.mul_(0.5)


def drawn(t, y):
    return -functional.dropout(y, 0.5)


REFUSED = {
    "in place": (Made(half), "in place"),
    "in place, later": (
        Made(half_later),
        r"(system.f at t = 0\.[6-9].*|step changes its state) in place",
    ),
    "in place, noise": (Made(lambda t, y: -y, half_noise), "system.g .* in place"),
    "centred": (Made(lambda t, y: -(y - y.mean(0))), "mixes the rows"),
    "batch norm": (
        Made(lambda t, y: -functional.batch_norm(y, None, None, training=True)),
        "mixes",
    ),
    "random": (Made(drawn), "draws random numbers|two values at one state"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("entry", CALLS)
def test_a_broken_contract_is_refused_by_name_and_the_state_is_kept(name, entry):
    system, message = REFUSED[name]
    start = X0.clone()
    with pytest.raises(ValueError, match="step mixes|step gives|step changes|" + message):
        CALLS[entry](system, start)
    assert torch.equal(start, X0)


@pytest.mark.parametrize("entry", CALLS)
def test_a_sound_system_passes_every_entry(entry):
    CALLS[entry](Made(lambda t, y: -y), X0)


def test_findings_are_listed_with_a_remedy_each():
    findings = sdewm.check_system(
        Made(half, lambda t, y: 0.3 + y.mean(0) + 0 * y), X0, **GRID, loss=lambda y: y[:, 0].abs()
    )
    assert [finding.check for finding in findings] == ["in place", "rows", "smoothness"]
    assert all(finding.remedy and finding.message for finding in findings)
    assert sdewm.check_system(Made(lambda t, y: -y), X0, **GRID, loss=square, error=ERROR) == []


@pytest.mark.parametrize("late", [0.0, 0.6])
def test_the_later_times_of_a_long_run_are_looked_at(late):
    """Only its first 256 of 2560 steps are followed, to t = 0.1; the rows mix from `late` on."""

    def drift(t, y):
        return -y + (y.mean(0) - y if float(t) >= late else 0 * y)

    findings = sdewm.check_system(Made(drift), X0, t1=1.0, steps=2560)
    assert [finding.check for finding in findings] == ["rows"]
    if late:
        assert sdewm.check_system(Made(drift), X0, t1=late / 2, steps=2560) == []


def test_an_error_that_breaks_the_contract_is_named():
    error = sdewm.Perturbation(drift=lambda t, y: y - y.mean(0))
    with pytest.raises(ValueError, match=r"error\.drift .* mixes the rows"):
        sdewm.expand(Made(lambda t, y: -y), error, square, X0, paths=20, **GRID)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x0": [1.0]}, r"x0=\[1.0\]: expected a floating point tensor"),
        ({"x0": torch.tensor([1, 2])}, r"x0=\(2,\) of torch.int64"),
        ({"steps": 0}, "steps=0"),
        ({"t1": math.nan}, "t1=nan"),
        ({"loss": 3}, "loss=3: expected a function"),
        ({"loss": lambda y: y}, "loss returned shape"),
        ({"error": lambda t, y: y}, r"error=function: expected a sdewm\.Perturbation"),
    ],
)
def test_arguments_of_the_check_itself_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        sdewm.check_system(**{"system": Made(lambda t, y: -y), "x0": X0, **GRID, **changes})


# --- time read outside torch ------------------------------------------------------------------

TABLE = np.linspace(0, 1, 11), np.sin(6 * np.linspace(0, 1, 11))
TABLE_TIMES = torch.tensor([0.25, 0.45, 0.75], dtype=F64)
READS = {
    "np.interp": lambda t: torch.as_tensor(np.interp(t, *TABLE)),
    "np.asarray": lambda t: float(np.interp(np.asarray(t), *TABLE)),
    "numpy()": lambda t: float(np.interp(t.numpy(), *TABLE)),
    "item": lambda t: float(np.interp(t.item(), *TABLE)),
    "tolist": lambda t: float(np.interp(t.tolist(), *TABLE)),
    "math": lambda t: math.sin(6 * t),
}


@pytest.mark.parametrize("name", READS)
def test_a_time_that_is_read_outside_torch_is_never_frozen(name):
    """c0, c1, c2 are those with float(t)."""

    def driven(read):
        return Made(
            lambda t, y: read(t) - (1 + read(t)) * y, lambda t, y: 0.3 + 0.1 * torch.tanh(y)
        )

    how = {"loss": lambda y: y[:, 0] ** 2, "x0": X0[:1], "steps": 60, "paths": 1000}
    got = terms(driven(READS[name]), **how)
    right = (
        {"c0": 0.14186, "c1": 0.12203, "c2": 0.05073}
        if name != "math"
        else {k: v.value for k, v in terms(driven(lambda t: torch.sin(6 * t)), **how).items()}
    )
    for term in ("c0", "c1", "c2"):
        assert got[term].value == pytest.approx(right[term], abs=6e-6), term


def read_or(t, otherwise):
    try:
        return float(t)
    except RuntimeError:
        return otherwise


TIMES = {
    "float": lambda t: float(t),
    "float in a try": lambda t: read_or(t, 0.0),
    "length of a masked table": lambda t: 0.5 + len(TABLE_TIMES[TABLE_TIMES < t]),
    "item": lambda t: t.item(),
    "branch": lambda t: 1.0 if t > 0.5 else 0.5,
    "where": lambda t: torch.where(t > 0.5, 1.0, 0.5),
    "searchsorted": lambda t: torch.searchsorted(torch.linspace(0, 1, 5, dtype=F64), t).double(),
    "table": lambda t: torch.arange(12, dtype=F64)[(10 * t).long()],
    "index": lambda t: [0.5, 1.0][int(t > 0.5)],
    "full_like": lambda t: torch.full_like(t, 0.5) + t,
    "floor": lambda t: torch.floor(4 * t),
    "nonzero": lambda t: 0.5 + (t > 0.45).reshape(1).nonzero().shape[0],
    "masked_select": lambda t: 0.5 + t.reshape(1).masked_select((t > 0.45).reshape(1)).numel(),
    "unique": lambda t: 1.0 * torch.unique(torch.stack([t.round(), 0 * t])).numel(),
    "sin": lambda t: torch.sin(t),
    "stack": lambda t: torch.stack([t, t**2]).sum(),
    "lerp": lambda t: torch.lerp(torch.zeros((), dtype=F64), torch.ones((), dtype=F64), t),
}


@pytest.mark.parametrize("name", TIMES)
def test_every_way_to_read_the_time_in_torch_passes_and_is_right(name):
    read = TIMES[name]
    system = Made(lambda t, y: -read(t) * y)
    assert sdewm.check_system(system, X0, **GRID, loss=square, error=ERROR) == []
    got = terms(system)["c0"].value
    values = [float(read(torch.tensor(k / 10, dtype=F64))) for k in range(10)]
    right = terms(Made(lambda t, y: -values[min(9, round(10 * float(t)))] * y))["c0"].value
    assert got == pytest.approx(right, rel=1e-9)


# --- derivatives --------------------------------------------------------------------------------


def wide(y):
    return torch.cat([y, y**2, torch.ones_like(y)], 1)


def written_norm(y):
    z = wide(y) - wide(y).mean(1, keepdim=True)
    return (z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-5))[:, :2]


def matrix(y):
    rows = [[1 + 0.3 * y[:, 0], 0.4 * y[:, 1]], [0.5 * y[:, 0], 1 + 0.2 * y[:, 1]]]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def written_solve(y):
    (a, b), (c, d) = ((1 + 0.3 * y[:, 0], 0.4 * y[:, 1]), (0.5 * y[:, 0], 1 + 0.2 * y[:, 1]))
    k = a * d - b * c
    return torch.stack([(d - b) / k, (a - c) / k], 1)


def later(drift):
    return Made(lambda t, y: -y + (0.5 * drift(y) if t > 0.5 else 0 * y))


def test_a_normalisation_behind_a_branch_has_right_derivatives():
    got = terms(later(lambda y: functional.layer_norm(wide(y), (6,))[:, :2]))["c2"].value
    assert got == pytest.approx(terms(later(written_norm))["c2"].value, abs=1e-9)


def test_a_wrong_second_derivative_is_found_where_the_paths_meet_it():
    solved = later(lambda y: torch.linalg.solve(matrix(y), torch.ones(len(y), 2, dtype=F64)))
    with pytest.raises(ValueError, match=r"second derivative of system\.f at t = 0\.[6-9]"):
        terms(solved)
    error = sdewm.Perturbation(ERROR.drift, lambda t, y: torch.full_like(y, 0.2))
    right = sdewm.expand(later(written_solve), error, square, X0, paths=500, **GRID)
    assert right.terms["c2"].value == pytest.approx(0.111758, abs=1e-6)


@pytest.mark.parametrize(
    ("function", "written"),
    [
        (functional.silu, lambda x: x * torch.sigmoid(x)),
        (functional.mish, lambda x: x * torch.tanh(functional.softplus(x))),
    ],
)
def test_the_advice_for_stratonovich_systems_works(function, written):
    """½ Σ (D g) g added to the drift, as the message says, with one more derivative."""

    def corrected(a):
        def noise(t, y):
            return 0.3 * a(y) + 0.5

        def drift(t, y):
            slope = torch.func.jvp(lambda z: noise(t, z), (y,), (noise(t, y),))[1]
            return -y + 0.5 * slope

        return Made(drift, noise)

    got, right = (terms(corrected(a))["c2"].value for a in (function, written))
    assert got == pytest.approx(right, abs=1e-9)


W = torch.randn(2, 6, dtype=F64, generator=torch.Generator().manual_seed(0))


def energy(y):
    return torch.tanh(y @ W).sum() + 0.5 * y.square().sum()


def by_autograd(t, y):
    with torch.enable_grad():
        z = y if y.requires_grad else y.detach().requires_grad_(True)
        return -torch.autograd.grad(energy(z), z, create_graph=True)[0]


def test_a_gradient_by_autograd_is_refused_with_the_function_to_use():
    system = Made(by_autograd, lambda t, y: torch.full_like(y, 0.5))
    with pytest.raises(ValueError, match=r"torch\.func\.grad"):
        terms(system)
    functional_form = Made(lambda t, y: -torch.func.grad(energy)(y), system.g)
    assert terms(functional_form)["c2"].standard_error > 0
    grid = {**GRID, "paths": 50}  # no derivative is needed here
    pair = [
        sdewm.rollout_divergence(s, X0, 0.1 * X0, **grid)["sup"].last
        for s in (system, functional_form)
    ]
    assert pair[0].value == pytest.approx(pair[1].value, rel=1e-12)


def test_fused_attention_is_differentiated_by_its_definition():
    def attend(y):
        tokens = wide(y).reshape(-1, 1, 3, 2)
        return functional.scaled_dot_product_attention(tokens, tokens, tokens).flatten(1)[:, :2]

    def written(y):
        tokens = wide(y).reshape(-1, 1, 3, 2)
        weights = torch.softmax(tokens @ tokens.mT / math.sqrt(2), -1)
        return (weights @ tokens).flatten(1)[:, :2]

    got, right = (terms(Made(lambda t, y, a=a: -y + 0.5 * a(y)))["c2"] for a in (attend, written))
    assert got.value == pytest.approx(right.value, abs=1e-9)


def test_distributions_may_be_used_inside():
    def drift(t, y):
        return -y * torch.distributions.Normal(y, 1.0 + y.square()).cdf(0.5 * y)

    def written(t, y):
        return -y * 0.5 * (1 + torch.erf((0.5 * y - y) / (1.0 + y.square()) / math.sqrt(2)))

    got, right = terms(Made(drift))["c2"].value, terms(Made(written))["c2"].value
    assert got == pytest.approx(right, abs=1e-9)


def test_lower_precision_inside_is_named():
    cell = nn.GRUCell(2, 2)
    with pytest.raises(ValueError, match=r"computes in torch\.float32 inside torch\.float64"):
        terms(Made(lambda t, y: cell(y.float(), y.float()).double() - y))


# --- the loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (lambda y: (y[:, 0] > 0).double(), "jump"),
        (lambda y: y[:, 0].abs(), "kink"),
        (lambda y: torch.relu(y[:, 1] + 0.2), "kink"),
        (lambda y: y.amax(1), "kink"),
        (lambda y: torch.floor(3 * y[:, 0]), "jump"),
        (lambda y: y[:, 0].clamp(-0.1, 0.1), "kink"),
    ],
)
def test_a_loss_that_is_not_smooth_where_the_paths_end_is_refused(loss, kind):
    with pytest.raises(ValueError, match=f"loss has a {kind} where the paths end"):
        terms(Made(lambda t, y: -y, lambda t, y: 0.5 + 0 * y), loss)


@pytest.mark.parametrize(
    "loss",
    [
        square,
        lambda y: torch.tanh(50 * y[:, 0]),
        lambda y: torch.sigmoid(100 * (y[:, 0] - 0.1)),
        lambda y: (y[:, 0] ** 2 + 1e-4).sqrt(),
        lambda y: y[:, 0].abs() ** 3,
        lambda y: torch.where(y[:, 0].abs() < 0.3, y[:, 0] ** 2, 0.6 * y[:, 0].abs() - 0.09),
        lambda y: torch.relu(y[:, 0] - 40.0) + y[:, 1],
        lambda y: torch.ones(len(y), dtype=F64),
    ],
)
def test_a_steep_but_smooth_loss_passes(loss):
    assert sdewm.check_system(Made(lambda t, y: -y), X0, **GRID, loss=loss) == []


# --- no false alarms ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", [OrnsteinUhlenbeck, CubicFlow, LinearFlow, TanhWorldModel])
def test_ready_systems_pass(case):
    system = case()
    assert sdewm.check_system(system, system.x0, **GRID) == []


def test_a_latent_sde_with_a_context_lookup_passes():
    contexts, times = torch.randn(11, 40, 3, dtype=F64), torch.linspace(0, 1, 11, dtype=F64)
    network = nn.Sequential(nn.Linear(5, 16), nn.Softplus(), nn.Linear(16, 2)).double()

    def drift(t, y):
        row = contexts[min(int(torch.searchsorted(times, t, right=True)), 10)]
        return network(torch.cat([y, row[: len(y)]], 1))

    assert sdewm.check_system(Made(drift), X0, **GRID) == []


def test_reverse_time_diffusion_with_a_convolutional_score_passes():
    score = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.SiLU(), nn.Conv1d(4, 1, 3, padding=1))
    score = score.double()

    def drift(t, y):
        beta = 0.1 + 19.9 * (1 - t)
        return 0.5 * beta * y + beta * score(y[:, None])[:, 0]

    system = Made(drift, lambda t, y: torch.full_like(y, 1.0) * (0.1 + 19.9 * (1 - t)).sqrt())
    assert sdewm.check_system(system, torch.randn(6, dtype=F64), t1=0.99, steps=50) == []


def test_a_loss_that_differs_between_labelled_rows_passes():
    """The last component is the number of an episode, as in systems of several episodes."""
    targets = torch.tensor([0.0, 5.0, -3.0], dtype=F64)

    def loss(y):
        return (y[:, 0] - targets[y[:, 1].round().long()]) ** 2

    starts = torch.stack([torch.zeros(30, dtype=F64), torch.arange(30.0, dtype=F64) // 10], 1)
    moving = torch.tensor([1.0, 0.0], dtype=F64)
    system = Made(lambda t, y: -y * moving, lambda t, y: torch.ones_like(y) * moving)
    assert sdewm.check_system(system, starts, **GRID, loss=loss) == []
    kink = sdewm.check_system(system, starts, **GRID, loss=lambda y: loss(y) + y[:, 0].abs())
    assert [finding.check for finding in kink] == ["smoothness"]


# --- refusals by name in place of a library's own exception --------------------------------------


def hooked():
    module = nn.Linear(2, 2).double()
    module.register_full_backward_hook(lambda module, inputs, outputs: None)
    return lambda t, y: module(y)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_activation_checkpointing_is_right_or_refused_by_name(reentrant):
    layer = nn.Linear(2, 2).double()
    system = Made(lambda t, y: checkpoint(lambda x: layer(x).tanh(), y, use_reentrant=reentrant))
    if reentrant:
        with pytest.raises(ValueError, match="switch activation checkpointing off"):
            terms(system)
    else:
        right = terms(Made(lambda t, y: layer(y).tanh()))
        assert terms(system)["c2"].value == pytest.approx(right["c2"].value, rel=1e-12)


def test_full_backward_hooks_do_not_change_the_terms():
    torch.manual_seed(0)
    with_hook = terms(Made(hooked()))["c2"].value
    torch.manual_seed(0)
    layer = nn.Linear(2, 2).double()
    assert with_hook == pytest.approx(terms(Made(lambda t, y: layer(y)))["c2"].value, rel=1e-12)


@pytest.mark.parametrize("entry", CALLS)
def test_states_that_hold_no_numbers_are_refused(entry):
    with pytest.raises(ValueError, match="x0 is on device 'meta'"):
        CALLS[entry](Made(lambda t, y: -y), X0.to("meta"))


@pytest.mark.parametrize("device", ["mps", "meta"])
def test_devices_without_float64_are_refused(device):
    with pytest.raises(ValueError, match=f"device='{device}': expected 'cpu' or 'cuda"):
        sdewm.expand(Made(lambda t, y: -y), ERROR, square, X0, paths=20, device=device, **GRID)


@pytest.mark.parametrize("name", ["drift", "diffusion"])
def test_an_error_of_the_state_alone_is_refused_at_once(name):
    with pytest.raises(ValueError, match=rf"{name} takes \(y\): expected a function \(t, y\)"):
        sdewm.Perturbation(**{name: lambda y: y})
    assert sdewm.Perturbation(drift=lambda t, y, scale=1.0: scale * y).drift is not None
    assert sdewm.Perturbation(drift=torch.add).drift is torch.add


def test_numbers_of_numpy_are_numbers():
    found = sdewm.rollout_divergence(
        Made(lambda t, y: -y), X0, 0.1 * X0, paths=20, quantiles=(np.float32(0.5),), **GRID
    )
    assert list(found.quantiles) == [0.5]


class Twofold(LinearFlow):
    """The linear flow, with a product of its own."""

    def __init__(self, drift=1.0, noise=1.0, late=False, inside=False):
        super().__init__()
        self.shares, self.late, self.inside = (drift, noise), late, inside

    def f_and_g_prod(self, t, y, v):
        f, product = self.f(t, y), torch.einsum("bdm,bm->bd", self.g(t, y), v)
        if self.inside:
            y *= 0.5
        now = 1.0 if self.late and float(t) < 0.55 else self.shares[0]
        return now * f, self.shares[1] * product


@pytest.mark.parametrize("name", [name for name in CALLS if name != "lyapunov_exponents"])
@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"drift": 1.001}, "(drift) at t = 0 differs from system.f"),
        ({"noise": -1.0}, "(noise) at t = 0 differs from the product of system.g with v"),
        ({"drift": 1.001, "late": True}, "(drift) at t = 0.7 differs from system.f"),
        ({"inside": True}, "at t = 0 changes its state in place"),
    ],
)
def test_two_forms_of_a_system_have_to_agree(name, options, what):
    """Paths follow `f_and_g_prod`; bounds of them from f and g were those of another system."""
    with pytest.raises(ValueError, match=re.escape(f"system.f_and_g_prod {what}")):
        CALLS[name](Twofold(**options), X0)
    finding = sdewm.check_system(Twofold(**options), X0, **GRID)[0]
    assert what in finding.message and finding.check in ("product", "in place")


def test_two_forms_of_a_system_that_agree_are_accepted():
    assert sdewm.check_system(Twofold(), X0, **GRID) == []
    plain, twofold = (CALLS["rollout_divergence"](s, X0) for s in (LinearFlow(), Twofold()))
    np.testing.assert_allclose(plain["mean"].values, twofold["mean"].values, rtol=1e-12)


def doubled(t, y):
    t *= 2
    return -y * t


@pytest.mark.parametrize("name", [name for name in CALLS if name != "lyapunov_exponents"])
def test_a_coefficient_that_changes_the_time_in_place_is_refused(name):
    """`rollout_divergence` gave the changed time to the diffusion."""
    for system, which in (
        (Made(doubled, lambda t, y: 0.3 * y * t), "f"),
        (Made(lambda t, y: -y * t, doubled), "g"),
    ):
        with pytest.raises(
            ValueError, match=rf"system\.{which} at t = 0 changes its time in place"
        ):
            CALLS[name](system, X0)


@pytest.mark.parametrize(("from_time", "where"), [(0.0, "0"), (0.55, "0.7")])
def test_a_product_of_an_error_is_compared_at_every_time_that_is_looked_at(from_time, where):
    """It was compared at the start only, by `expand` alone."""

    def product(t, y, v):
        return (1.5 if float(t) >= from_time else 1.0) * 0.3 * y * v

    error = sdewm.Perturbation(diffusion=lambda t, y: 0.3 * y, diffusion_product=product)
    system = Made(lambda t, y: -y)
    (finding,) = sdewm.check_system(system, X0, **GRID, error=error)
    assert finding.check == "product"
    assert f"error.diffusion_product at t = {where} differs" in finding.message
    with pytest.raises(ValueError, match="error.diffusion_product .*differs"):
        sdewm.expand(system, error, square, X0, paths=200, **GRID)

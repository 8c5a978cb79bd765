"""The configured penalty, its refusals and its sentence; use under autocast and torch.compile."""

import dataclasses
import math
import shutil
import warnings

import pytest
import torch

from sdewm.jacobian.penalty import (
    Exact,
    InputProjection,
    OutputProjection,
    jacobian_penalty,
    log_norm_penalty,
)
from sdewm.jacobian.penalty_config import (
    PROBES,
    PenaltyConfig,
    check_penalty,
    configured_penalty,
    describe_penalty,
    draw_probes,
    weight_schedule,
)
from tests.jacobian.jacobian_step import make_step


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("estimator", [*PROBES, "exact"])
@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("squared", [True, False])
def test_config_selects_estimator_side_and_root(estimator, side, squared):
    step, inputs = make_step("rms")
    config = PenaltyConfig(estimator=estimator, side=side, probes=2, squared=squared)
    probes = draw_probes(config, inputs, step(*inputs), generator())
    value = configured_penalty(config, step, inputs, probes)
    if estimator == "exact":
        assert probes is None
        chosen = Exact()
    else:
        like, projection = (
            (inputs, InputProjection) if side == "input" else (step(*inputs), OutputProjection)
        )
        chosen = projection(PROBES[estimator](2, like, generator()))
    assert torch.equal(value, jacobian_penalty(step, inputs, chosen, squared=squared))


def test_config_selects_the_logarithmic_norm():
    config = PenaltyConfig(kind="log_norm", log_norm_threshold=-1.5)
    step, (h, z) = make_step("rms")
    on_h = lambda h: step(h, z)  # noqa: E731
    probes = draw_probes(config, h, step(h, z), generator())
    assert probes is None
    value = configured_penalty(config, on_h, h, probes)
    assert torch.equal(value, log_norm_penalty(on_h, h, -1.5)) and value > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": -0.1}, "weight=-0.1"),
        ({"weight": math.nan}, "weight=nan"),
        ({"kind": "frobenious"}, "did you mean 'frobenius'"),
        ({"map": "posteriour"}, "did you mean 'posterior'"),
        ({"inputs": "detr"}, "did you mean 'deter'"),
        ({"policy": "include"}, "did you mean 'included'"),
        ({"estimator": "rademachr"}, "did you mean 'rademacher'"),
        ({"side": "outputs"}, "did you mean 'output'"),
        ({"schedule": "warm_up"}, "did you mean 'warmup'"),
        ({"probes": 0}, "probes=0"),
        ({"steps": 0}, "steps=0"),
        ({"schedule_updates": 0}, "schedule_updates=0"),
        ({"fraction": 0.0}, "fraction=0.0"),
        ({"fraction": 1.1}, "fraction=1.1"),
        ({"floor": 0.1}, "only schedule='decay'"),
        ({"floor": 0.1, "schedule": "decay"}, "at most weight=0.0"),
        ({"log_norm_threshold": math.inf}, "log_norm_threshold=inf"),
        ({"map": "prior", "inputs": "stoch"}, "use 'deter'"),
        ({"map": "posterior", "policy": "included"}, "use 'fixed'"),
        ({"kind": "log_norm", "map": "posterior"}, "from a state to the next"),
        ({"kind": "log_norm", "map": "deterministic"}, "map='deterministic' with inputs='deter'"),
    ],
)
def test_config_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_penalty(PenaltyConfig(**changes))


def test_config_in_range_is_accepted():
    check_penalty(PenaltyConfig())
    gpld = {"map": "posterior", "inputs": "deter", "fraction": 0.5, "schedule": "decay"}
    check_penalty(PenaltyConfig(weight=0.5, floor=0.1, **gpld))
    check_penalty(PenaltyConfig(kind="log_norm", map="deterministic", inputs="deter"))
    assert dataclasses.fields(PenaltyConfig)[0].default == 0.0  # off unless asked for


def test_schedules_of_the_config():
    warm = weight_schedule(PenaltyConfig(weight=0.4, schedule="warmup", schedule_updates=200))
    assert [warm(u) for u in (0, 50, 200, 10_000)] == [0.0, 0.1, 0.4, 0.4]
    decay = weight_schedule(PenaltyConfig(weight=0.5, schedule="decay", floor=0.1))
    assert [decay(u) for u in (0, 3000, 24_000, 10**7)] == [0.5, 0.25, 0.1, 0.1]
    assert decay(10_000) == pytest.approx(0.5 / math.sqrt(11))  # GPLD: 0.15 after 10k updates
    assert weight_schedule(PenaltyConfig(weight=0.5))(10**6) == 0.5


def test_sentence_names_weight_norm_reduction_and_estimator():
    gpld = PenaltyConfig(
        weight=0.5, map="posterior", inputs="deter", fraction=0.5, schedule="decay", floor=0.1
    )
    text = describe_penalty(gpld, inputs=8, outputs=4)
    for part in (
        "max(0.1, 0.5/√(updates/1000 + 1))",
        "50 % of the states",
        "4 × 8",
        "weight 16",
        "no factor ½",
        "∂ posterior / ∂ deter",
        "1 rademacher probe(s)",
        "output side",
    ):
        assert part in text
    root = describe_penalty(PenaltyConfig(weight=1, squared=False, estimator="exact"), 2, 3)
    assert "‖J‖_F," in root and "²" not in root and root.endswith("exact.")
    for map_, given, read in (
        ("prior", "both", "deter"),
        ("posterior", "both", "deter and embed"),
        ("full", "both", "both"),
    ):
        text = describe_penalty(PenaltyConfig(map=map_, inputs=given), 2, 2)
        assert f"∂ {map_} / ∂ {read}, policy" in text
    steps = describe_penalty(PenaltyConfig(map="multi_step", steps=7), 2, 2)
    assert "7 steps" in steps
    rate = PenaltyConfig(weight=0.3, kind="log_norm", log_norm_threshold=0.02)
    told = describe_penalty(rate, 2, 3)
    assert "0.3 × mean over all states of max(0, λ − 0.02)" in told and "per step;" in told
    several = dataclasses.replace(rate, map="multi_step", steps=7)
    assert "mean-square growth per 7 steps;" in describe_penalty(several, 2, 3)


def test_penalty_under_autocast_is_close_and_at_least_float32():
    torch.manual_seed(0)
    cell = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.LayerNorm(6))
    h = torch.randn(8, 6)
    exact = jacobian_penalty(cell, h, Exact())
    for estimator in (
        Exact(),
        *(
            p(torch.eye(6)[:, None].expand(6, 8, 6) * math.sqrt(6))
            for p in (InputProjection, OutputProjection)
        ),
    ):
        with torch.autocast("cpu", torch.bfloat16):
            value = jacobian_penalty(cell, h, estimator)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact, rtol=0.03, atol=0)
        value.backward()


CASES = {
    "input side": lambda step, h, p: jacobian_penalty(step, h, InputProjection(p)),
    "output side, root": lambda step, h, p: jacobian_penalty(
        step, h, OutputProjection(p), squared=False
    ),
    "output side, 1 probe": lambda step, h, p: jacobian_penalty(step, h, OutputProjection(p[:1])),
    "exact": lambda step, h, p: jacobian_penalty(step, h, Exact()),
    "logarithmic norm": lambda step, h, p: log_norm_penalty(step, h, -1.0),
}


COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")


@pytest.mark.parametrize(
    ("case", "backend"),
    [
        *((case, "aot_eager") for case in CASES),
        pytest.param("input side", "inductor", marks=[pytest.mark.slow, COMPILER]),
    ],
)
def test_compiled_penalty_and_gradients_equal_eager(case, backend):
    """Forward and backward in one graph, a bare GRU cell behind a layer norm."""
    torch.manual_seed(0)
    cell, normalise = torch.nn.GRUCell(3, 5), torch.nn.LayerNorm(5)
    x, h = torch.randn(7, 3), torch.randn(7, 5)
    probes = PROBES["rademacher"](2, h, generator())

    def step(h):
        return cell(x, normalise(h))

    def loss(h, probes):
        return step(h).square().mean() + CASES[case](step, h, probes)

    def gradients(function):
        return torch.autograd.grad(function(h, probes), [*cell.parameters()])

    eager = gradients(loss)
    with warnings.catch_warnings():  # torch's compiler warns of its own use of torch.jit
        warnings.simplefilter("ignore", DeprecationWarning)
        torch._dynamo.reset()
        compiled = gradients(torch.compile(loss, fullgraph=True, backend=backend))
    for one, other in zip(compiled, eager, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=5e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("projection", [InputProjection, OutputProjection])
def test_penalty_on_the_gpu_equals_that_on_the_cpu(projection):
    torch.manual_seed(0)
    cell = torch.nn.GRUCell(3, 5).double()
    x, h = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    probes = PROBES["gaussian"](2, h, generator())
    found = []
    for device in ("cpu", "cuda"):
        cell.to(device).zero_grad()
        there = x.to(device)
        penalty = jacobian_penalty(
            lambda h, there=there: cell(there, h), h.to(device), projection(probes.to(device))
        )
        penalty.backward()
        found.append([penalty.detach().cpu(), *(p.grad.cpu().clone() for p in cell.parameters())])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)

"""Training with errors against their explicit term: exact cases, orders, controls."""

import copy
import importlib.util
import math

import pytest
import torch
from torch import nn

from paper_checks.cases.trained_models import trained_run
from sdewm.base.records import ROOT, read_table
from sdewm.model.rssm import State
from sdewm.model.world_model import Observed, total_loss
from sdewm.model_theorems.implicit_regularisation import (
    BATCH,
    FilteredModel,
    compare_training,
    explicit_term,
    mirrored,
    train,
)

F64 = torch.float64
SIZES = (0.1, 0.05, 0.025)


class Curved(nn.Module):
    """tanh(w z + v), whose loss has derivatives of every order in an error of z."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 2, dtype=F64, generator=generator))

    def forward(self, z):
        return torch.tanh(z @ self.weight)


def losses(model, batch, strengths):
    z, error = batch
    return [(model(z + s * error) - 0.3).square().mean() for s in strengths]


def batches(count, mean=0.0):
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(count, 2, 5, 3, dtype=F64, generator=generator)
    return [(one[0], torch.full_like(one[1], mean) if mean else one[1]) for one in drawn]


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)


def slope(effects):
    x = torch.tensor([math.log(size) for size in SIZES])
    y = torch.tensor([math.log(effects[size].gap) for size in SIZES])
    return float(((x - x.mean()) @ (y - y.mean())) / ((x - x.mean()) ** 2).sum())


@pytest.mark.parametrize(
    ("objective", "mean", "order"),
    [(mirrored, 0.0, 4), (lambda s: {s: 1.0}, 0.0, 1), (lambda s: {s: 1.0}, 1.0, 1)],
    ids=["mirrored", "single", "drift"],
)
def test_the_distance_to_the_explicit_term_has_its_order(objective, mean, order):
    pairs = {size: (objective(size), explicit_term(size)) for size in SIZES}
    found = compare_training(Curved(), sgd, losses, batches(3), batches(20, mean), pairs)
    assert abs(slope(found) - order) < 0.3
    assert (abs(found[0.025].ratio - 1) < 0.02) == (order == 4)


def test_effects_are_those_of_training_written_out():
    model, warm_up, rest = Curved(), batches(2), batches(4, 0.5)
    pair = ({0.3: 1.0}, explicit_term(0.3))
    found = compare_training(model, sgd, losses, warm_up, rest, {"pair": pair})["pair"]
    ends = []
    for objective in ({0.0: 1.0}, *pair):
        own = copy.deepcopy(model)
        optimiser = sgd(own)
        train(own, optimiser, losses, warm_up, {0.0: 1.0})
        train(own, optimiser, losses, rest, objective)
        ends.append(own.weight.detach().flatten())
    change, expected = ends[1] - ends[0], ends[2] - ends[0]
    assert found.ratio == pytest.approx(float(change @ expected / expected.square().sum()))
    assert found.gap == pytest.approx(float((change - expected).norm()))
    assert found.size == pytest.approx(float(expected.norm()))
    assert torch.equal(model.weight, Curved().weight)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="number of batches=0"):
        compare_training(Curved(), sgd, losses, [], [], {})
    with pytest.raises(ValueError, match=r"use model\.double\(\)"):
        compare_training(Curved().float(), sgd, losses, [], batches(1), {})


@pytest.fixture(scope="module")
def filtered():
    run = trained_run("weight0-seed0")
    return FilteredModel(run.model.world_model, run.episodes(40, None, 0))


@torch.no_grad()
def test_losses_side_by_side_are_those_of_the_world_model_one_by_one(filtered):
    (batch,) = filtered.batches(0, 1, "white")
    together = filtered.losses(filtered.model, batch, [0.0, 0.2, -0.1])
    model = filtered.model
    for strength, loss in zip([0.0, 0.2, -0.1], together, strict=True):
        state, posterior = model.rssm.filter(
            model.encoder(batch.rows.observation), batch.rows.previous_action, batch.rows.is_first,
            batch.posterior, None, strength * batch.error,
        )  # fmt: skip
        seen = Observed(State(state.deter, state.stoch), model.rssm.prior(state.deter), posterior)
        expected = total_loss(model.losses(batch.rows, seen), model.weights())
        assert float(loss) == pytest.approx(float(expected), rel=1e-12)
    assert float(together[0]) != float(together[1])
    assert model.config.free_nats == 0.0


def test_errors_of_a_kind_are_what_is_said_and_share_all_else(filtered):
    white, drift = (filtered.batches(3, 2, kind) for kind in ("white", "drift"))
    for one, other in zip(white, drift, strict=True):
        assert torch.equal(one.rows.observation, other.rows.observation)
        assert torch.equal(one.posterior, other.posterior)
    signs = drift[0].error / filtered.spread
    assert torch.equal(signs, signs[:1, :1].expand_as(signs))
    assert torch.equal(signs.abs(), torch.ones_like(signs))
    assert torch.equal(drift[0].error, drift[1].error)
    drawn = torch.cat([one.error / filtered.spread for one in filtered.batches(0, 40, "white")])
    assert len(drawn) == 40 * BATCH
    assert abs(float(drawn.mean())) < 0.01 and abs(float(drawn.std()) - 1) < 0.01


def script():
    spec = importlib.util.spec_from_file_location(
        "implicit", ROOT / "analysis" / "fig_implicit_regularisation.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_verdicts_follow_the_declared_bands():
    module = script()

    def rows(kind, order, ratio, spread=0.01):
        return [
            {"kind": kind, "strength": s, "seed": seed, "ratio": ratio + spread * (seed - 1),
             "gap": s ** (order + spread * (seed - 1)), "size": s**2}
            for s in module.STRENGTHS
            for seed in range(3)
        ]  # fmt: skip

    every = [row for kind in module.KINDS for row in rows(kind, 4.0, 1.0)]
    assert module.verdict(every, "noise") == "holds"
    for changed, said in (
        (rows("noise", 1.0, 1.0), "fails"),
        (rows("noise", 4.0, 1.5), "fails"),
        (rows("noise", 4.0, 1.2, spread=0.1), "undecided"),
        (rows("noise", 4.45, 1.0, spread=0.1), "undecided"),
    ):
        others = [row for row in every if row["kind"] != "noise"]
        assert module.verdict(others + changed, "noise") == said
    assert module.orders(every, "noise").estimate == pytest.approx(4.0)


def test_seeds_that_a_table_holds_are_not_trained_again(tmp_path, monkeypatch):
    module, asked = script(), []

    def compute(filtered, seeds, updates, finished):
        asked.append(([*seeds], updates))
        row = {"kind": "noise", "strength": 0.1, "ratio": 1.0, "gap": 0.1, "size": 1.0}
        return [row | {"seed": seed} for seed in seeds]

    monkeypatch.setattr(module, "compute", compute)
    table = tmp_path / "table.csv"
    for seeds, updates in ((2, 3), (3, 3), (3, 4)):
        module.write(table, seeds, updates)
    assert asked == [([0], 3), ([1], 3), ([2], 3), *(([seed], 4) for seed in range(3))]
    assert [row["seed"] for row in read_table(table)[0]] == [0, 1, 2]


def test_readme_says_what_the_committed_rows_show():
    module = script()
    rows, facts = read_table(ROOT / "figures" / "data" / "fig_implicit_regularisation.csv")
    assert module.verdict(rows, "drift") == "fails"
    text = (ROOT / "README.md").read_text("utf-8")
    order = module.orders(rows, "noise")
    assert f"order {order.estimate:.2f} ({order.low:.2f} to {order.high:.2f})" in text
    assert f"over {len({row['seed'] for row in rows})} seeds" in text and facts["updates"] == "500"
    assert f"verdict: {module.verdict(rows, 'noise')}" in text


@pytest.mark.parametrize("strength", [0.0, -0.0, 1e-3, 0.5])
def test_the_weights_of_every_objective_add_up_to_one(strength):
    """±0 is one key: the loss had half its weight without an error."""
    for objective in (mirrored(strength), explicit_term(strength)):
        assert sum(objective.values()) == pytest.approx(1.0)
        assert sum(weight * s for s, weight in objective.items()) == 0.0


def test_a_strength_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="strength=nan"):
        mirrored(math.nan)

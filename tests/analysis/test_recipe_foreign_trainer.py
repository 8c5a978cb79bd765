"""The recipe of the penalty in a foreign trainer: it trains, shrinks the Jacobian, and refuses."""

import importlib.util
from functools import partial

import pytest
import torch

from sdewm.base.records import ROOT
from sdewm.jacobian.penalty import Exact, jacobian_penalty


@pytest.fixture(scope="module")
def recipe():
    path = ROOT / "analysis" / "recipe_foreign_trainer.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batches(recipe, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [recipe.draw_batch(generator) for _ in range(count)]


def size_of_jacobian(recipe, model, batch):
    with torch.no_grad():
        _, h, z = model.losses(batch)
    few = (h[:16], z[:16])
    step = recipe.latent_step(model, batch.actions.flatten(0, 1)[:16])
    return float(jacobian_penalty(step, few, Exact()).detach())


@pytest.mark.parametrize("situation", ["eager", "autocast"])
def test_the_penalty_trains_and_shrinks_the_jacobian(recipe, situation, monkeypatch):
    monkeypatch.setattr(recipe, "WEIGHT", 10.0)
    (held_out,), train = batches(recipe, 1, seed=9), batches(recipe, 15)
    sizes = {}
    for penalised in (False, True):
        trainer = recipe.Trainer(situation, penalised)
        losses = [trainer.update(batch) for batch in train]
        assert min(losses[-3:]) < losses[0]
        sizes[penalised] = size_of_jacobian(recipe, trainer.model, held_out)
    assert sizes[True] < 0.9 * sizes[False]


def test_eager_and_compiled_updates_agree(recipe, monkeypatch):
    # The real compiler takes a minute for the same graph.
    monkeypatch.setattr(recipe, "LENGTH", 3)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    losses = {}
    for situation in ("eager", "compiled"):
        trainer = recipe.Trainer(situation, penalised=True)
        losses[situation] = [trainer.update(batch) for batch in batches(recipe, 3)]
    assert losses["compiled"] == pytest.approx(losses["eager"], rel=1e-4)


def test_a_straight_through_sample_is_refused_before_training(recipe, monkeypatch):
    (batch,) = batches(recipe, 1)
    recipe.require_sound(batch)

    def step_of(model, actions):
        def step(h, z):
            h = model.cell(torch.cat([z, actions], 1), h)
            mean, _ = model.moments(model.prior(h))
            return h, torch.round(0.2 * mean.detach()) + mean - mean.detach()

        return step

    monkeypatch.setattr(recipe, "latent_step", step_of)
    with pytest.raises(ValueError, match="16 of 144 outputs of step .* are straight-through"):
        recipe.require_sound(batch)


def test_the_table_has_a_ratio_with_quartiles_for_each_situation(recipe, capsys):
    recipe.main(["--only", "eager", "autocast", "--rounds", "2", "--updates", "1"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["eager", "autocast"]
    for row in rows:
        median, low, high = map(float, row[1:])
        assert low <= median <= high and 0.2 < median < 20
    with pytest.raises(SystemExit):
        recipe.main(["--rounds", "1"])
    assert "--rounds=1" in capsys.readouterr().err

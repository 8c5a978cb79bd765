"""Recipes bring world models of four kinds to all analyses; so do torchrl's own modules."""

import ast
import copy
import importlib.util
from pathlib import Path

import pytest
import torch

import sdewm
from sdewm.scripts.model_recipe import five_analyses

FOLDER = Path(__file__).resolve().parents[2] / "analysis"
RECIPES = {  # the label of the noise, and what open-loop predictions have
    "gaussian_rssm": ("exact", "'observations', 'kl'"),
    "onehot_rssm": ("surrogate: Gaussian of the same mean and covariance", "'observations', 'kl'"),
    "deterministic_latent": ("exact", ""),
    "image_model": ("exact", "'observations', 'kl'"),
}
ANALYSES = ["error", "expansion", "divergence", "open loop", "stability"]


def loaded(name):
    path = FOLDER / f"recipe_{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_few_lines_gives_all_five_analyses(name, capsys):
    text = (FOLDER / f"recipe_{name}.py").read_text(encoding="utf-8")
    (build,) = (
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == "build"
    )
    assert build.end_lineno - build.lineno + 1 <= 20
    assert len(text.splitlines()) <= 70
    module = loaded(name)
    module.recipe_main(module.build, module.__doc__, ["--seed", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in lines] == ANALYSES  # and no finding of check_model
    label, parts = RECIPES[name]
    assert lines[1].endswith(f"({label})") and lines[2].endswith(f"({label})")
    assert lines[3].endswith(f"with [{parts}]")
    assert not any(word in line for line in lines for word in ("nan", "inf"))


def test_a_recipe_describes_itself_and_refuses_other_arguments(capsys):
    module = loaded("gaussian_rssm")
    with pytest.raises(SystemExit) as stopped:
        module.recipe_main(module.build, module.__doc__, ["--help"])
    assert stopped.value.code == 0 and "PlaNet and Dreamer" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        module.recipe_main(module.build, module.__doc__, ["--seed", "-1"])
    assert stopped.value.code == 2 and "--seed=-1" in capsys.readouterr().err


def test_a_finding_is_printed_before_the_analyses(capsys):
    module = loaded("gaussian_rssm")

    def build(seed):
        model, episodes = module.build(seed)
        model.decoder = None
        model.reward = lambda states: states
        return model, episodes

    with pytest.raises(ValueError, match="reward returned shape"):
        module.recipe_main(build, module.__doc__, [])
    assert "found       reward returned shape" in capsys.readouterr().out


def test_modules_of_torchrl_come_in_by_their_parts():
    models = pytest.importorskip("torchrl.modules.models.model_based")
    data = pytest.importorskip("torchrl.data")
    torch.manual_seed(0)
    spec = data.Bounded(-torch.ones(2), torch.ones(2))
    prior = models.RSSMPrior(spec, hidden_dim=8, rnn_hidden_dim=8, state_dim=3, action_dim=2)
    posterior = models.RSSMPosterior(8, 3, rnn_hidden_dim=8, obs_embed_dim=4)
    wide, wide_posterior = (copy.deepcopy(part).double() for part in (prior, posterior))
    model = sdewm.RSSM(
        lambda h, z, a: wide.rnn(wide.action_state_projector(torch.cat([z, a], -1)), h),
        prior=prior.rnn_to_prior_projector,
        posterior=lambda h, e: wide_posterior.obs_rnn_to_post_projector(torch.cat([h, e], -1)),
        encoder=torch.nn.Linear(5, 4),
        deter=8,
        gaussian=3,
    )
    state, action, embed = torch.randn(6, 11), torch.rand(6, 2), torch.randn(6, 4)
    h, z = state.split([8, 3], 1)
    with torch.no_grad():
        mean, std, _, belief = prior(z, h, action)
        seen_mean, seen_std, _ = posterior(belief, embed)
        given = (state.double(), action.double())
        law, spread = model.step_moments(*given)
        near = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(law.float(), torch.cat([belief, mean], 1), **near)
        torch.testing.assert_close(spread.float(), std, **near)
        moments = model.moments(law, embed.double())
    for found, expected in zip(moments, (seen_mean, seen_std), strict=True):
        torch.testing.assert_close(found.float(), expected, **near)
    episodes = sdewm.Episodes(
        torch.randn(8, 10, 5), 2 * torch.rand(8, 10, 2) - 1, torch.randn(8, 10)
    )
    lines = [*five_analyses(model, episodes, 0)]
    assert len(lines) == 5 and "(exact)" in lines[2]

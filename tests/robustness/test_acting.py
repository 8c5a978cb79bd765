"""Agents that act under errors of their latent, attacks, and on what another model decodes."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from sdewm.cli import main
from sdewm.perturbations.adversarial import AdversarialPerturbation
from sdewm.perturbations.dynamics import NAMES, DynamicsPerturbation
from sdewm.perturbations.latent import LatentPerturbation
from sdewm.perturbations.parsing import perturbations_of
from sdewm.robustness.acting import (
    AttackedPolicy,
    DynamicsChange,
    LatentErrors,
    LatentSpread,
    acts_in,
    check_applies,
    check_simulator,
)
from sdewm.robustness.evaluation import over_runs, perturbed_returns
from sdewm.robustness.filter_policy import FilterPolicy
from sdewm.train.evaluation import evaluate
from sdewm.train.saved_agent import saved_agent
from tests.robustness.short_runs import SHIPPED, short_copy

DEVIATION = torch.tensor([0.5, 2.0])


@pytest.fixture
def runs(tmp_path):
    return [short_copy("agent", tmp_path / name) for name in ("one", "two")]


@pytest.fixture(scope="module")
def saved():
    return saved_agent(SHIPPED / "agent")


def rows(count=2, first=True, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    return {
        "observation": drawn,
        "previous_action": np.full((count, 1), 0.0 if first else 0.5, np.float32),
        "reward": np.zeros(count, np.float32),
        "is_first": np.full(count, first),
    }


def test_latent_errors_are_functions_of_environment_episode_and_step():
    def drawn(name="latent-noise", task="a"):
        errors = LatentErrors(LatentPerturbation(name, 1.0), DEVIATION, task)
        zero, first = torch.zeros(2, 2), torch.tensor([True, True])
        return [errors(zero, first), errors(zero, ~first), errors(zero, first)], errors

    found, errors = drawn()
    assert all(torch.equal(a, b) for a, b in zip(found, drawn()[0], strict=True))
    assert not torch.equal(found[0], drawn(task="b")[0][0])
    assert not torch.equal(found[0][0], found[0][1]) and not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])  # another episode
    assert errors.realised.count == 12
    held, _ = drawn("latent-drift")
    assert torch.equal(held[0], held[1]) and held[0].abs().tolist() == [[0.5, 2.0]] * 2


def test_errors_of_a_component_that_does_not_vary_have_no_size_in_its_deviations():
    """A class that is never drawn without errors, and is under them."""
    deviation = torch.tensor([0.0, 2.0])
    errors = LatentErrors(LatentPerturbation("latent-scale", 0.5), deviation, "a")
    for step in range(2000):
        errors(torch.tensor([[1.0, 2.0]]), torch.tensor([step == 0]))
    found = errors.realised.summary()
    assert found["realised_std"] == pytest.approx(0.5, rel=0.05) and errors.realised.count == 2000


def test_latent_errors_do_not_depend_on_the_number_of_environments():
    """Four episodes of two steps in one environment after the other, and two at a time."""
    perturbation = LatentPerturbation("latent-noise", 1.0)

    def drawn(envs):
        errors, found = LatentErrors(perturbation, DEVIATION, "a"), []
        for _ in range(4 // envs):
            for first in (True, False):
                found.append(errors(torch.zeros(envs, 2), torch.full((envs,), first)))
        return torch.stack(found).unflatten(0, (-1, 2)).transpose(1, 2).flatten(0, 1)

    alone = drawn(1)
    assert torch.equal(alone, drawn(2)) and torch.equal(alone, drawn(4))
    assert not torch.equal(alone[0], alone[1])


def test_changed_physics_do_not_depend_on_the_number_of_environments(saved):
    class Resting:
        def start(self, envs):
            return {"nothing": torch.zeros(envs)}

        def __call__(self, given, state):
            return np.zeros((len(given["reward"]), 1), np.float32), state, {}

    def factors(envs):
        change = DynamicsChange(DynamicsPerturbation("gravity", 0.5, "walk"))
        config = replace(saved.config, envs=envs, action_repeat=100)
        evaluate(Resting(), config, episodes=4, change=change)
        return np.array([one.factors for one in change.made]).reshape(envs, 4 // envs, 1000)

    alone, pairs = factors(1)[0], factors(2)
    assert np.array_equal(alone, pairs.swapaxes(0, 1).reshape(4, 1000))
    assert not np.array_equal(alone[0], alone[1])


def test_the_spread_is_the_standard_deviation_over_rows():
    spread, values = LatentSpread(), torch.randn(5, 3, 2)
    for one in values:
        assert spread(one, torch.zeros(3, dtype=torch.bool)) is one
    expected = values.double().flatten(0, 1).std(0, correction=0)
    torch.testing.assert_close(spread.deviation, expected)


def test_the_actor_sees_the_error_and_so_does_the_next_step(saved):
    def actions(error):
        policy = saved.agent.policy("mean")
        policy.latent_error = error
        state = policy.start(2)
        return [policy(rows(), state)[0], policy(rows(first=False), policy(rows(), state)[1])[0]]

    plain, shifted = actions(None), actions(lambda stoch, first: stoch + 3.0)
    again = actions(lambda stoch, first: stoch)
    for a, b, c in zip(plain, shifted, again, strict=True):
        assert np.array_equal(a, c) and np.abs(a - b).max() > 1e-3


def test_an_attack_moves_the_posterior_more_than_noise_of_its_size(saved):
    rssm = saved.agent.world_model.rssm

    def posterior(seen, policy):
        state = policy.start(2)
        with torch.no_grad():
            deter = rssm.deterministic(rssm.initial(2), torch.zeros(2, 1))
            embed = saved.agent.world_model.encoder(torch.as_tensor(seen))
            assert state["deter"].shape == deter.shape
            return rssm.latent.mean(rssm.posterior(deter, embed))

    policy = saved.agent.policy("mean")
    attack = AdversarialPerturbation("pgd-posterior", 0.1)
    acting = AttackedPolicy(saved.agent, policy, attack, "task")
    given = rows()
    attacked = acting._attacked(given, policy.start(2))
    size = np.abs(attacked - given["observation"]).max()
    assert 0.09 < size <= 0.1 + 1e-6
    clean = posterior(given["observation"], policy)
    moved = (posterior(attacked, policy) - clean).norm(dim=1)
    signs = np.random.default_rng(1).choice([-0.1, 0.1], given["observation"].shape)
    noisy = posterior((given["observation"] + signs).astype(np.float32), policy)
    assert bool((moved >= (noisy - clean).norm(dim=1)).all())


def test_attacks_do_not_depend_on_the_number_of_environments(saved):
    """Four episodes of two rows in one environment after the other, and two at a time."""
    attack = AdversarialPerturbation("fgsm-posterior", 0.1)
    episodes = rows(1)["observation"].repeat(4, 0)  # the draws alone tell the episodes apart

    def attacked(envs):
        acting = AttackedPolicy(saved.agent, saved.agent.policy("mean"), attack, "task")
        state, found = acting.start(envs), []
        for start in range(0, 4, envs):
            for first in (True, False):
                given = {**rows(envs, first), "observation": episodes[start : start + envs]}
                found.append(acting._attacked(given, state) - given["observation"])
        return np.stack(found).reshape(-1, 2, envs, 5).swapaxes(1, 2).reshape(4, 2, 5)

    alone = attacked(1)
    np.testing.assert_array_equal(alone, attacked(2))
    np.testing.assert_array_equal(alone, attacked(4))
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize(
    ("strength", "levels"), [(0.05, 12), (0.01, 2), (0.004, 1), (0.003, 0), (0.0, 0)]
)
def test_attacked_images_stay_in_the_ball_of_the_strength(strength, levels):
    """An encoder that weights the pixels; the largest |δ| was 13, 3, 1 and 1 levels."""
    rssm = SimpleNamespace(
        deterministic=lambda before, action: torch.zeros(2, 1),
        posterior=lambda deter, embed: embed,
        latent=SimpleNamespace(mean=lambda law: law),
    )
    weights = torch.linspace(0.5, 1.5, 192)[:, None]
    model = SimpleNamespace(rssm=rssm, encoder=lambda x: (x.flatten(1) / 255 - 0.5) @ weights)
    agent, seen = SimpleNamespace(world_model=model, device=torch.device("cpu")), []
    attack = AdversarialPerturbation("pgd-posterior", strength)

    def act(given, state):
        seen.append(given["observation"])

    acting = AttackedPolicy(cast(Any, agent), cast(Any, act), attack, "task")
    images = np.random.default_rng(0).integers(20, 236, (2, 8, 8, 3)).astype(np.uint8)
    state = {"deter": torch.zeros(2, 1), "stoch": torch.zeros(2, 1)}
    acting({**rows(), "observation": images}, state)
    assert seen[0].dtype == np.uint8
    change = np.abs(seen[0].astype(int) - images)
    assert (change == levels).all() and levels / 255 <= strength


def test_an_attack_on_the_value_lowers_it(saved):
    policy, given = saved.agent.policy("mean"), rows()
    acting = AttackedPolicy(saved.agent, policy, AdversarialPerturbation("pgd-value", 0.2), "task")
    rssm, critic = saved.agent.world_model.rssm, saved.agent.behaviour.critic

    def value(seen):
        deter = rssm.deterministic(rssm.initial(2), torch.zeros(2, 1))
        embed = saved.agent.world_model.encoder(torch.as_tensor(seen))
        mean = rssm.latent.mean(rssm.posterior(deter, embed))
        return critic.mean(critic(torch.cat([deter, mean], 1)))

    with torch.no_grad():
        before, after = value(given["observation"]), value(acting._attacked(given, policy.start(2)))
    assert bool((after < before).all())


def test_what_a_world_model_decodes_is_what_the_other_agent_sees(saved):
    seen = []

    class Watching:
        def start(self, envs):
            return {"count": torch.zeros(envs)}

        def __call__(self, given, state):
            seen.append(given["observation"])
            return np.zeros((2, 1), np.float32), {"count": state["count"] + 1}, {}

    model = saved.agent.world_model
    filtering = FilterPolicy(model, Watching(), torch.Generator().manual_seed(0))
    state = filtering.start(2)
    for first in (True, False):
        _, state, _ = filtering(rows(first=first, seed=int(first)), state)
    assert state["count"].tolist() == [2.0, 2.0]
    generator, before = torch.Generator().manual_seed(0), model.rssm.initial(2)
    for step, first in enumerate((True, False)):
        given = rows(first=first, seed=int(first))
        with torch.no_grad():
            before = model.rssm.observe_step(
                before,
                torch.as_tensor(given["previous_action"]),
                torch.as_tensor(given["is_first"]),
                model.encoder(torch.as_tensor(given["observation"])),
                model.rssm.latent.draw_noise((2,), generator),
            )
            decoded = model.decoder.predict(before.features)
        np.testing.assert_array_equal(seen[step], decoded.numpy())


def test_several_runs_are_aggregated_over_runs(runs, capsys):
    words = ["--episodes", "2", "--perturb", "gravity:0.5", "fgsm-value:0.1"]
    assert main(["evaluate", *map(str, runs), *words]) == 0
    said = capsys.readouterr().out
    assert "over 2 runs: 95 % t intervals over runs" in said and said.count("gravity:0.5") == 3
    tables = [
        [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()][-4:]
        for run in runs
    ]
    for row in tables[0]:
        assert np.isfinite(row.get("realised_std", 0.0))
    assert tables[0][2]["realised_mean"] == pytest.approx(0.5)


def test_the_difference_over_runs_is_paired_by_run():
    def table(plain, noisy):
        return [
            {"perturbation": "none", "mean_return": plain},
            {"perturbation": "noise:1", "mean_return": noisy, "realised_std": 1.0},
        ]

    found = over_runs([table(100.0, 90.0), table(500.0, 488.0), table(900.0, 891.0)])[1]
    assert found["difference"] == pytest.approx(-31 / 3) and found["difference_high"] < 0
    assert found["low"] < 0 < found["high"]  # unpaired, nothing would be seen
    assert found["realised_std"] == 1.0


def test_another_runs_agent_acts_on_filtered_observations(tmp_path, runs, capsys):
    model = short_copy("weight0-seed0", tmp_path / "model")
    words = ["--episodes", "2", "--perturb", "noise:0.2", "--policy", str(runs[0])]
    assert main(["evaluate", str(model), *words]) == 0
    last = json.loads((model / "evaluation.jsonl").read_text().splitlines()[-1])
    assert last["policy"] == str(runs[0]) and last["perturbation"] == "noise:0.2"
    assert main(["evaluate", str(model), *words[:3], "latent-noise:0.1", *words[-2:]]) == 2
    assert "needs the run's own policy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "RUN: expected a run directory"),
        (["ONE", "TWO"], "several runs, and --policy, need --perturb"),
        (["ONE", "--policy", "TWO"], "several runs, and --policy, need --perturb"),
        (["ONE", "nowhere", "--perturb", "noise:0"], "nowhere"),
        (["ONE", "--perturb", "noise:0", "--policy", "nowhere"], "nowhere"),
        (["ONE", "--perturb", "paperr"], "expected NAME:STRENGTH"),
        (["ONE", "ONE", "--perturb", "noise:0"], "a run directory is given twice"),
    ],
)
def test_wrong_words_are_refused_before_an_episode(runs, words, said, capsys):
    places = {"ONE": str(runs[0]), "TWO": str(runs[1])}
    before = (runs[0] / "evaluation.jsonl").read_bytes()
    assert main(["evaluate", *(places.get(word, word) for word in words)]) == 2
    assert said in capsys.readouterr().err
    assert (runs[0] / "evaluation.jsonl").read_bytes() == before


def test_a_perturbation_without_effect_is_refused_before_an_episode(saved):
    acted = []
    reacher = replace(saved, config=replace(saved.config, env="dmc:reacher_easy"))
    named = [DynamicsPerturbation("friction", 0.5), DynamicsPerturbation("gravity", 0.5)]
    with pytest.raises(ValueError, match="gravity changes nothing in dmc:reacher_easy"):
        perturbed_returns(reacher, named, episodes=2, seed=0, progress=acted.append)
    assert not acted
    check_simulator(named, saved.config)  # negative control
    with pytest.raises(ValueError, match="is for dmc: environments"):
        check_simulator(named, replace(saved.config, env="gym:Pendulum-v1"))


def test_paper_leaves_out_what_changes_nothing_in_the_simulator(saved):
    def left_out(env):
        config = replace(saved.config, env=env)
        fits = partial(check_applies, config=config, own_policy=True)
        return [one.label for one in perturbations_of(("paper",), fits)[1]]

    assert left_out("dmc:cartpole_swingup") == ["rotation:20", "rotation:30"]
    assert left_out("dmc:reacher_easy")[2:] == ["gravity:-0.5", "gravity:0.5"]


def test_what_acts_in_an_environment_is_known_beforehand():
    found = [name for name in NAMES if acts_in(name, "dmc:swimmer_swimmer6")]
    assert found == ["mass", "actuator", "delay"]
    assert all(acts_in(name, "dmc:walker_walk") for name in NAMES)
    assert not acts_in("gravity", "gym:Pendulum-v1")
    for wrong in (("gravty", "dmc:walker_walk"), ("gravity", "dmc:walker_wlak")):
        with pytest.raises(ValueError, match="did you mean"):
            acts_in(*wrong)


def test_what_is_changed_is_read_back_where_a_run_has_worker_processes(saved):
    config = replace(saved.config, envs=2, workers=True, action_repeat=20)
    several = replace(saved, config=config)
    gravity = DynamicsPerturbation("gravity", 0.5)
    rows = perturbed_returns(several, [gravity], episodes=2, seed=0)
    assert rows[-1]["realised_mean"] == pytest.approx(0.5) and rows[-1]["realised_share"] == 1.0

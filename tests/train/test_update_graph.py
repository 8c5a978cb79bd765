"""Replayed updates against ordinary ones; a recorder on the CPU takes the place of CUDA graphs."""

from dataclasses import replace

import pytest
import torch

from sdewm.train.update_graph import CHECKED, WARM_UP, UpdateGraph
from tests.train.recorder import CpuRecorder
from tests.train.small_agent import GAUSSIAN, SMALL, make_agent, make_batch

LAPROP = replace(GAUSSIAN.optimiser, algorithm="laprop")
PENALISED = replace(SMALL.jacobian, weight=0.1, schedule="decay", schedule_updates=3)
CONFIGS = {
    "categorical, REINFORCE": SMALL,
    "Gaussian, dynamics": replace(GAUSSIAN, optimiser=LAPROP),
    "penalty with a schedule": replace(SMALL, jacobian=PENALISED),
    "penalty on some rows": replace(
        SMALL, jacobian=replace(SMALL.jacobian, weight=0.1, fraction=0.5)
    ),
}
UPDATES = WARM_UP + CHECKED + 6


def graph_of(agent):
    agent._graph = UpdateGraph(agent._learn, agent.learned, CpuRecorder)
    return agent._graph


def run(agent, config, updates=UPDATES):
    """Metrics of all updates, each on a batch of its own."""
    return [agent.update(make_batch(config, seed=seed)) for seed in range(updates)]


def same(ours, theirs, agents):
    """Whether metrics, refreshed latents and weights agree to rounding."""
    close = [
        torch.allclose(a[key], b[key], rtol=1e-4, atol=1e-6)
        for one, two in zip(ours, theirs, strict=True)
        for a, b in zip(one, two, strict=True)
        for key in b
    ]
    for name in ("world_model", "behaviour"):
        pairs = zip(*(getattr(agent, name).state_dict().values() for agent in agents), strict=True)
        close += [torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs]
    return all(close)


@pytest.mark.parametrize("kind", [*CONFIGS])
def test_replayed_updates_are_ordinary_updates(kind):
    config = CONFIGS[kind]
    agents = make_agent(config), make_agent(config)
    graph = graph_of(agents[0])
    ours, theirs = (run(agent, config) for agent in agents)
    assert graph.problem is None and graph.replayed == UPDATES - WARM_UP - CHECKED
    assert same(ours, theirs, agents)


def frozen_rate(agent):
    """The learning rate as a number, as it was before."""
    step = agent.optimiser.step

    def with_numbers():
        for group in agent.optimiser.algorithm.param_groups:
            group["lr"] = agent.updates / 5 * 1e-3
        return step()

    agent.optimiser.step = with_numbers


def frozen_penalty(agent):
    """The penalty's weight as a number."""
    losses = agent.model_losses

    def with_numbers(*arguments):
        found, metrics, seen = losses(*arguments)
        found["jacobian"] = found["jacobian"] * (10.0 * agent.updates)
        return found, metrics, seen

    agent.model_losses = with_numbers


@pytest.mark.parametrize("mistake", [frozen_rate, frozen_penalty])
def test_a_number_that_would_be_frozen_is_noticed(mistake, capsys):
    config = CONFIGS["penalty with a schedule"]
    agent, other = make_agent(config), make_agent(config)
    graph = graph_of(agent)
    mistake(agent)
    mistake(other)
    agent._graph._learn = agent._learn
    ours, theirs = run(agent, config), run(other, config)
    assert "a replay differs from an ordinary update" in graph.problem and graph.replayed == 0
    assert capsys.readouterr().err.count("Updates run without a CUDA graph") == 1
    assert same(ours, theirs, (agent, other))  # the ordinary updates stand


def test_work_that_reads_on_the_host_cannot_be_recorded(capsys):
    agent, other = make_agent(), make_agent()
    graph = graph_of(agent)
    learn = graph._learn

    def reading(*arguments):
        metrics, seen = learn(*arguments)
        float(metrics["loss/total"])
        return metrics, seen

    graph._learn = reading
    ours, theirs = run(agent, SMALL), run(other, SMALL)
    assert "cannot be recorded: aten::_local_scalar_dense" in graph.problem
    assert same(ours, theirs, (agent, other))


def test_restored_moments_are_recorded_anew_and_other_shapes_run_as_usual():
    agents = make_agent(), make_agent()
    graph = graph_of(agents[0])
    for agent in agents:
        run(agent, SMALL)
        agent.load_state_dict(make_agent().state_dict() | {"updates": 3})
    assert graph.replayed > 0
    ours, theirs = (run(agent, SMALL) for agent in agents)
    assert same(ours, theirs, agents) and graph.problem is None
    longer = replace(SMALL, batch_length=8)
    replayed = graph.replayed
    ours, theirs = (run(agent, longer, 1) for agent in agents)
    assert same(ours, theirs, agents) and graph.replayed == replayed

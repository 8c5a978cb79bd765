"""A real agent of the smallest size, and batches for it."""

from dataclasses import replace

import torch
from gymnasium.spaces import Box

from sdewm.model.behaviour import BehaviourConfig
from sdewm.model.rssm import RSSMConfig
from sdewm.model.world_model import WorldModelConfig
from sdewm.train.agent import Agent
from sdewm.train.config import Config
from sdewm.train.optimiser import OptimiserConfig

OBSERVATIONS, ACTIONS = 4, 2
MODEL = WorldModelConfig(
    rssm=RSSMConfig(deter=16, hidden=8, blocks=4, groups=4, classes=4),
    units=16,
    vector_layers=1,
    bins=41,
)
BEHAVIOUR = BehaviourConfig(imagination_horizon=4, units=16, actor_layers=1, critic_layers=1)
SMALL = Config(
    preset="test",
    envs=2,
    workers=False,
    batch_size=3,
    batch_length=6,
    log_every_updates=1000,
    model=MODEL,
    behaviour=BEHAVIOUR,
    optimiser=OptimiserConfig(model_lr=3e-3, actor_lr=1e-3, critic_lr=1e-3, warmup_updates=5),
)
GAUSSIAN = replace(
    SMALL,
    context=0,
    model=replace(
        MODEL, rssm=RSSMConfig(cell="gru", deter=16, hidden=8, latent="gaussian", gaussian_size=5)
    ),
    behaviour=replace(
        BEHAVIOUR,
        actor_gradient="dynamics",
        actor_distribution="truncated_normal",
        replay_critic_weight=0.0,
    ),
)


def make_agent(config=SMALL, **changes):
    config = replace(config, **changes)
    return Agent(config, Box(-1, 1, (OBSERVATIONS,)), Box(-1, 1, (ACTIONS,)))


def make_batch(config=SMALL, seed=0, firsts=((1, 4),)):
    """Rows (B, context + T, …) of a small linear system; `firsts` are (sequence, row)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (config.batch_size, config.context + config.batch_length)
    action = 2 * torch.rand(*shape, ACTIONS, generator=generator) - 1
    is_first, is_last = torch.zeros(2, *shape, dtype=torch.bool)
    for b, t in firsts:
        is_first[b, t], is_last[b, t - 1] = True, True
    action[is_first] = 0.0
    states = [torch.randn(shape[0], OBSERVATIONS, generator=generator)]
    matrix = 0.3 * torch.randn(ACTIONS, OBSERVATIONS, generator=generator)
    for t in range(1, shape[1]):
        states.append(0.9 * states[-1] + action[:, t] @ matrix)
    observation = torch.stack(states, 1)
    rssm = config.model.rssm
    batch = {
        "observation": observation,
        "previous_action": action,
        "reward": observation[..., 0] * ~is_first,
        "is_first": is_first,
        "is_last": is_last,
        "is_terminal": is_last.clone(),
    }
    if config.context:
        deter = torch.tanh(torch.randn(*shape, rssm.deter, generator=generator))
        batch["deter"] = deter.to(torch.float16)
        batch["stoch"] = torch.randint(
            0, rssm.classes, (*shape, rssm.groups), generator=generator
        ).to(torch.uint8)
    return batch


def weights_of(*modules):
    return [weight.detach().clone() for module in modules for weight in module.parameters()]


def same(before, *modules):
    """Whether all weights are bitwise what they were."""
    return all(torch.equal(a, b) for a, b in zip(before, weights_of(*modules), strict=True))

"""Updates compared with torchrl's DreamerV3; `table_bench.py` runs this and stores the rows.

python analysis/bench_torchrl.py --list                             the names with their threads
python analysis/bench_torchrl.py update_dreamerv3_1m_vs_torchrl     the row, as JSON

Both perform updates of preset dreamerv3-1m on the vector observations of cartpole_swingup,
uncompiled and in alternation, with the same layers, losses, optimiser and batch shape. Imagination
starts at every row. If torchrl is not installed, there is no row.
"""

import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from gymnasium.spaces import Box

from sdewm.scripts.benchmark import BenchRow, Measure, bench_row, in_turns, run_script
from sdewm.train.agent import Agent
from sdewm.train.config import Config
from sdewm.train.presets import preset

ROW = "update_dreamerv3_1m_vs_torchrl"
OBSERVATIONS, ACTIONS = 5, 1  # cartpole_swingup
ROUNDS = 5  # of one update each, of seconds


def ours(config: Config, device: torch.device) -> tuple[Callable[[], object], int]:
    """Our update, and the number of parameters it changes."""
    config = replace(config, device=str(device))
    infinite = float("inf")
    agent = Agent(config, Box(-infinite, infinite, (OBSERVATIONS,)), Box(-1.0, 1.0, (ACTIONS,)))
    shape = (config.batch_size, config.context + config.batch_length)
    flags = ("is_first", "is_last", "is_terminal")
    batch = {
        "observation": torch.randn(*shape, OBSERVATIONS),
        "previous_action": 2 * torch.rand(*shape, ACTIONS) - 1,
        "reward": torch.rand(shape),
        **{flag: torch.zeros(shape, dtype=torch.bool) for flag in flags},
    }
    for name, field in agent.latent_fields.items():
        batch[name] = torch.zeros(*shape, *field.shape, dtype=field.dtype)
    batch = {name: value.to(device) for name, value in batch.items()}
    parameters = [weight for part in agent.parts.values() for weight in part.parameters()]
    return lambda: agent.update(batch), sum(weight.numel() for weight in parameters)


def theirs(config: Config, device: torch.device) -> tuple[Callable[[], object], int]:
    """Their complete update: losses, backward pass, optimiser, slow critic."""
    from tensordict import TensorDict
    from torchrl.objectives import SoftUpdate
    from torchrl.trainers.algorithms import DreamerV3OptimizationStepper, DreamerV3Optimizer

    loss, value_loss = torchrl_losses(config)
    loss.to(device)
    stepper = DreamerV3OptimizationStepper(
        loss,
        DreamerV3Optimizer(loss.parameters(), lr=config.optimiser.model_lr),
        SoftUpdate(value_loss, tau=config.behaviour.slow_rate),
        compile_train_step=False,
        cudagraph=False,
    )
    shape, rssm = (config.batch_size, config.batch_length), config.model.rssm
    flag = torch.zeros(*shape, 1, dtype=torch.bool)
    sample = TensorDict(
        {
            "state": torch.zeros(*shape, rssm.groups * rssm.classes),
            "belief": torch.zeros(*shape, rssm.deter),
            "action": 2 * torch.rand(*shape, ACTIONS) - 1,
            "is_init": flag,
            "next": {
                "observation": torch.randn(*shape, OBSERVATIONS),
                "reward": torch.rand(*shape, 1),
                "done": flag,
                "terminated": flag,
            },
        },
        shape,
    ).to(device)
    return lambda: stepper.step(None, sample), sum(w.numel() for w in loss.parameters())


def torchrl_losses(config: Config):
    """Their three losses, and that of the critic alone."""
    from tensordict.nn import (
        NormalParamExtractor,
        ProbabilisticTensorDictModule,
        ProbabilisticTensorDictSequential,
        TensorDictModule,
        TensorDictSequential,
    )
    from torchrl.data import Bounded, Composite, Unbounded
    from torchrl.envs.model_based import DreamerEnv
    from torchrl.modules import (
        DreamerV3MLP,
        IndependentNormal,
        RSSMPosteriorV3,
        RSSMPriorV3,
        RSSMRolloutV3,
        SymExpTwoHot,
        WorldModelWrapper,
    )
    from torchrl.objectives import (
        DreamerV3ActorLoss,
        DreamerV3Loss,
        DreamerV3ModelLoss,
        DreamerV3ValueLoss,
    )

    model, behaviour, rssm = config.model, config.behaviour, config.model.rssm
    assert model.continue_layers is not None
    stoch = rssm.groups * rssm.classes
    sizes = {
        "hidden_dim": rssm.hidden,
        "rnn_hidden_dim": rssm.deter,
        "num_categoricals": rssm.groups,
        "num_classes": rssm.classes,
        "unimix": rssm.unimix,
    }
    prior = RSSMPriorV3(
        action_shape=(ACTIONS,),
        action_dim=ACTIONS,
        recurrent_model="block_gru",
        num_blocks=rssm.blocks,
        prior_num_layers=rssm.prior_layers,
        **sizes,
    )
    posterior = RSSMPosteriorV3(obs_embed_dim=model.units, use_rms_norm=True, **sizes)
    here, there = ["state", "belief"], [("next", "state"), ("next", "belief")]

    def head(outputs: int, layers: int) -> torch.nn.Module:
        return DreamerV3MLP(stoch + rssm.deter, outputs, layers, model.units)

    reward, bins = head(model.bins, model.reward_layers), SymExpTwoHot(model.bins)
    continues, value = head(1, model.continue_layers), head(model.bins, behaviour.critic_layers)
    encoder = DreamerV3MLP(OBSERVATIONS, None, model.vector_layers, model.units)
    world_model = TensorDictSequential(
        TensorDictModule(encoder, [("next", "observation")], [("next", "encoded")]),
        RSSMRolloutV3(
            TensorDictModule(
                prior,
                [*here, "action"],
                [("next", "prior_logits"), ("next", "state"), ("next", "belief")],
            ),
            TensorDictModule(
                posterior,
                [("next", "belief"), ("next", "encoded")],
                [("next", "posterior_logits"), ("next", "state")],
            ),
        ),
        TensorDictModule(head(OBSERVATIONS, model.vector_layers), there, [("next", "reco_pixels")]),
        TensorDictModule(reward, there, [("next", "reward_logits")]),
        TensorDictModule(bins, [("next", "reward_logits")], [("next", "reward")]),
        TensorDictModule(continues, there, [("next", "continue_pred")]),
    )
    imagination = WorldModelWrapper(
        TensorDictModule(prior, [*here, "action"], ["_", *here]),
        TensorDictSequential(
            TensorDictModule(reward, here, ["reward_logits"]),
            TensorDictModule(bins, ["reward_logits"], ["reward"]),
        ),
    )
    env = DreamerEnv(imagination, prior_shape=(stoch,), belief_shape=(rssm.deter,))
    env.observation_spec = Composite(state=Unbounded(stoch), belief=Unbounded(rssm.deter))
    env.state_spec = env.observation_spec.clone()
    env.action_spec, env.reward_spec = Bounded(-1, 1, (ACTIONS,)), Unbounded((1,))
    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(head(2 * ACTIONS, behaviour.actor_layers), here, ["params"]),
        TensorDictModule(NormalParamExtractor(), ["params"], ["loc", "scale"]),
        ProbabilisticTensorDictModule(
            ["loc", "scale"], ["action"], distribution_class=IndependentNormal, return_log_prob=True
        ),
    )
    critic = TensorDictSequential(
        TensorDictModule(value, here, ["value_logits"]),
        TensorDictModule(bins, ["value_logits"], ["state_value"]),
    )
    continuation = TensorDictSequential(
        TensorDictModule(continues, here, ["continue_logit"]),
        TensorDictModule(torch.sigmoid, ["continue_logit"], ["continuation"]),
    )
    model_loss = DreamerV3ModelLoss(
        world_model,
        kl_mode="separate",
        lambda_continue=1.0,
        unimix=rssm.unimix,
        num_reward_bins=model.bins,
        detach_output=False,
    )
    model_loss.set_keys(pixels="observation")
    actor_loss = DreamerV3ActorLoss(
        actor,
        critic,
        env,
        continuation_model=continuation,
        imagination_horizon=behaviour.imagination_horizon,
        use_reinforce=True,
    )
    value_loss = DreamerV3ValueLoss(
        critic,
        value_loss="two_hot",
        num_value_bins=model.bins,
        actor_loss=actor_loss,
        slow_critic_regularization=behaviour.slow_regulariser_weight,
    )
    value_loss.set_keys(value_logits="value_logits")
    weight = behaviour.replay_critic_weight
    loss = DreamerV3Loss(model_loss, actor_loss, value_loss, replay_value_loss_weight=weight)
    return loss, value_loss


def compare(device: torch.device) -> Iterator[BenchRow]:
    config = preset("dreamerv3-1m")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torchrl
        made = {"theirs": theirs(config, device), "ours": ours(config, device)}
        if made["theirs"][1] != made["ours"][1]:
            raise RuntimeError(f"numbers of parameters differ: {made}")
        runs = {who: run for who, (run, _) in made.items()}
        times = in_turns(runs, device, ROUNDS)
    yield bench_row(
        ROW,
        [1e3 * each for each in times["ours"]],
        "ms",
        ratios=[a / b for a, b in zip(times["theirs"], times["ours"], strict=True)],
        baseline="torchrl, not compiled",
        aim=">= 1",
    )


def jobs(device: str) -> dict[tuple[str, ...], Measure]:
    """The row, where torchrl is installed."""
    if device != "cpu":
        return {}
    if importlib.util.find_spec("torchrl") is None:
        print(f"{ROW} is left out: torchrl is not installed", file=sys.stderr)
        return {}
    return {(ROW,): compare}


if __name__ == "__main__":
    run_script(jobs, threads=(1, 2))

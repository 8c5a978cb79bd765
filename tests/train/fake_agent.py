"""A small deterministic agent with every part the training loop asks for, and a command line.

As a script it is `sdewm` with this agent in the place of the real one and the clock of its updates.
It waits before update `HELD_UPDATE` for as long as the file named by the environment variable HOLD
exists, so that a test can stop it while it runs.
"""

import os
import sys
from dataclasses import replace

import torch

from sdewm.data.replay import Field
from sdewm.train.presets import PRESETS

ENV = "own:cartpole_pixels"
HELD_UPDATE = 30


def small_config(**changes):
    """A run of a second: 2 environments, 300 policy steps, 100 updates."""
    settings = {
        "env": ENV,
        "obs": "proprio",
        "envs": 2,
        "workers": False,
        "action_repeat": 10,  # episodes of 100 steps
        "env_frames": 3000,
        "prefill_policy_steps": 100,
        "train_ratio": 16.0,
        "batch_size": 4,
        "batch_length": 8,
        "context": 0,
        "replay_capacity": 400,
        "eval_every_env_frames": 1250,
        "eval_episodes": 2,
        "log_every_updates": 20,
        "checkpoint_every_seconds": 1000.0,
        "deterministic": True,
        "pictures": False,
        "random_prefill": True,
    }
    return replace(PRESETS["tiny"], **(settings | changes))


class UpdateClock:
    """In the place of the module `time`: a second passes with every update of this process."""

    updates = 0

    @classmethod
    def monotonic(cls):
        return float(cls.updates)


class FakePolicy:
    """tanh of a linear map of the observation and of what it remembers, with noise."""

    def __init__(self, agent, mode):
        self.agent, self.mode, self.generator = agent, mode, agent.generator

    def start(self, envs):
        return {"memory": torch.zeros(envs, 1)}

    @torch.no_grad()
    def __call__(self, rows, state):
        observation = torch.as_tensor(rows["observation"]).float().flatten(1)
        fresh = torch.as_tensor(rows["is_first"])[:, None]
        memory = torch.where(fresh, 0.0, state["memory"]) * 0.9 + observation[:, :1]
        action = torch.tanh(self.agent.network(observation) + memory)
        if self.mode == "sample":
            action = action + 0.3 * torch.randn(action.shape, generator=self.agent.generator)
        extras = {"deter": memory.numpy()} if self.mode == "sample" else {}
        return action.clamp(-1, 1).numpy(), {"memory": memory}, extras


class FakeAgent:
    break_at = None  # update whose loss is broken, or whose weights are
    broken_part = "loss"

    def __init__(self, config, observation_space, action_space):
        self.config = config
        self.size = observation_space.shape
        self.network = torch.nn.Linear(int(torch.Size(self.size).numel()), action_space.shape[0])
        self.optimiser = torch.optim.Adam(self.network.parameters(), 1e-2)
        self.generator = torch.Generator().manual_seed(config.seed + 1)
        self.updates = 0

    def compile(self):
        """There is nothing to compile."""

    latent_fields = {"deter": Field((1,), torch.float32, mutable=True)}

    def policy(self, mode):
        return FakePolicy(self, mode)

    def update(self, batch):
        return self._update(batch, 1.0)

    def update_world_model(self, batch):
        return self._update(batch, 2.0)

    def _update(self, batch, factor):
        observation = batch["observation"].float().flatten(2)
        noise = torch.randn(batch["reward"].shape, generator=self.generator) + torch.rand(())
        error = self.network(observation)[..., 0] - batch["reward"] - noise - batch["deter"][..., 0]
        loss = factor * (error**2).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.updates += 1
        UpdateClock.updates += 1
        kl = loss * 0 + 1
        if self.updates == self.break_at:
            if self.broken_part == "weights":
                self.network.weight.data[0, 0] = torch.nan
            else:
                kl = kl * torch.nan
        metrics = {"loss/fit": loss.detach(), "loss/kl": kl.detach()}
        return metrics, {"deter": batch["deter"] * 0.5 + 0.1}

    def open_loop(self, batch, context):
        truth = batch["observation"].float()
        truth = truth / 255 if truth.ndim == 5 else truth
        return {"truth": truth, "model": truth + 0.1 * torch.rand(truth.shape)}

    def describe(self):
        return ["a fake agent"]

    def state_dict(self):
        return {
            "network": dict(self.network.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
            "generator": self.generator.get_state(),
        }

    def load_networks(self, state):
        self.network.load_state_dict(state["network"])

    def load_state_dict(self, state):
        self.load_networks(state)
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates = state["updates"]
        self.generator.set_state(state["generator"])


if __name__ == "__main__":
    import sdewm.train.trainer as trainer
    from sdewm.cli import main
    from tests.child_process import wait_until

    class HeldAgent(FakeAgent):
        def _update(self, batch, factor):
            if self.updates + 1 == HELD_UPDATE:
                wait_until(lambda: not os.path.exists(os.environ.get("HOLD", "")))
            return super()._update(batch, factor)

    trainer.Agent, trainer.time = HeldAgent, UpdateClock
    torch.set_num_threads(1)
    raise SystemExit(main(sys.argv[1:]))

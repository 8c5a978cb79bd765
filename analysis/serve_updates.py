"""Updates on request, for `bench_training.py`; runs with any version of sdewm since 15ecc86.

python analysis/serve_updates.py compiled     or: plain

After one update of preset tiny it prints "ready". Each line read from then on, "whole" or "model",
is answered by the seconds of an update, or of an update of the world model alone.
"""

import sys
import time

import torch
from gymnasium.spaces import Box

from sdewm.train.agent import Agent
from sdewm.train.presets import preset

OBSERVATION, ACTIONS = (5,), 1  # dmc:cartpole_swingup
UPDATES = 10  # per answer


def random_batch(batch: int, length: int) -> dict[str, torch.Tensor]:
    """Random rows of sequences that are not interrupted."""
    generator = torch.Generator().manual_seed(0)
    none = torch.zeros(batch, length, dtype=torch.bool)
    return {
        "observation": torch.randn(batch, length, *OBSERVATION, generator=generator),
        "previous_action": 2 * torch.rand(batch, length, ACTIONS, generator=generator) - 1,
        "reward": torch.rand(batch, length, generator=generator),
        **dict.fromkeys(("is_first", "is_last", "is_terminal"), none),
    }


def main(how: str) -> None:
    config = preset("tiny")
    infinite = float("inf")
    agent = Agent(config, Box(-infinite, infinite, OBSERVATION), Box(-1.0, 1.0, (ACTIONS,)))
    if how == "compiled":
        agent.compile()
        from sdewm.base.allocation import keep_freed_memory

        keep_freed_memory()
    batch = random_batch(config.batch_size, config.batch_length)
    agent.update(batch)
    print("ready", flush=True)
    for line in sys.stdin:
        update = agent.update if line.strip() == "whole" else agent.update_world_model
        start = time.perf_counter()
        for _ in range(UPDATES):
            update(batch)
        print((time.perf_counter() - start) / UPDATES, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    main(sys.argv[1])

"""The global generators come back, also through a checkpoint."""

import random

import numpy as np
import torch

from sdewm.train.checkpoint import Checkpoints
from sdewm.train.random_state import (
    preserve_rng_state,
    random_states,
    restore_random_states,
    seed_everything,
)


def draw():
    return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()


def test_global_generators_come_back(tmp_path):
    Checkpoints(tmp_path).save(1, random_states())
    first = draw()
    with preserve_rng_state():
        draw()
    second = draw()
    restore_random_states(Checkpoints(tmp_path).load())
    assert draw() == first
    assert draw() == second
    assert first != second


def test_one_seed_gives_one_future():
    futures = []
    for seed in (1, 1, 2):
        seed_everything(seed)
        futures.append(draw())
    assert futures[0] == futures[1] != futures[2]

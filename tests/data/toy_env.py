"""A counting environment whose right rows are known exactly, and one that breaks on command."""

import os
import signal

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from sdewm.data.wrappers import SeededEpisodes, UnitActions


class Counter(gymnasium.Env):
    """Observation (seed mod 1000, steps so far, last action); reward 10·steps + action.

    Episodes end after `length` steps plus the seed's parity: by the task if the seed is even, else
    by the time limit.
    """

    observation_space = Box(-np.inf, np.inf, (3,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, length=3):
        self.length = length

    def observe(self, action):
        return np.array([self.seed % 1000, self.steps, action], np.float32)

    def reset(self, *, seed=None, options=None):
        self.seed, self.steps = seed, 0
        return self.observe(0.0), {}

    def step(self, action):
        self.steps += 1
        over = self.steps >= self.length + self.seed % 2
        by_task = self.seed % 2 == 0
        reward = 10.0 * self.steps + float(action[0])
        return self.observe(action[0]), reward, over and by_task, over and not by_task, {}


class Fragile(Counter):
    """Raises at an action below -0.9, kills its own process at one above 0.9."""

    def step(self, action):
        if action[0] < -0.9:
            raise ArithmeticError("the simulation diverged")
        if action[0] > 0.9:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def make_counter(index, seed=0, length=3):
    return SeededEpisodes(UnitActions(Counter(length)), seed, index)


def make_fragile(index, seed=0):
    return SeededEpisodes(UnitActions(Fragile(5)), seed, index)

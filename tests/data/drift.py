import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Drift(gymnasium.Env):  # keep a drifting point near zero
    observation_space, action_space = Box(-99, 99, (1,), np.float32), Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=1)
        return self.x.astype(np.float32), {}

    def step(self, action):
        self.x = self.x + 0.1 * (action - 1) + 0.1 * self.np_random.normal(size=1)
        return self.x.astype(np.float32), -abs(self.x[0]), False, False, {}


gymnasium.register("Drift-v0", Drift)

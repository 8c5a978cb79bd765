"""DeepMind Control tasks as Gymnasium environments.

dm_control is imported when the first environment is constructed.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from sdewm.base.checks import check_choice, check_count
from sdewm.data.observations import FRAME_SHAPE
from sdewm.data.opengl import choose_opengl

RENDERS = ("full", "fast")
# Positions and velocities in one entry; `velocities=False` refuses their tasks.
MIXED = ("egocentric_state", "ball_state")
# The published runs look through camera 2 at quadrupeds, through camera 0 at all others.
CAMERAS = {"quadruped": 2}
# MuJoCo's mjMAXVAL, which dm_control reports as the bound of an unbounded action.
UNLIMITED = 1e10
# Needs OpenGL to build its hills at every reset, even if no pixels are observed.
_NEEDS_OPENGL = {("quadruped", "escape")}


def dmc_tasks() -> dict[str, tuple[str, str]]:
    """All tasks of the suite: name `<domain>_<task>` -> (domain, task).

    Both parts may contain an underscore, so a name is looked up here and never split.
    """
    choose_opengl(required=False)
    from dm_control import suite

    return {f"{domain}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}


def is_velocity(entry: str) -> bool:
    """Whether an entry of a task's observation has velocities, by its name in the suite.

    Such are velocity, com_velocity, torso_com_velocity, body_velocities and joint_velocites (so
    spelt), names that end in _vel, and inertial_sensors (velocimeter, gyroscope, accelerometer).

    >>> [is_velocity(entry) for entry in ("com_velocity", "box_vel", "box_pos", "touch")]
    [True, True, False, False]
    """
    return "veloci" in entry or entry.endswith("_vel") or entry == "inertial_sensors"


class DmcEnv(gymnasium.Env):
    """One task of the DeepMind Control suite at its own control rate.

    The observation is the concatenation of all entries of the task's observation, flattened, in
    the task's order: `(D,)` float32. `terminated` is a last step with discount 0, `truncated` any
    other last step (the time limit). Nothing is rendered until `frame` is called.

    `reset(seed=s)` draws the episode from s alone. `physics` and `task` are dm_control's objects.

    Args:
        name: `<domain>_<task>`, such as "walker_walk".
        render: "full" renders as in the published runs; "fast" omits shadows, reflections,
            multisampling and the sky (about ten times faster without a GPU).
        pixels: whether frames will be requested; OpenGL is then required.
        seed: seed of the random parts of the model's construction (few tasks have any).
        velocities: whether the observation has the task's velocities (`is_velocity`). Without them,
            forces, touch and the activation of actuators remain besides the positions.

    Raises:
        ValueError: an unknown name; the message gives the nearest valid one. Or a task without
            velocities that has positions and velocities in one entry: quadrupeds, and the dog that
            fetches a ball.
        RuntimeError: frames are requested and no OpenGL works.
    """

    metadata = {"render_modes": []}

    def __init__(
        self, name: str, *, render: str, pixels: bool, seed: int, velocities: bool = True
    ) -> None:
        self.render_quality = check_choice("render", render, RENDERS)
        tasks = dmc_tasks()
        self.domain, self.task_name = tasks[check_choice("task", name, tasks)]
        choose_opengl(required=pixels or (self.domain, self.task_name) in _NEEDS_OPENGL)
        from dm_control import suite

        self._random = np.random.RandomState(check_count("seed", seed, minimum=0))
        self._env = suite.load(self.domain, self.task_name, task_kwargs={"random": self._random})
        self._camera: Any = None
        actions = self._env.action_spec()
        low, high = (
            np.where(np.abs(bound) < UNLIMITED, bound, np.sign(bound) * np.inf)
            for bound in (actions.minimum, actions.maximum)
        )
        self.action_space = Box(low, high, actions.shape, np.float64)
        specs = self._env.observation_spec()
        mixed = [entry for entry in specs if entry in MIXED]
        if mixed and not velocities:
            raise ValueError(
                f"obs='positions': {name} observes {', '.join(mixed)}, positions and velocities in "
                "one; expected a task that observes them apart."
            )
        self.entries = [entry for entry in specs if velocities or not is_velocity(entry)]
        size = sum(int(np.prod(specs[name].shape)) for name in self.entries)
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)

    @property
    def physics(self) -> Any:
        """dm_control's Physics, with the MuJoCo model and data."""
        return self._env.physics

    @property
    def task(self) -> Any:
        """dm_control's Task."""
        return self._env.task

    @property
    def control_timestep(self) -> float:
        """Seconds of one control step."""
        return float(self._env.control_timestep())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, drawn from `seed` unless it is None."""
        super().reset(seed=seed)  # as Gymnasium asks; the draws are dm_control's
        if seed is not None:
            self._random.seed(seed)
        return self._joined(self._env.reset().observation), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step of the task."""
        result = self._env.step(action)
        terminated = result.last() and result.discount == 0
        observation = self._joined(result.observation)
        return observation, float(result.reward), terminated, result.last() and not terminated, {}

    def frame(self) -> np.ndarray:
        """The current view, `(64, 64, 3)` uint8."""
        if self._camera is None:
            self._camera = self._make_camera()
        # The camera draws into one buffer and returns a view of it.
        return np.array(self._camera.render())

    def _make_camera(self) -> Any:
        from dm_control.mujoco.engine import Camera
        from mujoco import mjtRndFlag  # pyright: ignore[reportAttributeAccessIssue]

        fast = self.render_quality == "fast"
        if fast:  # Read when the first camera makes the drawing context.
            quality = self.physics.model.vis.quality
            quality.offsamples = quality.shadowsize = 0
        height, width, _ = FRAME_SHAPE
        number = CAMERAS.get(self.domain, 0)
        camera = Camera(self.physics, height=height, width=width, camera_id=number)
        if fast:
            for part in ("SHADOW", "REFLECTION", "SKYBOX"):
                camera.scene.flags[getattr(mjtRndFlag, f"mjRND_{part}")] = 0
        return camera

    def _joined(self, observation: dict[str, Any]) -> np.ndarray:
        parts = [np.ravel(observation[name]) for name in self.entries]
        return np.concatenate(parts).astype(np.float32)

    def close(self) -> None:
        """Free the memory of the simulator and of its rendering context."""
        if self._camera is not None:
            self._camera.scene.free()
            self._camera = None
        self._env.physics.free()

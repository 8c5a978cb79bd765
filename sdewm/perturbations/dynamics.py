"""Perturbed physics of DeepMind Control tasks: gravity, mass, friction, actuator gain, delay.

The strength is a relative change: with factor 1 + strength, gravity:0.5 is one and a half times the
gravity of the task, and strength 0 changes nothing, to the last bit. What is multiplied is said in
`sdewm.perturbations.model_fields`. The factor follows a schedule along an episode of 1000 control
steps:

    constant   1 + s
    -drift     from 1 to 1 + s, in a straight line
    -walk      exp(s·W), W a random walk of standard deviation 1 after 1000 control steps

`delay` is in control steps, by which every action comes late; at first the action is zero.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from sdewm.base.checks import check_choice, check_finite_number
from sdewm.perturbations.draws import draw_seed
from sdewm.perturbations.model_fields import FIELDS, ModelFields, changes_motion

SCHEDULES = ("constant", "drift", "walk")
CONTROL_STEPS = 1000  # of an episode of the suite
NAMES = (*FIELDS, "delay")


@dataclass(frozen=True)
class DynamicsPerturbation:
    """A perturbation of the simulator with its strength.

    Attributes:
        name: "gravity", "mass", "friction", "actuator" or "delay".
        strength: relative change, above −1; of "delay" a whole number of control steps.
        schedule: "constant", "drift" or "walk"; a delay is constant.

    Raises:
        ValueError: an unknown name or schedule, or a strength out of range.

    >>> DynamicsPerturbation("gravity", 0.5, "drift").label
    'gravity-drift:0.5'
    """

    name: str
    strength: float
    schedule: str = "constant"

    def __post_init__(self) -> None:
        check_choice("perturbation", self.name, NAMES)
        check_choice("schedule", self.schedule, SCHEDULES)
        strength = check_finite_number("strength", self.strength)
        if self.name == "delay":
            if self.schedule != "constant" or strength < 0 or strength != int(strength):
                raise ValueError(
                    f"perturbation={self.label!r}: a delay is a constant, whole number of control "
                    "steps, at least 0."
                )
        elif strength <= -1 or (self.schedule == "walk" and strength < 0):
            least = "at least 0" if self.schedule == "walk" else "above -1"
            raise ValueError(f"strength={strength}: {self.name} takes a relative change {least}.")

    @property
    def label(self) -> str:
        """Name, schedule and strength, as on the command line."""
        kind = "" if self.schedule == "constant" else f"-{self.schedule}"
        return f"{self.name}{kind}:{self.strength:g}"

    def factors(self, seed: int, steps: int = CONTROL_STEPS) -> np.ndarray:
        """The factor before each control step of an episode: (steps,)."""
        time = np.arange(steps) / CONTROL_STEPS
        if self.schedule == "walk":
            drawn = np.random.default_rng(seed).standard_normal(steps) / math.sqrt(CONTROL_STEPS)
            return np.exp(self.strength * (np.cumsum(drawn) - drawn))
        return 1 + self.strength * (time if self.schedule == "drift" else np.ones(steps))


class PerturbedDynamics(gymnasium.Wrapper):
    """A DeepMind Control environment with perturbed physics, at its own control rate.

    Args:
        env: with `.physics`.
        perturbation: what is changed.

    Attributes:
        factors: those of the steps taken so far, read back from the simulator's model; of a delay
            one more than the control steps by which the action was late.

    Raises:
        ValueError: another environment, whose physics is not known, or one that moves the same
            under the perturbation (`acts_on`); strength 0 is allowed everywhere.
    """

    def __init__(self, env: Any, perturbation: DynamicsPerturbation) -> None:
        if not hasattr(env, "physics"):
            raise ValueError(
                f"perturbation={perturbation.label!r} is for dmc: environments, whose physics is "
                "known."
            )
        name = perturbation.name
        if perturbation.strength and not acts_on(env, name):
            raise ValueError(
                f"perturbation={perturbation.label!r}: {name} changes nothing in dmc:{env.domain}_"
                f"{env.task_name}, which moves the same, to the bit, with twice as much of it; "
                "expected a perturbation that acts."
            )
        super().__init__(env)
        self.perturbation = perturbation
        self.factors: list[float] = []
        self._fields: ModelFields | None = None
        self._waiting: deque[np.ndarray] = deque()
        self._planned, self._step, self._factor = np.ones(1), 0, 1.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; the random walk is a function of its seed and the perturbation."""
        if self._fields is not None:  # some tasks draw their bodies anew at a reset
            self._fields.multiply(1.0)
        found = self.env.reset(seed=seed, options=options)
        if self.perturbation.name in FIELDS:
            self._fields = ModelFields(self._physics.model.ptr, self.perturbation.name)
        self._planned = self.perturbation.factors(draw_seed(self.perturbation.label, seed))
        self._step, self._factor, self._waiting = 0, 1.0, deque()
        return found

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One control step under the factor of that step, or with an earlier action."""
        if self._fields is None:
            self._waiting.append(np.array(action))
            late = len(self._waiting) > self.perturbation.strength
            action = self._waiting.popleft() if late else np.zeros_like(action)
            self.factors.append(1.0 + len(self._waiting))
        else:
            planned = float(self._planned[min(self._step, len(self._planned) - 1)])
            self._change(self._fields, planned)
        self._step += 1
        return self.env.step(action)

    @property
    def _physics(self) -> Any:
        return self.unwrapped.physics  # type: ignore[attr-defined]

    def _change(self, fields: ModelFields, factor: float) -> None:
        if factor != self._factor:
            from mujoco import mj_step1  # pyright: ignore[reportAttributeAccessIssue]

            fields.multiply(factor)
            # The suite has already begun the next step of the simulator, under the earlier factor.
            mj_step1(self._physics.model.ptr, self._physics.data.ptr)
            self._factor = factor
        self.factors.append(fields.factor)


def acts_on(env: Any, name: str) -> bool:
    """Whether a perturbation called `name` changes the motion in an environment with `.physics`.

    A delay does; of the others see `sdewm.perturbations.model_fields.changes_motion`.
    """
    return name == "delay" or changes_motion(env.physics.model.ptr, name)

"""Perturbed physics of DeepMind Control tasks: gravity, mass, friction, actuator gain, delay.

The strength is a relative change: with factor 1 + strength, gravity:0.5 is one and a half times the
gravity of the task, and strength 0 changes nothing, to the last bit. The factor follows a schedule
along an episode of 1000 control steps:

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

SCHEDULES = ("constant", "drift", "walk")
CONTROL_STEPS = 1000  # of an episode of the suite
FIELDS = {  # of the MuJoCo model, all of which are multiplied by the factor
    "gravity": ("opt.gravity",),
    "mass": ("body_mass", "body_inertia", "body_subtreemass"),
    "friction": ("geom_friction", "dof_damping", "dof_frictionloss"),
    "actuator": ("actuator_gear",),
}
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
        factors: those of the steps taken so far, read back from the simulator; of a delay one more
            than the control steps by which the action was late.

    Raises:
        ValueError: another environment, whose physics is not known.
    """

    def __init__(self, env: Any, perturbation: DynamicsPerturbation) -> None:
        if not hasattr(env, "physics"):
            raise ValueError(
                f"perturbation={perturbation.label!r} is for dmc: environments, whose physics is "
                "known."
            )
        super().__init__(env)
        self.perturbation = perturbation
        self.factors: list[float] = []
        self._plain: dict[str, np.ndarray] = {}
        self._waiting: deque[np.ndarray] = deque()
        self._planned, self._step = np.ones(1), 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; the random walk is a function of its seed and the perturbation."""
        self._restore()
        found = self.env.reset(seed=seed, options=options)
        self._plain = {name: self._field(name).copy() for name in self._names()}
        self._planned = self.perturbation.factors(draw_seed(self.perturbation.label, seed))
        self._step, self._waiting = 0, deque()
        return found

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One control step under the factor of that step, or with an earlier action."""
        if self.perturbation.name == "delay":
            self._waiting.append(np.array(action))
            late = len(self._waiting) > self.perturbation.strength
            action = self._waiting.popleft() if late else np.zeros_like(action)
            self.factors.append(1.0 + len(self._waiting))
        else:
            self._change(float(self._planned[min(self._step, len(self._planned) - 1)]))
        self._step += 1
        return self.env.step(action)

    def _names(self) -> tuple[str, ...]:
        return FIELDS.get(self.perturbation.name, ())

    def _field(self, name: str) -> np.ndarray:
        found: Any = self.unwrapped.physics.model  # type: ignore[attr-defined]
        for part in name.split("."):
            found = getattr(found, part)
        return found

    def _restore(self) -> None:
        """The task's own values: some tasks draw their bodies anew at a reset."""
        for name, plain in self._plain.items():
            self._field(name)[:] = plain

    def _change(self, factor: float) -> None:
        for name, plain in self._plain.items():
            self._field(name)[:] = factor * plain
        name, plain = next(iter(self._plain.items()))
        self.factors.append(float(np.abs(self._field(name)).sum() / np.abs(plain).sum()))

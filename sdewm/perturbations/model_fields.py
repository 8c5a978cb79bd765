"""Fields of a MuJoCo model, multiplied by a factor together with all that follows from them.

What a factor multiplies:

    gravity    the acceleration of gravity
    mass       masses and rotational inertias, without the rotor inertia (armature) of the joints
    friction   friction of the geoms, damping and dry friction of the joints
    actuator   the force of every motor or servo (of fixed or affine gain): gain, bias and range of
               the force
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

FIELDS = {
    "gravity": ("opt.gravity",),
    "mass": ("body_mass", "body_inertia"),
    "friction": ("geom_friction", "dof_damping", "dof_frictionloss"),
    "actuator": ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"),
}
# MuJoCo steps with constants that follow from the masses and that only mj_setConst computes. It
# also writes places of cameras, and actuator_acc0, a muscle's strength: those stay the task's own.
CONSTANTS = {
    "mass": (
        "body_subtreemass",
        "dof_M0",
        "body_invweight0",
        "dof_invweight0",
        "tendon_invweight0",
    )
}
PROBE_STEPS = 20


class ModelFields:
    """The fields of one perturbation in a compiled model.

    Args:
        model: MuJoCo's MjModel; its present values are those of factor 1.
        name: "gravity", "mass", "friction" or "actuator".
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        names = (*FIELDS[name], *CONSTANTS.get(name, ()))
        self._plain = {field: _field(model, field).copy() for field in names}
        self._scratch = copy.copy(model) if name in CONSTANTS else None

    @property
    def factor(self) -> float:
        """The present factor, read back from the model."""
        field = FIELDS[self.name][0]
        return float(np.abs(_field(self.model, field)).sum() / np.abs(self._plain[field]).sum())

    def multiply(self, factor: float) -> None:
        """Give the fields `factor` times their plain values; 1 restores the model to the bit."""
        values = dict(self._plain)
        if factor != 1:
            values |= {field: factor * self._plain[field] for field in FIELDS[self.name]}
            if self._scratch is not None:
                values |= self._constants(values)
        for field, value in values.items():
            _field(self.model, field)[:] = value

    def _constants(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The constants of a copy of the model, because mj_setConst writes other fields too."""
        from mujoco import MjData, mj_setConst  # pyright: ignore[reportAttributeAccessIssue]

        for field in FIELDS[self.name]:
            _field(self._scratch, field)[:] = values[field]
        mj_setConst(self._scratch, MjData(self._scratch))
        return {field: _field(self._scratch, field) for field in CONSTANTS[self.name]}


def changes_motion(model: Any, name: str) -> bool:
    """Whether bodies move otherwise with twice the fields of a perturbation.

    Two copies of the model start in its initial position, with the same random velocities, and get
    the same random controls for 20 steps of the simulator. Equal means equal to the bit, as where
    gravity is switched off, or where no joint moves along it. Friction that only contacts have
    would be seen only in contacts of these steps; all tasks of the suite whose bodies can touch
    also have damped joints.

    Args:
        model: MuJoCo's MjModel; it stays as it is.
        name: as of `ModelFields`.
    """
    return not np.array_equal(_motion(model, name, 1.0), _motion(model, name, 2.0))


def _motion(model: Any, name: str, factor: float) -> np.ndarray:
    from mujoco import MjData, mj_step  # pyright: ignore[reportAttributeAccessIssue]

    copied = copy.copy(model)
    ModelFields(copied, name).multiply(factor)
    data, generator = MjData(copied), np.random.default_rng(0)
    data.qvel[:] = 0.1 * generator.standard_normal(model.nv)
    for control in generator.uniform(-1, 1, (PROBE_STEPS, model.nu)):
        data.ctrl[:] = control
        mj_step(copied, data)
    return np.concatenate([data.qpos, data.qvel])


def _field(model: Any, name: str) -> np.ndarray:
    found = model
    for part in name.split("."):
        found = getattr(found, part)
    return found

"""Which OpenGL MuJoCo draws with, decided before dm_control is imported: EGL, OSMesa, or none.

dm_control and mujoco read the environment variable MUJOCO_GL once, when they are imported, and the
import fails where that OpenGL does not work. So each candidate is tried in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

SETTING = "MUJOCO_GL"
# Set for this process and its children once a setting has been tried, so they need not try again.
TRIED = "SDEWM_GL_TRIED"
NONE = "disable"
NO_GL = (
    "drawing pixels of dmc: environments needs OpenGL, and none works here{tried}. Install one "
    "(Debian or Ubuntu: `apt-get install libegl1` with MUJOCO_GL=egl, or `apt-get install "
    "libosmesa6` with MUJOCO_GL=osmesa); without it obs='proprio' works, and pixels of "
    "own:cartpole_pixels."
)
_ATTEMPT = (
    "import mujoco\n"
    "from dm_control import _render\n"
    "context = _render.Renderer(64, 64)\n"
    "with context.make_current() as ready:\n"
    "    model = mujoco.MjModel.from_xml_string('<mujoco/>')\n"
    "    ready.call(mujoco.MjrContext, model, mujoco.mjtFontScale.mjFONTSCALE_100)\n"
)


def _works(setting: str) -> bool:
    """Whether a process with this setting can make a context that MuJoCo draws in."""
    environment = {**os.environ, SETTING: setting}
    command = [sys.executable, "-c", _ATTEMPT]
    attempt = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    return attempt.returncode == 0


def choose_opengl(required: bool) -> str:
    """Set MUJOCO_GL to one that works: the given one, or the first of egl and osmesa.

    Without a working one it is set to "disable", with which dm_control can be imported and does
    everything but draw. The first call takes about a second; it has to come before the first
    import of mujoco or dm_control.

    Args:
        required: whether something is to be drawn.

    Returns:
        The setting.

    Raises:
        RuntimeError: if something is to be drawn and nothing works, saying what to install.
    """
    given = os.environ.get(SETTING, "")
    if not given or os.environ.get(TRIED) != given:
        candidates = [given] if given else ["egl", "osmesa"]
        chosen = next((setting for setting in candidates if _works(setting)), NONE)
        os.environ[SETTING] = os.environ[TRIED] = chosen
        if chosen == NONE:
            os.environ[TRIED + "_WITHOUT_SUCCESS"] = ", ".join(candidates)
    if required and os.environ[SETTING] == NONE:
        tried = os.environ.get(TRIED + "_WITHOUT_SUCCESS", "")
        raise RuntimeError(NO_GL.format(tried=f" (tried MUJOCO_GL={tried})" if tried else ""))
    return os.environ[SETTING]

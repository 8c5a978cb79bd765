"""Selects MuJoCo's OpenGL backend before dm_control is imported: EGL, OSMesa, or none.

dm_control and mujoco read the environment variable MUJOCO_GL once, when they are imported, and the
import fails where that backend does not work. Each candidate is therefore tried in a subprocess.
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
    "rendering pixels of dmc: environments needs OpenGL, and none works here{tried}. Install one "
    "(Debian or Ubuntu: `apt-get install libegl1` with MUJOCO_GL=egl, or `apt-get install "
    "libosmesa6` with MUJOCO_GL=osmesa), or use obs='proprio' or env='own:cartpole_pixels', which "
    "need none."
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
    """Whether a process with this setting can create a context in which MuJoCo renders."""
    environment = {**os.environ, SETTING: setting}
    command = [sys.executable, "-c", _ATTEMPT]
    attempt = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    return attempt.returncode == 0


def choose_opengl(required: bool) -> str:
    """Set MUJOCO_GL to a working backend: its present value, or the first of egl and osmesa.

    If none works it is set to "disable": dm_control can then be imported, but cannot render. The
    first call takes about a second. It must come before the first import of mujoco or dm_control.

    Args:
        required: whether rendering is needed.

    Returns:
        The setting.

    Raises:
        RuntimeError: rendering is needed and no backend works; the message says what to install.
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

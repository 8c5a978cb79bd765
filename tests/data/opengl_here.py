"""Mark of tests that draw with OpenGL."""

import pytest

from sdewm.data.opengl import NONE, choose_opengl

needs_opengl = pytest.mark.skipif(
    choose_opengl(required=False) == NONE, reason="no OpenGL works on this machine"
)

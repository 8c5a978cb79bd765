"""Memory that was freed is kept by the process, where the C library allows it."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt in glibc, and their values here. The first is at its largest.
SETTINGS = {
    "M_MMAP_THRESHOLD": (-3, 2**25),
    "M_TRIM_THRESHOLD": (-1, 2**30),
    "M_TOP_PAD": (-2, 2**26),
}


def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory for the next allocation, instead of returning it.

    Activations of an update are freed and allocated again at each update. Returned to the system,
    they cost a page fault per 4 KiB: a tenth of a small update.

    Returns:
        Whether the C library accepted it; other libraries than glibc are left alone.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) == 1 for setting in SETTINGS.values())

"""Connection to a cluster of Ray, an optional extra: pip install 'sdewm[ray]'."""

from __future__ import annotations

import importlib
import logging
from typing import Any

LOST_NODES = 5  # how often a task is run again because its node is lost


def connect(address: str) -> Any:
    """The module ray, connected to a cluster; a connection that is there already is used.

    Args:
        address: such as "auto", "local" or "ray://host:10001".

    Raises:
        ValueError: Ray is not installed, or there is no cluster at this address.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as problem:
        raise ValueError(
            f"ray={address!r}: Ray is not installed; pip install 'sdewm[ray]'."
        ) from problem
    try:
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as problem:
        raise ValueError(f"ray={address!r}: there is no cluster: {problem}") from problem
    return ray


def cores(ray: Any) -> int:
    """Number of cores of the cluster now."""
    return max(1, int(ray.cluster_resources().get("CPU", 0)))

"""Settings of all tests: one thread per worker, no screen, reproducible property tests."""

import os

import hypothesis
import torch

# Sums keep one order on every machine, and parallel workers do not fight for cores.
torch.set_num_threads(1)
os.environ.setdefault("MPLBACKEND", "Agg")

# Fixed examples: a failure seen once is seen by everyone. A slow machine makes no test fail.
hypothesis.settings.register_profile(
    "reproducible",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    database=None,
    print_blob=False,
)
hypothesis.settings.load_profile("reproducible")

# They change torch for the whole process; test_other_device.py runs them in one of its own.
collect_ignore = ["other_device.py", "train/on_other_device.py"]

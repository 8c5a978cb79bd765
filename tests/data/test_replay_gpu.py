"""The replay memory on a GPU."""

import warnings

import pytest
import torch

from tests.data.test_replay import FIELDS, filled, rows_at


@pytest.mark.gpu
@pytest.mark.parametrize("deterministic", [False, True])
def test_on_a_gpu_the_same_windows_come_out_and_the_same_latents_are_written(deterministic):
    torch.use_deterministic_algorithms(deterministic)
    try:
        with warnings.catch_warnings():
            # CUDA libraries ask for a workspace setting that only matrix products need.
            warnings.filterwarnings("ignore", message=".*CUBLAS_WORKSPACE_CONFIG.*")
            host, device = filled(21), filled(21, device="cuda")
            for _ in range(3):
                for replay in (host, device):
                    batch, windows = replay.sample(16, 4, context=1)
                    fresh = batch["deter"][:, 1:] + batch["reward"][:, 1:, None]
                    replay.add(rows_at(21, 3))
                    replay.write(windows, {"deter": fresh})
            a, b = host.sample(64, 4)[0], device.sample(64, 4)[0]
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(b[name].is_cuda and torch.equal(a[name], b[name].cpu()) for name in FIELDS)

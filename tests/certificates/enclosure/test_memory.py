"""The memory that an enclosure needs is known from one run of the step."""

import torch

from sdewm.certificates.enclosure.memory import ALIVE, bytes_needed

WEIGHT = torch.ones(7, 5).double()


def step(n, x):
    return torch.nn.functional.linear(torch.tanh(torch.nn.functional.linear(x, WEIGHT)), WEIGHT.T)


def test_memory_is_that_of_the_widest_layer_with_all_coefficients():
    found = bytes_needed(step, torch.zeros(5).double(), 3, 2, 100)
    assert found == 8 * ALIVE * 7 * (3 + 9 + 100 + 5 + 7)
    assert bytes_needed(step, torch.zeros(5).double(), 3, 1, 100) == found - 8 * ALIVE * 7 * 9

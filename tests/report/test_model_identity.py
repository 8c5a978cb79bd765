"""Digests of models: equal for equal models, different for any other number."""

import numpy as np
import pytest
import torch

import sdewm
from sdewm.report.model_identity import outputs_digest, tensors_digest, weights_digest_of


def model(module, table, factor):
    return sdewm.StepModel(
        lambda x, a, v: factor * module(x) + a * float(table[0]) + v,
        state_size=2,
        noise_size=2,
        encoder=lambda x, o: (o, torch.ones_like(o)),
    )


def linear(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Linear(2, 2).double()


ROWS = sdewm.Episodes(torch.ones(1, 3, 2), torch.ones(1, 3, 2), torch.zeros(1, 3))


def digests(module=None, table=(1.0,), factor=1.0):
    made = model(module or linear(), np.array(table), factor)
    return weights_digest_of(made), outputs_digest(made, ROWS)


def test_a_model_that_is_built_again_is_the_same():
    assert digests() == digests()


@pytest.mark.parametrize("changed", [{"module": linear(1)}, {"table": (2.0,)}])
def test_weights_in_closures_count(changed):
    weights, outputs = digests(**changed)
    assert weights != digests()[0] and outputs != digests()[1]


def test_a_number_in_a_function_shows_in_the_outputs_alone():
    weights, outputs = digests(factor=1.5)
    assert weights == digests()[0] and outputs != digests()[1]


def test_shape_and_type_are_part_of_a_digest():
    zeros = [torch.zeros(4), torch.zeros(2, 2), torch.zeros(2).double(), torch.zeros(4).int()]
    assert len({tensors_digest([one]) for one in zeros}) == 4

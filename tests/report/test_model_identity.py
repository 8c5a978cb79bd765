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


class Decoder:
    def __init__(self, weight):
        self.weight = weight

    def predict(self, states):
        return states

    def loss(self, states, observations):
        return self.weight * (states - observations).square().sum(1)


def moments(weight):
    return lambda x, a: (x + a, weight * x)


@pytest.mark.parametrize(
    ("part", "made"),
    {
        "decoder": Decoder,
        "kl": lambda weight: lambda seen, embed, imagined: weight * embed.sum(1),
        "step_moments": moments,
    }.items(),
)
def test_functions_of_which_no_other_is_made_count(part, made):
    found = []
    for weight in (1.0, 1.0, 0.5):
        one = model(linear(), np.ones(1), 1.0)
        setattr(one, part, made(weight))
        found.append(outputs_digest(one, ROWS))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("part", ["mean", "noise"])
def test_a_step_that_differs_at_later_rows_alone_counts(part):
    def made(weight):
        def step(x, a, v):
            changed = torch.where(x > 1.5, weight, 1.0)  # the states are 1, 2 and 3
            return x * (changed if part == "mean" else 1) + v * (changed if part == "noise" else 1)

        counting = lambda x, o: (o, torch.zeros_like(o))  # noqa: E731
        return sdewm.StepModel(step, state_size=2, noise_size=2, encoder=counting)

    seen = torch.arange(1.0, 4.0)[None, :, None].expand(1, 3, 2)
    rows = sdewm.Episodes(seen, torch.ones(1, 3, 2), torch.zeros(1, 3))
    found = [outputs_digest(made(weight), rows) for weight in (2.0, 2.0, 3.0)]
    assert found[0] == found[1] != found[2]


def test_shape_and_type_are_part_of_a_digest():
    zeros = [torch.zeros(4), torch.zeros(2, 2), torch.zeros(2).double(), torch.zeros(4).int()]
    assert len({tensors_digest([one]) for one in zeros}) == 4

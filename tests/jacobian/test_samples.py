"""Samples and detached parts of a step are named at once in any precision, and sound ones pass."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from sdewm.jacobian.penalty import InputProjection, jacobian_penalty, rademacher_probes
from sdewm.jacobian.step_contract import check_step

B, H, S, K, Z = 12, 16, 4, 5, 6


def randn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Steps:
    """A recurrent step h' = GRU(z, h) with what follows from it, sound or not."""

    def __init__(self, dtype):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.cell = nn.GRUCell(S * K, H).to(dtype)
            self.prior = nn.Linear(H, S * K).to(dtype)
            self.mean = nn.Linear(H, Z).to(dtype)
        self.h, self.z = (0.5 * randn(B, H, seed=1)).to(dtype), randn(B, S * K, seed=2).to(dtype)
        self.uniform = torch.rand(B, S, generator=torch.Generator().manual_seed(3)).to(dtype)
        self.noise = randn(B, Z, seed=4).to(dtype)

    def next(self, h):
        h = self.cell(self.z, h)
        return h, torch.softmax(self.prior(h).view(-1, S, K), -1)

    def probabilities(self, h):
        h, p = self.next(h)
        return h, p

    def straight_through(self, h):
        h, p = self.next(h)
        index = (p.detach().cumsum(-1)[..., :-1] <= self.uniform[..., None]).sum(-1)
        return h, functional.one_hot(index, K).to(p.dtype) + p - p.detach()

    def detached_probabilities(self, h):
        h, p = self.next(h)
        return h, p.detach()

    def detached_sample(self, h):
        h, _ = self.next(h)
        return h, (self.mean(h) + self.noise).detach()

    def sample(self, h):
        h, _ = self.next(h)
        return h, self.mean(h) + self.noise

    def hard_sample(self, h):  # without a derivative, and without a slope
        h, p = self.next(h)
        return h, functional.one_hot(p.argmax(-1), K).to(p.dtype)

    def detached_gate(self, h):
        h, _ = self.next(h)
        return h, torch.sigmoid(4 * self.mean(h)).detach() * self.mean(h)


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
UNSOUND = {
    "straight_through": "20 of 36 outputs of step .number 16, 17, 18, 19, ….* straight-through",
    "detached_probabilities": "20 of 36 outputs of step .* are detached: ",
    "detached_sample": "6 of 22 outputs of step .* are detached: ",
}


@DTYPES
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_sample_is_named_with_its_outputs(name, autocast, dtype):
    steps = Steps(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        (finding,) = check_step(getattr(steps, name), steps.h)
    assert finding.check == "derivatives"
    if dtype == torch.float32:  # in float64 the check of whole derivatives may come first
        assert re.search(UNSOUND[name], finding.message)


@DTYPES
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["probabilities", "sample", "hard_sample"])
def test_a_sound_sample_has_no_finding(name, autocast, dtype):
    steps = Steps(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = check_step(getattr(steps, name), steps.h)
    assert [finding for finding in found if finding.check != "precision"] == []


def test_a_detached_part_of_an_output_is_found():
    steps = Steps(torch.float32)
    found = check_step(steps.detached_gate, steps.h)
    assert found and found[0].check == "derivatives"


def test_the_penalty_refuses_it_at_its_first_call_in_every_situation():
    steps = Steps(torch.float32)
    probes = rademacher_probes(1, steps.h, torch.Generator().manual_seed(0))
    for autocast in (False, True):
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=autocast),
            pytest.raises(ValueError, match="are straight-through.* return the probabilities"),
        ):
            jacobian_penalty(steps.straight_through, steps.h, InputProjection(probes))


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_values_so_large_that_rounding_hides_their_change_are_not_judged(offset):
    x = randn(8, 3, seed=5)
    assert check_step(lambda x: torch.tanh(x) + offset, x) == []


def test_a_step_that_computes_in_half_precision_is_not_judged():
    linear, x = nn.Linear(4, 4), randn(8, 4, seed=6)

    def step(x):
        with torch.autocast("cpu", torch.bfloat16):
            return linear(x).float()

    assert check_step(step, x) == []

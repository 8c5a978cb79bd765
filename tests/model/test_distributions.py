"""Formulas of the model's laws against slow, obvious versions."""

import math

import pytest
import torch
from scipy import stats

from sdewm.model.distributions import (
    Normal,
    TruncatedNormal,
    categorical_kl,
    mix_uniform,
    normal_kl,
    sample_one_hot,
    straight_through,
    symexp,
    symexp_bins,
    symlog,
    symmetric_mean,
    two_hot_loss,
)
from tests.model.two_hot import two_hot

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_symexp_inverts_symlog():
    x = torch.linspace(-50, 50, 101, dtype=F64)
    assert torch.allclose(symexp(symlog(x)), x, rtol=1e-12)


def test_two_hot_weights_have_the_clamped_number_as_their_mean():
    bins = symexp_bins(21, 4.0).double()
    x = torch.cat([100 * torch.randn(200, dtype=F64, generator=generator()), bins])
    weights = two_hot(x, bins)
    assert torch.allclose((weights * bins).sum(-1), x.clamp(bins[0], bins[-1]), rtol=1e-12)
    assert ((weights > 0).sum(-1) <= 2).all()


def test_two_hot_loss_is_cross_entropy_with_two_hot():
    bins = symexp_bins(21, 4.0).double()
    x = torch.cat([30 * torch.randn(50, dtype=F64, generator=generator(1)), bins])
    log_p = torch.log_softmax(torch.randn(71, 21, dtype=F64, generator=generator()), -1)
    expected = -(two_hot(x, bins) * log_p).sum(-1)
    assert torch.allclose(two_hot_loss(log_p, x, bins), expected, rtol=1e-12)


def test_two_hot_loss_compiled_equals_itself_and_torch_has_nothing_to_warn_of(capfd, recwarn):
    bins = symexp_bins(21, 4.0).double()
    x = 30 * torch.randn(5, 7, dtype=F64, generator=generator(1)).T  # not in one piece
    log_p = torch.log_softmax(torch.randn(7, 5, 21, dtype=F64, generator=generator()), -1)
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        found = torch.compile(two_hot_loss)(log_p, x, bins)
    finally:
        torch.set_warn_always(before)
    torch.testing.assert_close(found, two_hot_loss(log_p, x, bins), rtol=1e-12, atol=0)
    said = capfd.readouterr().err + "".join(str(one.message) for one in recwarn)
    assert "contiguous" not in said


def test_mean_of_a_symmetric_law_is_exactly_zero():
    bins = symexp_bins()
    probabilities = torch.full((255,), 1 / 255)
    assert symmetric_mean(probabilities, bins) == 0.0
    assert len(bins) == 255 and bins[0] == -bins[-1]
    assert bins[-1].item() == pytest.approx(math.exp(20) - 1, rel=1e-6)


def test_mix_uniform_equals_slow_version():
    logits = 20 * torch.randn(7, 5, dtype=F64, generator=generator())
    slow = torch.tensor(
        [
            [math.log(0.99 * math.exp(v) / sum(math.exp(w) for w in row) + 0.01 / 5) for v in row]
            for row in logits.tolist()
        ],
        dtype=F64,
    )
    assert torch.allclose(mix_uniform(logits, 0.01), slow, rtol=1e-12)
    assert mix_uniform(logits, 0.01).exp().min() >= 0.01 / 5 * (1 - 1e-12)
    assert torch.allclose(mix_uniform(logits, 0.0), torch.log_softmax(logits, -1), rtol=1e-12)


def test_categorical_kl_equals_slow_version():
    log_p, log_q = (
        torch.log_softmax(torch.randn(6, 3, 4, dtype=F64, generator=generator(s)), -1)
        for s in (0, 1)
    )
    slow = [
        sum(
            math.exp(p) * (p - q)
            for p, q in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
        )
        for a, b in zip(log_p, log_q, strict=True)
    ]
    assert torch.allclose(categorical_kl(log_p, log_q), torch.tensor(slow, dtype=F64), rtol=1e-12)
    assert categorical_kl(log_p, log_p).abs().max() == 0


def test_normal_kl_equals_torch():
    draw = [torch.rand(5, 3, dtype=F64, generator=generator(s)) + 0.1 for s in range(4)]
    p, q = (torch.distributions.Normal(*draw[i : i + 2]) for i in (0, 2))
    expected = torch.distributions.kl_divergence(p, q).sum(-1)
    assert torch.allclose(normal_kl(*draw), expected, rtol=1e-12)


def test_one_hot_samples_follow_the_probabilities():
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3])
    uniforms = torch.rand(200_000, generator=generator())
    counts = sample_one_hot(probabilities.expand(200_000, 4), uniforms).sum(0)
    assert counts[1] == 0
    expected = probabilities[[0, 2, 3]] * 200_000
    assert stats.chisquare(counts[[0, 2, 3]].numpy(), expected.numpy()).pvalue > 1e-3


def test_one_hot_sample_is_valid_where_rounding_leaves_a_gap():
    probabilities = torch.full((1, 3), 1 / 3)
    draw = sample_one_hot(probabilities, torch.tensor([1 - 2**-24]))
    assert draw.sum() == 1 and draw[0, 2] == 1


def test_straight_through_has_the_sample_as_value_and_the_gradient_of_probabilities():
    logits = torch.randn(3, 4, generator=generator(), requires_grad=True)
    probabilities = torch.softmax(logits, -1)
    sample = sample_one_hot(probabilities, torch.rand(3, generator=generator()))
    out = straight_through(sample, probabilities)
    assert torch.allclose(out, sample, atol=1e-6)
    weight = torch.randn(3, 4, generator=generator(1))
    (through,) = torch.autograd.grad((weight * out).sum(), logits, retain_graph=True)
    (direct,) = torch.autograd.grad((weight * probabilities).sum(), logits)
    assert torch.equal(through, direct)


@pytest.mark.parametrize("mean, std", [(0.0, 0.5), (0.9, 0.2), (-0.7, 1.9)])
def test_truncated_normal_equals_scipy(mean, std):
    law = TruncatedNormal(torch.tensor([mean], dtype=F64), torch.tensor([std], dtype=F64))
    exact = stats.truncnorm((-1 - mean) / std, (1 - mean) / std, loc=mean, scale=std)
    at = torch.tensor([[-0.95], [0.1], [0.8]], dtype=F64)
    assert law.log_prob(at).tolist() == pytest.approx(exact.logpdf(at[:, 0].numpy()), rel=1e-10)
    assert law.entropy().item() == pytest.approx(float(exact.entropy()), rel=1e-9)
    noise = torch.linspace(0.001, 0.999, 9, dtype=F64).unsqueeze(-1)
    drawn = law.sample(noise).squeeze(-1)
    assert drawn.tolist() == pytest.approx(exact.ppf(noise[:, 0].numpy()), abs=1e-9)


def test_normal_equals_scipy():
    law = Normal(torch.tensor([0.3, -1.0], dtype=F64), torch.tensor([0.2, 1.5], dtype=F64))
    at = torch.tensor([0.1, 0.4], dtype=F64)
    exact = [stats.norm(0.3, 0.2), stats.norm(-1.0, 1.5)]
    assert law.log_prob(at).item() == pytest.approx(exact[0].logpdf(0.1) + exact[1].logpdf(0.4))
    assert law.entropy().item() == pytest.approx(float(sum(e.entropy() for e in exact)))
    assert torch.allclose(law.sample(torch.ones(2, dtype=F64)), law.mean + law.std)

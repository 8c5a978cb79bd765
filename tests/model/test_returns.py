"""λ-returns against the definition; each off-by-one has a case that it would fail."""

import pytest
import torch

from sdewm.model.returns import ReturnNormaliser, lambda_return


def n_step_return(reward, discount, value, t, n):
    """r_{t+1} + d_{t+1} r_{t+2} + … + (∏ d) v_{t+n}, one trajectory, columns as there."""
    total, factor = 0.0, 1.0
    for k in range(t, t + n):
        total += factor * reward[k]
        factor *= discount[k]
    return total + factor * value[t + n - 1]


def slow_lambda_return(reward, discount, value, lambda_):
    """(1 − λ) Σ_n λ^{n−1} G^{(n)} + λ^{H−t−1} G^{(H−t)}: the mixture of n-step returns."""
    horizon = len(reward)
    result = []
    for t in range(horizon):
        steps = horizon - t
        total = lambda_ ** (steps - 1) * n_step_return(reward, discount, value, t, steps)
        for n in range(1, steps):
            total += (
                (1 - lambda_) * lambda_ ** (n - 1) * n_step_return(reward, discount, value, t, n)
            )
        result.append(total)
    return result


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 0.95, 1.0])
def test_lambda_return_is_the_mixture_of_n_step_returns(lambda_):
    generator = torch.Generator().manual_seed(0)
    reward, discount, value = torch.rand(3, 4, 7, dtype=torch.float64, generator=generator)
    fast = lambda_return(reward, discount, value, lambda_)
    for row in range(4):
        slow = slow_lambda_return(
            reward[row].tolist(), discount[row].tolist(), value[row].tolist(), lambda_
        )
        assert fast[row].tolist() == pytest.approx(slow, rel=1e-12)


def test_constant_reward_with_consistent_value_is_a_fixed_point():
    value = torch.full((1, 6), 1 / (1 - 0.9), dtype=torch.float64)
    ones = torch.ones_like(value)
    assert torch.allclose(lambda_return(ones, 0.9 * ones, value, 0.95), value, rtol=1e-12)


def test_zero_discount_cuts_everything_behind_it():
    reward = torch.tensor([[1.0, 2.0, 4.0]])
    discount = torch.tensor([[1.0, 0.0, 1.0]])  # the second state arrived at is terminal
    value = torch.full((1, 3), 100.0)
    assert lambda_return(reward, discount, value, 1.0)[0, :2].tolist() == [3.0, 2.0]


def test_lambda_per_step_cuts_at_the_end_of_an_episode():
    one = torch.ones(1, 3)
    lambda_ = torch.tensor([[1.0, 0.0, 1.0]])  # the second state arrived at is the last
    value = torch.tensor([[10.0, 20.0, 30.0]])
    assert lambda_return(one, one, value, lambda_).tolist() == [[22.0, 21.0, 31.0]]


def test_normaliser_follows_the_percentile_range():
    normaliser = ReturnNormaliser(rate=0.01)
    assert normaliser.scale() == 1.0
    returns = torch.linspace(0, 100, 1001)
    normaliser.update(returns)
    assert normaliser.scale() == 1.0  # 1 % of 90 is below 1
    for _ in range(2000):
        normaliser.update(returns)
    assert normaliser.scale().item() == pytest.approx(90.0, rel=1e-4)

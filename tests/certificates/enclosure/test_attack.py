"""The attack on a path finds known suprema."""

import torch

from sdewm.certificates.enclosure.attack import attack_path


def test_the_attack_attains_the_norm_of_a_linear_map():
    matrix = torch.diag(torch.tensor([1.1, 0.7, 0.2], dtype=torch.float64))
    found = attack_path(
        lambda n, x: x @ matrix, torch.ones(3).double(), torch.eye(3).double(), steps=4, seed=0
    )
    assert torch.allclose(found, 1.1 ** torch.arange(5.0).double(), rtol=1e-6)


def test_the_ascent_finds_what_random_and_singular_directions_miss():
    """x₀ + 8 x₁² is largest, 8 + 1/32, at x₀ = 1/16; the derivative at 0 points to e₀."""

    def step(n, x):
        return torch.cat([x[:, :1] + 8.0 * x[:, 1:2] ** 2, 0.0 * x[:, 1:]], 1)

    start, directions = torch.zeros(40).double(), torch.eye(40).double()
    least = attack_path(step, start, directions, steps=1, seed=0, samples=5, ascents=0)
    found = attack_path(step, start, directions, steps=1, seed=0, samples=5, ascents=40)
    assert least[1] < 4.0
    assert 8.03 < found[1] <= 8.0 + 1 / 32 + 1e-9

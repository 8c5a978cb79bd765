"""Maps and systems with known exponents, which tests of Lyapunov exponents share."""

import math

import torch
from scipy import integrate, stats


def starts(batch, size, spread=1.0):
    generator = torch.Generator().manual_seed(5)
    return spread * torch.randn(batch, size, dtype=torch.float64, generator=generator)


def linear(matrix):
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    return lambda x, n: x @ matrix.T


def scheme_rate(a, b, dt):
    """E ln|1 + aΔ + bΔB|/Δ of the Euler step of dx = a x dt + b x dB, by quadrature."""
    scale, zero = b * math.sqrt(dt), -(1 + a * dt) / (b * math.sqrt(dt))

    def integrand(z):
        return math.log(abs(1 + a * dt + scale * z)) * stats.norm.pdf(z)

    pieces = [integrate.quad(integrand, *ends)[0] for ends in ((-10, zero), (zero, 10))]
    return sum(pieces) / dt


class Multiplicative:
    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, a, b):
        self.a, self.b = a, b

    def f(self, t, y):
        return self.a * y

    def g(self, t, y):
        return self.b * y


class NoisyMap:
    """x ↦ W tanh x + ξ_n (1 + sin x)/4 with ξ_n looked up by n; singular values of W far apart."""

    def __init__(self, steps, batch):
        left, right = (torch.linalg.qr(torch.eye(4) + 0.1 * starts(4, 4)).Q for _ in range(2))
        self.matrix = left @ torch.diag(torch.tensor([2.0, 1.0, 0.4, 0.1]).double()) @ right.T
        self.noise = starts(steps * batch, 4).reshape(steps, batch, 4)

    def __call__(self, x, n):
        return x.tanh() @ self.matrix.T + self.noise[n] * (1 + x.sin()) / 4

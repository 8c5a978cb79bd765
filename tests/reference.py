"""Slow obvious versions that fast code is tested against."""

import torch


def euler_path(system, x0, noise, first=0):
    """All states `(N + 1, B, D)` of x + f Δ + g ΔB, term by term."""
    states, grid = [x0], noise.grid(x0.dtype)
    for n, increment in enumerate(noise.increments(first, first + len(x0), x0.dtype)):
        x, g = states[-1], system.g(grid[n], states[-1])
        new = x + system.f(grid[n], x) * noise.step_size
        for k in range(increment.shape[1]):
            for i in range(x.shape[1]):
                if g.dim() == 2:
                    if i == k:
                        new[:, i] += g[:, i] * increment[:, k]
                else:
                    new[:, i] += g[:, i, k] * increment[:, k]
        states.append(new)
    return torch.stack(states)


def difference_coefficients(value, h=0.02):
    """Coefficients of d, n, d², dn, n² of a smooth function of two sizes by central differences.

    Richardson extrapolation from steps h and h/2: the error is O(h⁴).
    """

    def at_step(h):
        f = {(i, j): value(i * h, j * h) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        return torch.tensor(
            [
                (f[1, 0] - f[-1, 0]) / (2 * h),
                (f[0, 1] - f[0, -1]) / (2 * h),
                (f[1, 0] + f[-1, 0] - 2 * f[0, 0]) / (2 * h * h),
                (f[1, 1] - f[1, -1] - f[-1, 1] + f[-1, -1]) / (4 * h * h),
                (f[0, 1] + f[0, -1] - 2 * f[0, 0]) / (2 * h * h),
            ],
            dtype=torch.float64,
        )

    return (4 * at_step(h / 2) - at_step(h)) / 3

"""Prints the bits of bounds and of attacks; with the argument numpy, all products are numpy's.

numpy has a BLAS of its own, and the inner index of each product runs backwards.
"""

import json
import sys
from contextlib import nullcontext

import torch
from torch.overrides import TorchFunctionMode

from paper_checks.cases.trained_models import WITHOUT, trained_run
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.latent_sde.system import as_system
from sdewm.theory.flow.rollout_enclosure import enclose_rollouts

START, STEPS = 5, 4
CASES = ((1e-9, 1), (0.03, 1), (0.1, 4))  # radius, slabs
PRODUCTS = {"matmul", "__matmul__", "mm", "bmm", "linear"}


class ReversedProducts(TorchFunctionMode):
    """Matrix products of float64 tensors are computed by numpy, with the last term first."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        plain = all(type(part) in (torch.Tensor, torch.nn.Parameter) for part in args[:2])
        if name not in PRODUCTS or not plain or args[0].dtype != torch.float64:
            return func(*args, **(kwargs or {}))
        type(self).count += 1
        left, right = (part.detach().numpy() for part in args[:2])
        right = right.swapaxes(-1, -2) if name == "linear" else right
        inner = right[..., ::-1, :] if right.ndim > 1 else right[::-1]
        found = torch.as_tensor(left[..., ::-1] @ inner)
        bias = args[2] if len(args) > 2 else (kwargs or {}).get("bias")
        return found if bias is None else found + bias


def main(products):
    run = trained_run(WITHOUT)
    episodes = run.episodes(START + STEPS + 2, 2, 0)
    state = clean_paths(run.model, episodes.first_rows(START + 1), 0).states[0, START]
    state = (256 * state).round() / 256  # the same bits in every order of summation
    actions = episodes.previous_actions[0, START + 1 : START + 1 + STEPS]
    system = as_system(run.model, actions=actions)
    latent = torch.eye(system.model.state_size).double()[:, system.model.latent]
    found = []
    with ReversedProducts() if products == "numpy" else nullcontext():
        for radius, slabs in CASES:
            tube = enclose_rollouts(
                system, state, radius, latent, steps=STEPS, paths=1, slabs=slabs
            )
            found.append([tube.bounds.tolist(), _attack(tube).tolist()])
    if products == "numpy":
        assert ReversedProducts.count > 1000
    print(json.dumps(found))


def _attack(tube):
    """Distances of random errors and of those that are stretched most: (P, N + 1)."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(200, tube.directions.shape[1], generator=generator).double()
    found = []
    for i in range(len(tube.bounds)):
        problem = tube._problem.of(slice(i, i + 1))
        leading = problem.leading(tube.radius * tube.directions, STEPS)
        e = torch.cat([drawn, leading, -leading])
        e = e / e.norm(dim=1, keepdim=True)
        start = problem.start[0]
        x = torch.cat([start[None], start + tube.radius * e @ tube.directions.T])
        rows = [(x[1:] - x[0]).norm(dim=1).max()]
        with torch.no_grad():
            for n in range(tube.bounds.shape[1] - 1):
                x = problem.step(n, x)
                rows.append((x[1:] - x[0]).norm(dim=1).max())
        found.append(torch.stack(rows))
    return torch.stack(found)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A Gaussian RSSM, as in PlaNet and Dreamer (arXiv 1811.04551, 1912.01603), in five analyses.

    h' = GRU(ELU(W [z, a]), h),    z' ~ N(m, s²),  (m, s) = MLP(h') or MLP([h', e']),

with s = softplus(·) + 0.1 and e' = MLP(o'). Weights and episodes are random; put yours in their
place. `build` is all that sdewm needs.
"""

import torch
from torch import nn
from torch.nn import functional

import sdewm
from sdewm.scripts.model_recipe import recipe_main

H, Z, E, D, A = 12, 4, 10, 5, 2  # sizes of h, z, embed, observation and action


def mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 16), nn.ELU(), nn.Linear(16, outputs))


class WorldModel(nn.Module):
    """The networks, in float32 as they come out of training."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.cell = nn.Linear(Z + A, 16), nn.GRUCell(16, H)
        self.prior_net, self.posterior_net = mlp(H, 2 * Z), mlp(H + E, 2 * Z)
        self.encoder, self.decoder_net = mlp(D, E), mlp(H + Z, D)

    def recurrent(self, h, z, a):
        return self.cell(functional.elu(self.before(torch.cat([z, a], -1))), h)

    def gaussian(self, raw):
        mean, free = raw.chunk(2, -1)
        return mean, functional.softplus(free) + 0.1

    def prior(self, h):
        return self.gaussian(self.prior_net(h))

    def posterior(self, h, e):
        return self.gaussian(self.posterior_net(torch.cat([h, e], -1)))

    def decoder(self, h, z):
        return self.decoder_net(torch.cat([h, z], -1))


def build(seed: int = 0) -> tuple[sdewm.RSSM, sdewm.Episodes]:
    torch.manual_seed(seed)
    net = WorldModel()
    functions = (net.recurrent, net.prior, net.posterior, net.encoder)
    model = sdewm.RSSM(*functions, deter=H, gaussian=Z, decoder=net.decoder)
    actions = 2 * torch.rand(8, 10, A) - 1  # row t: the action that led to row t
    return model, sdewm.Episodes(torch.randn(8, 10, D), actions, torch.randn(8, 10))


if __name__ == "__main__":
    recipe_main(build, __doc__)

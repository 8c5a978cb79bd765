"""A Gaussian RSSM of images, as in PlaNet (arXiv 1811.04551), in five analyses.

Encoder and decoder are (transposed) convolutions. Images are uint8 (E, T, height, width, channels)
and reach the encoder as they were recorded; the decoder returns images in [0, 1]. Weights and
episodes are random; put yours in their place. `build` is all that sdewm needs.
"""

import torch
from torch import nn
from torch.nn import functional

import sdewm
from sdewm.scripts.model_recipe import recipe_main

H, Z, E, A, SIDE, C = 10, 3, 64, 2, 8, 3  # h, z, embed, action, side and channels of the images


def gaussian(raw):
    mean, free = raw.chunk(2, -1)
    return mean, functional.softplus(free) + 0.1


class WorldModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Sequential(nn.Conv2d(C, 8, 4, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 4, 2, 1))
        self.cell, self.prior_net = nn.GRUCell(Z + A, H), nn.Linear(H, 2 * Z)
        self.posterior_net, self.before = nn.Linear(H + E, 2 * Z), nn.Linear(H + Z, E)
        up = (nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(8, C, 4, 2, 1))
        self.shown = nn.Sequential(*up)

    def encoder(self, images):
        return self.seen(images.movedim(-1, 1).double() / 255 - 0.5).flatten(1)

    def recurrent(self, h, z, a):
        return self.cell(torch.cat([z, a], -1), h)

    def prior(self, h):
        return gaussian(self.prior_net(h))

    def posterior(self, h, e):
        return gaussian(self.posterior_net(torch.cat([h, e], -1)))

    def decoder(self, h, z):
        small = self.before(torch.cat([h, z], -1)).unflatten(-1, (16, SIDE // 4, SIDE // 4))
        return self.shown(small).movedim(1, -1) + 0.5


def build(seed: int = 0) -> tuple[sdewm.RSSM, sdewm.Episodes]:
    torch.manual_seed(seed)
    net = WorldModel()
    functions = (net.recurrent, net.prior, net.posterior, net.encoder)
    model = sdewm.RSSM(*functions, deter=H, gaussian=Z, decoder=net.decoder)
    images = torch.randint(0, 256, (8, 10, SIDE, SIDE, C), dtype=torch.uint8)
    actions = 2 * torch.rand(8, 10, A) - 1  # row t: the action that led to row t
    return model, sdewm.Episodes(images, actions, torch.randn(8, 10))


if __name__ == "__main__":
    recipe_main(build, __doc__)

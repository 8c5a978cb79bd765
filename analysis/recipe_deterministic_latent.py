"""A deterministic latent, as in TD-MPC2 (arXiv 2310.16828), in five analyses.

    z' = SimNorm(MLP([z, a])),    or with an observation  z' = SimNorm(MLP(o')),

where SimNorm takes a softmax in each group of V components, layers are Mish(LayerNorm(W x)), and
the value of a state is Q(z, π(z)). There is no noise, no decoder and no law of z: what needs one is
left out. Weights and episodes are random; put yours in their place. `build` is all sdewm needs.
"""

import torch
from torch import nn

import sdewm
from sdewm.scripts.model_recipe import recipe_main

Z, V, U, D, A = 12, 4, 16, 5, 2  # z, a group of it, units, observation and action


class SimNorm(nn.Module):
    def forward(self, x):
        return torch.softmax(x.unflatten(-1, (-1, V)), -1).flatten(-2)


def mlp(inputs: int, *after: nn.Module, outputs: int = Z) -> nn.Module:
    hidden = (nn.Linear(inputs, U), nn.LayerNorm(U), nn.Mish())
    return nn.Sequential(*hidden, nn.Linear(U, outputs), *after)


class WorldModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.dynamics = mlp(D, SimNorm()), mlp(Z + A, SimNorm())
        self.q, self.actor = mlp(Z + A, outputs=1), mlp(Z, nn.Tanh(), outputs=A)

    def value(self, z):
        return self.q(torch.cat([z, self.actor(z)], -1)).squeeze(-1)


def build(seed: int = 0) -> tuple[sdewm.StepModel, sdewm.Episodes]:
    torch.manual_seed(seed)
    net = WorldModel().double()
    model = sdewm.StepModel(
        lambda z, a, noise: net.dynamics(torch.cat([z, a], -1)),
        state_size=Z,
        noise_size=0,
        encoder=lambda z, o: net.encoder(o),
        critic=net.value,
        policy=net.actor,
    )
    actions = 2 * torch.rand(8, 10, A) - 1  # row t: the action that led to row t
    return model, sdewm.Episodes(torch.randn(8, 10, D), actions, torch.randn(8, 10))


if __name__ == "__main__":
    recipe_main(build, __doc__)

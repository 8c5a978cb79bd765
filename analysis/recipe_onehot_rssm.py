"""A one-hot RSSM, as in DreamerV3 (arXiv 2301.04104), in five analyses.

With f(x) = SiLU(RMS(W x)), x = [f(h), f(z), f(a)], and for every block b of h

    (r, c, u)_b = W_b f_b([h_b, x]),    h' = σ(u − 1) tanh(σ(r) c) + (1 − σ(u − 1)) h.

z' has groups of one-hot variables, with 1 % of a uniform law; the first state is learnt. Weights
and episodes are random; put yours in their place. `build` is all that sdewm needs.
"""

import torch
from torch import nn
from torch.nn import functional

import sdewm
from sdewm.scripts.model_recipe import recipe_main

H, B, S, K, U, D, A = 16, 4, 3, 4, 8, 5, 2  # h, its blocks, groups, classes, units, observation, a


def layer(inputs: int, outputs: int = U) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs, False), nn.RMSNorm(outputs, 1e-4), nn.SiLU())


class WorldModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([layer(H), layer(S * K), layer(A)])
        self.hidden = nn.Parameter(torch.randn(B, H // B + 3 * U, H // B) / 5)
        self.gates, self.norm = (
            nn.Parameter(torch.randn(B, H // B, 3 * H // B)),
            nn.RMSNorm(H, 1e-4),
        )
        self.prior = nn.Sequential(layer(H), nn.Linear(U, S * K))
        self.posterior = nn.Sequential(layer(H + U), nn.Linear(U, S * K))
        self.encoder, self.decoder = layer(D), nn.Linear(H + S * K, D)

    def recurrent(self, h, z, a):
        x = torch.cat([part(one) for part, one in zip(self.parts, (h, z, a), strict=True)], -1)
        x = torch.cat([h.unflatten(-1, (B, -1)), x.unsqueeze(-2).expand(-1, B, -1)], -1)
        x = functional.silu(self.norm(torch.einsum("nbi,bio->nbo", x, self.hidden).flatten(1)))
        gates = torch.einsum("nbi,bio->nbo", x.unflatten(-1, (B, -1)), self.gates).chunk(3, -1)
        reset, candidate, update = (gate.flatten(1) for gate in gates)
        return h.lerp(torch.tanh(reset.sigmoid() * candidate), torch.sigmoid(update - 1))


def unimix(raw):
    return torch.log(0.99 * torch.softmax(raw.unflatten(-1, (S, K)), -1) + 0.01 / K)


def build(seed: int = 0) -> tuple[sdewm.RSSM, sdewm.Episodes]:
    torch.manual_seed(seed)
    net, h = WorldModel().double().requires_grad_(False), torch.tanh(torch.randn(H).double())
    model = sdewm.RSSM(
        net.recurrent,
        prior=lambda h: unimix(net.prior(h)),  # logits of the law that is sampled
        posterior=lambda h, e: unimix(net.posterior(torch.cat([h, e], -1))),
        encoder=net.encoder,
        deter=H,
        onehot=(S, K),
        initial=(h, functional.one_hot(net.prior(h).view(S, K).argmax(-1), K).flatten()),
        decoder=lambda h, z: net.decoder(torch.cat([h, z], -1)),
    )
    actions = 2 * torch.rand(8, 10, A) - 1  # row t: the action that led to row t
    return model, sdewm.Episodes(torch.randn(8, 10, D), actions, torch.randn(8, 10))


if __name__ == "__main__":
    recipe_main(build, __doc__)

"""A small recurrent world model, written out by hand."""

import torch


class RecurrentStep:
    """A GRU cell with a Gaussian latent, given by its step: (h, z) -> (h′, m(h′) + s(h′) ξ)."""

    noise_type, sde_type = "general", "ito"

    def __init__(self, hidden=5, latent=3, seed=1):
        torch.manual_seed(seed)
        self.hidden, self.drivers = hidden, latent
        self.x0 = 0.5 * torch.randn(hidden + latent, dtype=torch.float64)
        self.cell = torch.nn.GRUCell(latent, hidden).double()
        self.head = torch.nn.Linear(hidden, 2 * latent).double()

    def f_and_g_prod(self, t, y, v):
        h, z = y[:, : self.hidden], y[:, self.hidden :]
        from_z = torch.nn.functional.linear(z, self.cell.weight_ih, self.cell.bias_ih).chunk(3, 1)
        from_h = torch.nn.functional.linear(h, self.cell.weight_hh, self.cell.bias_hh).chunk(3, 1)
        reset, update = (torch.sigmoid(from_z[i] + from_h[i]) for i in (0, 1))
        new = torch.tanh(from_z[2] + reset * from_h[2])
        following = (1 - update) * new + update * h
        mean, spread = self.head(following).chunk(2, dim=1)
        noise = torch.nn.functional.softplus(spread) * v
        return torch.cat((following - h, mean - z), 1), torch.cat((torch.zeros_like(h), noise), 1)

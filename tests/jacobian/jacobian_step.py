"""A step of two inputs and two outputs, and its Jacobians by a slow loop over autograd."""

import torch

torch64 = {"dtype": torch.float64}


class Step(torch.nn.Module):
    """Two inputs, two outputs, a gate and a normalisation."""

    def __init__(self, norm, outputs=3):
        super().__init__()
        self.inner = torch.nn.Linear(5, 6)
        self.norm = norm
        self.outer = torch.nn.Linear(6, outputs)

    def forward(self, h, z):
        hidden = torch.nn.functional.silu(self.norm(self.inner(torch.cat([h, z.flatten(1)], 1))))
        return self.outer(hidden), torch.sigmoid(hidden) * hidden.tanh()


NORMS = {
    "layer": lambda: torch.nn.LayerNorm(6),
    "layer, plain": lambda: torch.nn.LayerNorm(6, elementwise_affine=False, bias=False),
    "rms": lambda: torch.nn.RMSNorm(6),
    "group": lambda: torch.nn.GroupNorm(2, 6),
    "batch": lambda: torch.nn.BatchNorm1d(6).eval(),
    "softmax": lambda: torch.nn.Softmax(1),
    "log_softmax": lambda: torch.nn.LogSoftmax(1),
    "elu": lambda: torch.nn.ELU(),
    "gelu": lambda: torch.nn.GELU(),
    "softplus": lambda: torch.nn.Softplus(),
}


def make_step(norm, outputs=3):
    torch.manual_seed(1)
    step = Step(NORMS[norm](), outputs).double()
    return step, (torch.randn(4, 3, **torch64), torch.randn(4, 1, 2, **torch64))


def slow_jacobians(step, inputs):
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    outputs = torch.cat([o.flatten(1) for o in step(*leaves)], dim=1)
    rows = [
        torch.cat(
            [g[b].flatten() for g in torch.autograd.grad(outputs[b, c], leaves, create_graph=True)]
        )
        for b in range(len(outputs))
        for c in range(outputs.shape[1])
    ]
    return torch.stack(rows).view(len(outputs), outputs.shape[1], -1)

"""Functions that move numbers, on sets as on tensors."""

import pytest
import torch

from sdewm.certificates.enclosure.execution import SetExecution, enclosed
from sdewm.certificates.enclosure.taylor_set import Symbols
from tests.certificates.enclosure.members import Draw, random_set

MOVES = {
    "getitem": lambda x: x[:, 1:3],
    "negative step": lambda x: x[..., [3, 0]],
    "new axis": lambda x: x[:, None, :],
    "reshape": lambda x: x.reshape(2, 2, 2),
    "transpose": lambda x: x.transpose(0, 1),
    "T": lambda x: x.T,
    "expand": lambda x: x.unsqueeze(0).expand(3, -1, -1),
    "flatten": lambda x: x.flatten(),
    "cat": lambda x: torch.cat([x, torch.ones(2, 1).double(), x[:, :1]], dim=-1),
    "stack": lambda x: torch.stack([x, -x], 1),
    "chunk": lambda x: torch.cat(x.chunk(2, -1)[::-1], -1),
    "split": lambda x: x.split([1, 3], dim=-1)[1],
    "unbind": lambda x: x.unbind(-1)[2],
    "tensor_split": lambda x: x.tensor_split([3], 1)[0],
    "permute": lambda x: x.reshape(2, 2, 2).permute(2, 0, 1),
    "flip": lambda x: x.flip(-1),
    "pad": lambda x: torch.nn.functional.pad(x, (1, 2, 0, 1)),
    "unpack": lambda x: [*x][1],
}


@pytest.mark.parametrize("name", MOVES)
def test_every_coefficient_is_moved_as_the_tensor_is(name):
    values, move = random_set(Draw(0), (2, 4)), MOVES[name]
    with SetExecution(Symbols(4), values):
        found = move(enclosed(values)).taylor
    assert torch.equal(found.centre, move(values.centre))
    constants = torch.zeros_like(values.centre)  # a coefficient of a constant is zero
    for part, image in zip(values.parts[1:4], found.parts[1:4], strict=True):
        columns = part.reshape(*values.shape, -1).unbind(-1)
        images = image.reshape(*found.shape, -1).unbind(-1)
        for column, moved in zip(columns, images, strict=True):
            assert torch.equal(moved, move(column) - move(constants))
    assert torch.equal(found.box, (move(values.box) - move(constants)).abs())

"""What a CUDA graph does, in slow motion on a CPU: it repeats operations on the same memory.

Every operation of torch is recorded with its arguments: numbers as they were, tensors as the very
tensors. A replay calls the operations again and writes their results where they were before.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero"}


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() in READS:
            raise RuntimeError(f"{func.name()} reads on the host while work is recorded")
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found


class CpuRecorder:
    """A recorder for `UpdateGraph`."""

    def warm_up(self, run):
        return run()

    def record(self, run):
        self.tape = Tape()
        with self.tape:
            return run()

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, before in self.tape.calls:
            old = [x for x in tree_leaves(before) if isinstance(x, torch.Tensor)]
            places = {x.data_ptr() for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)}
            again = func(*args, **kwargs)
            new = [x for x in tree_leaves(again) if isinstance(x, torch.Tensor)]
            for a, b in zip(old, new, strict=True):
                shared = a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
                if not shared and a.data_ptr() not in places:
                    a.copy_(b)

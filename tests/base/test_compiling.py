"""Compilation never changes numbers beyond rounding, and never takes the program down."""

import os
import time

import torch

from sdewm.base.compiling import LINKING_SECONDS, Compiled, remove_broken_libraries


def test_compiled_numbers_agree_to_rounding_at_several_shapes():
    def function(x, y):
        return torch.tanh(x) * y + torch.sqrt(x * x + 1)

    compiled = Compiled(function)
    for size in (3, 1000):
        x, y = torch.linspace(-2, 2, 2 * size, dtype=torch.float64).view(2, size)
        torch.testing.assert_close(compiled(x, y), function(x, y), rtol=1e-14, atol=1e-15)
    assert compiled.active is not None


def test_a_function_that_cannot_be_recorded_runs_as_it_is():
    compiled = Compiled(lambda x: x if x.sum() > 0 else -x)
    assert torch.equal(compiled(-torch.ones(2)), torch.ones(2))
    assert torch.equal(compiled(torch.ones(2)), torch.ones(2))
    assert compiled.active is False


def test_without_a_compiler_the_function_itself_runs(monkeypatch):
    import torch._inductor

    def broken(*arguments, **options):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch._inductor, "compile", broken)
    compiled = Compiled(lambda x: 3 * x)
    assert torch.equal(compiled(torch.ones(2)), 3 * torch.ones(2)) and compiled.active is False


def test_empty_libraries_of_an_interrupted_compilation_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "ab"
    folder.mkdir()
    now = time.time()
    old, coming = now - 2 * LINKING_SECONDS, now + 3600.0  # the latter stays new, however long
    for name, content, stamp in (
        ("broken.so", b"", old),
        ("good.so", b"library", old),
        ("in_the_making.so", b"", coming),
        ("notes.txt", b"", old),
    ):
        (folder / name).write_bytes(content)
        os.utime(folder / name, (stamp, stamp))
    assert remove_broken_libraries() == [folder / "broken.so"]
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["good.so", "in_the_making.so", "notes.txt"]
    assert remove_broken_libraries() == []

"""Compilation never changes numbers beyond rounding, and never takes the program down."""

import os
import sys
import time
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from sdewm.base.compiling import (
    LINKING_SECONDS,
    Compiled,
    missing_compiler,
    remove_broken_libraries,
    trace,
)
from sdewm.base.taylor import record


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


@pytest.mark.parametrize("function", [lambda x: 3 * x, lambda x: 2 * x if x.sum() > 0 else -x])
def test_no_gradient_is_recorded_compiled_or_not(function):
    compiled, x = Compiled(function), torch.ones(2, requires_grad=True)
    for _ in range(2):  # compiled anew, and found again
        assert not compiled(x).requires_grad and torch.is_grad_enabled()
        assert not compiled.version(x)(x).requires_grad


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


def test_a_missing_compiler_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    assert "no-such-compiler" in missing_compiler(torch.device("cpu"))
    monkeypatch.setenv("CXX", sys.executable)
    assert missing_compiler(torch.device("cpu")) is None


def test_tuples_gradients_and_layouts():
    def slopes(x, y):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return (*torch.autograd.grad((torch.tanh(x) * y).sum(), x), x + y)

    compiled = Compiled(slopes, trace)
    x, y = torch.linspace(-1, 1, 12).view(3, 4), torch.linspace(0, 1, 12).view(4, 3).T
    for one, two in zip(compiled(x, y), slopes(x, y), strict=True):
        torch.testing.assert_close(one, two)
    same = compiled.version(x, y.contiguous())
    torch.testing.assert_close(same(x, y.contiguous())[1], x + y)
    assert len(compiled._versions) == 1


def test_nothing_is_compiled_where_torch_is_told_not_to(monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    compiled = Compiled(lambda x: 3 * x)
    assert torch.equal(compiled(torch.ones(2)), 3 * torch.ones(2)) and compiled.active is False


def test_a_compiled_graph_is_found_again_on_the_disk_and_reads_its_weights_anew():
    from torch._inductor.utils import fresh_cache

    x = torch.linspace(-1, 1, 8, dtype=torch.float64).view(4, 2)
    for recorded in (trace, record):
        found = []
        # The second differs in its weight alone, the third also in a number of its own.
        with fresh_cache():
            for weight, factor in ((2.0, 3.0), (-1.0, 3.0), (-1.0, 5.0)):
                matrix = torch.nn.Parameter(torch.full((2, 2), weight, dtype=torch.float64))
                function = partial(_product, matrix, factor)
                counters.clear()
                compiled = Compiled(function, recorded)
                torch.testing.assert_close(compiled(x), function(x), rtol=1e-14, atol=0)
                assert compiled.active
                with torch.no_grad():
                    matrix += 1
                torch.testing.assert_close(compiled(x), function(x), rtol=1e-14, atol=0)
                found.append(counters["inductor"]["fxgraph_cache_hit"])
        assert found == [0, 1, 0]


def _product(matrix, factor, x):
    return factor * torch.tanh(x @ matrix)

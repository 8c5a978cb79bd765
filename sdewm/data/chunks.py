"""Tensors in a safetensors file: written atomically, verified against a checksum when read.

The file is assembled here because `safetensors.torch.save` copies every tensor twice. It is four
times slower, and a replay memory writes gigabytes at every checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sdewm.base.fields import NonNegativeInt

DTYPES = {  # the names of the format
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


@dataclass(frozen=True)
class ChunkFacts:
    """What `write_chunk` returns about a file: its name, its size and the SHA-256 of its bytes."""

    name: str
    bytes: NonNegativeInt
    sha256: str


def write_chunk(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write tensors atomically to a safetensors file and flush it to disk.

    The file is written under a temporary name and renamed. An existing file of that name is never
    modified in place, so hard links to it keep their content.

    Returns:
        The facts that `read_chunk` needs: name, bytes and sha256.

    Raises:
        OSError: the disk is full or fails. The message names the file, and no partial file remains.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     facts = write_chunk(Path(folder) / "a.safetensors", {"reward": torch.ones(2)})
    ...     facts["bytes"], read_chunk(Path(folder), facts)
    (88, {'reward': tensor([1., 1.])})
    """
    aside = path.with_name(path.name + ".part")
    digest, size = hashlib.sha256(), 0
    try:
        with aside.open("wb") as file:
            for piece in _pieces(tensors):
                digest.update(piece)
                file.write(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as problem:
        aside.unlink(missing_ok=True)
        reason = problem.strerror or str(problem)
        raise OSError(problem.errno, f"{reason}; the file could not be written", str(path)) from (
            problem
        )
    return {"name": path.name, "bytes": size, "sha256": digest.hexdigest()}


def read_chunk(directory: Path, facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file that `write_chunk` wrote.

    Args:
        directory: the folder of the file.
        facts: the facts returned by `write_chunk`.

    Raises:
        ValueError: the file is missing, or its size, checksum or format is wrong.
    """
    path = check_chunk(directory, facts)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != facts["sha256"]:
        raise ValueError(f"{path} is damaged: its SHA-256 differs from the recorded one.")
    try:
        return safetensors.torch.load_file(path)  # mapped into memory, not copied
    except SafetensorError as problem:
        raise ValueError(f"{path} is not a safetensors file: {problem}.") from problem


def check_chunk(directory: Path, facts: Mapping[str, Any]) -> Path:
    """The path of a file, after a check of its existence and size; its content is not read.

    Raises:
        ValueError: the file is missing or has another size.
    """
    if Path(facts["name"]).name != facts["name"]:
        raise ValueError(f"{facts['name']!r}: expected the name of a file in {directory}.")
    path = directory / facts["name"]
    if not path.is_file():
        raise ValueError(f"{path} is missing.")
    if (size := path.stat().st_size) != facts["bytes"]:
        raise ValueError(f"{path} is damaged: {size} bytes; expected {facts['bytes']}.")
    return path


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[memoryview | bytes]:
    """The file in order: length of the header, header, bytes of each tensor."""
    header, start = {}, 0
    # Wide elements first, so that every tensor begins at a multiple of its element's size.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in names:
        tensor = tensors[name]
        end = start + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data

"""The description of a checkpoint's tensors: which part of which tensor lies where in which file."""

import math
from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, TensorProperties, TensorStorageMetadata

from dlrm_mtl.files import read_json
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import convert

DESCRIPTION = "tensors.json"
"""``{NAME: {"dtype": ..., "size": [...], "chunks": [{"offset": [...], "size": [...], "file": ..., "start": ...,
"bytes": ...}]}}``."""


@dataclass(frozen=True)
class Chunk:
    """A part of a tensor, and where it lies."""

    offset: tuple[int, ...]
    size: tuple[int, ...]
    file: str
    start: int
    bytes: int

    def __post_init__(self) -> None:
        if PurePath(self.file).name != self.file or "\0" in self.file:
            raise ValueError(f"file {quote(self.file)} lies outside of the checkpoint")
        if len(self.offset) != len(self.size) or min((*self.offset, *self.size, self.start, self.bytes)) < 0:
            raise ValueError(
                f"offset {quote(self.offset)}, size {quote(self.size)}: expected as many of both, 0 or more"
            )


@dataclass(frozen=True)
class StoredTensor:
    """A tensor. Raises ValueError unless its chunks cover every element once, in enough bytes."""

    dtype: str
    size: tuple[int, ...]
    chunks: tuple[Chunk, ...]

    def __post_init__(self) -> None:
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"dtype {quote(self.dtype)}, expected one of torch's")
        if min(self.size, default=0) < 0:
            raise ValueError(f"size {quote(self.size)}, expected 0 or more")
        for chunk in self.chunks:
            if len(chunk.size) != len(self.size) or any(
                offset + size > whole for offset, size, whole in zip(chunk.offset, chunk.size, self.size, strict=True)
            ):
                raise ValueError(
                    f"a chunk of size {quote(chunk.size)} at {quote(chunk.offset)} is not a part of a tensor of size"
                    f" {quote(self.size)}"
                )
            if math.prod(chunk.size) * dtype.itemsize > chunk.bytes:
                raise ValueError(f"a chunk of size {quote(chunk.size)} in {chunk.bytes} bytes, expected more")
        if sum(math.prod(chunk.size) for chunk in self.chunks) != math.prod(self.size):
            raise ValueError(f"the chunks do not cover a tensor of size {quote(self.size)}")
        if _overlap(self.chunks):
            raise ValueError(f"chunks of a tensor of size {quote(self.size)} overlap")

    @property
    def metadata(self) -> TensorStorageMetadata:
        """As torch.distributed.checkpoint describes it."""
        chunks = [ChunkStorageMetadata(torch.Size(chunk.offset), torch.Size(chunk.size)) for chunk in self.chunks]
        properties = TensorProperties(dtype=getattr(torch, self.dtype))
        return TensorStorageMetadata(properties, torch.Size(self.size), chunks)


def read_description(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint, by name.

    Raises:
        ValueError: the description is missing or invalid, or names a file outside of the directory.
    """
    file = path / DESCRIPTION
    value = read_json(file)
    try:
        tensors: dict[str, StoredTensor] = convert(Mapping[str, StoredTensor], value, "")
    except ValueError as error:
        raise ValueError(f"{file}: not a description of tensors: {error}") from None
    return tensors


def check_places(tensors: Mapping[str, StoredTensor], file_sizes: Mapping[str, int]) -> None:
    """Checks that the files of a checkpoint are large enough for its tensors.

    Args:
        file_sizes: bytes of each file, by name.

    Raises:
        ValueError: one is missing or too small.
    """
    for name, tensor in tensors.items():
        for chunk in tensor.chunks:
            if chunk.start + chunk.bytes > file_sizes.get(chunk.file, 0):
                raise ValueError(
                    f"{DESCRIPTION}: {quote(name)} lies at {chunk.start} to {chunk.start + chunk.bytes} of"
                    f" {quote(chunk.file)}, which has {file_sizes.get(chunk.file, 'no')} bytes"
                )


def _overlap(chunks: Sequence[Chunk]) -> bool:
    """Whether two chunks have an element in common."""
    filled = sorted((chunk for chunk in chunks if math.prod(chunk.size)), key=lambda chunk: chunk.offset)
    active: list[tuple[int, int]] = []  # first row behind a chunk, and its index
    for index, chunk in enumerate(filled):
        if not chunk.size:
            return len(filled) > 1
        del active[: bisect_right(active, (chunk.offset[0], len(filled)))]
        if any(_meet(chunk, filled[other]) for _, other in active):
            return True
        insort(active, (chunk.offset[0] + chunk.size[0], index))
    return False


def _meet(one: Chunk, other: Chunk) -> bool:
    return all(
        a < b + width and b < a + length
        for a, length, b, width in zip(one.offset, one.size, other.offset, other.size, strict=True)
    )

"""Tensors of a checkpoint on disk, as torch.distributed.checkpoint writes them, but described in JSON.

torch's own description is a pickle, which can execute code when it is read, and so are values other than tensors: only
tensors are written.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from dlrm_mtl.distributed.tensor_description import DESCRIPTION, StoredTensor
from dlrm_mtl.files import write_json


class TensorWriter(FileSystemWriter):
    """Writes tensors under a directory, one file per rank."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        try:
            return super().write_data(plan, planner)
        except RuntimeError as error:
            # torch.save's archive complains when it is closed, and hides what the file system said.
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else error from None

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        places = {result.index: result.storage_data for rank in results for result in rank}
        description = {
            name: {
                "dtype": str(tensor.properties.dtype).removeprefix("torch."),
                "size": list(tensor.size),
                "chunks": [_chunk_record(chunk, places[MetadataIndex(name, chunk.offsets)]) for chunk in tensor.chunks],
            }
            for name, tensor in metadata.state_dict_metadata.items()
            if isinstance(tensor, TensorStorageMetadata)
        }
        others = metadata.state_dict_metadata.keys() - description.keys()
        if others:
            raise TypeError(f"{min(others)} is no tensor")
        write_json(self.path / DESCRIPTION, description)  # type: ignore[operator]


class TensorReader(FileSystemReader):
    """Reads what :class:`TensorWriter` wrote.

    Args:
        description: of all tensors under the directory, by name.
        grown: tensors of tables that have grown: the table's rows then and now. A tensor has one row for each of them,
            or, for the state of a table that is sharded by columns, one block of such rows for each column shard.
    """

    def __init__(
        self,
        directory: Path,
        description: Mapping[str, StoredTensor],
        grown: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        super().__init__(directory)
        self._description = description
        self._grown = grown

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        tensors = {name: tensor.metadata for name, tensor in self._description.items()}
        tensors |= {name: _grow(tensors[name], *rows) for name, rows in self._grown.items()}
        places = {
            MetadataIndex(name, chunk.offsets): _StorageInfo(stored.file, stored.start, stored.bytes)
            for name, tensor in tensors.items()
            for chunk, stored in zip(tensor.chunks, self._description[name].chunks, strict=True)
        }
        return Metadata(tensors, storage_data=places, storage_meta=StorageMeta(load_id=self.load_id))  # type: ignore[arg-type]


def _grow(tensor: TensorStorageMetadata, before: int, now: int) -> TensorStorageMetadata:
    """The tensor as a part of one whose blocks have ``now`` rows instead of ``before``."""
    chunks = [
        ChunkStorageMetadata(torch.Size([first + first // before * (now - before), *others]), chunk.sizes)
        for chunk in tensor.chunks
        for first, *others in [chunk.offsets]
    ]
    rows, *others = tensor.size
    return TensorStorageMetadata(tensor.properties, torch.Size([rows // before * now, *others]), chunks)


def _chunk_record(chunk: ChunkStorageMetadata, place: _StorageInfo) -> dict[str, Any]:
    return {
        "offset": list(chunk.offsets),
        "size": list(chunk.sizes),
        "file": place.relative_path,
        "start": place.offset,
        "bytes": place.length,
    }

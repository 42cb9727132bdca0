"""Tensors of a checkpoint on disk: as torch.distributed.checkpoint writes them, but described in JSON.

Its own description is a pickle, which can execute code when it is read; and values that are no tensors would be pickled
too, so there are none.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from dlrm_mtl.files import read_json, write_json

DESCRIPTION = "tensors.json"
"""``{NAME: {"dtype": ..., "size": [...], "chunks": [{"offset": [...], "size": [...], "file": ..., "start": ...,
"bytes": ...}]}}``: which part of which tensor lies where in which file."""


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

    Raises:
        ValueError: the description is missing, is not of the form, or names a file outside the directory.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        path = self.path / DESCRIPTION  # type: ignore[operator]
        description = read_json(path)
        try:
            tensors, places = _parse(description)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: not a description of tensors ({type(error).__name__}: {error})") from None
        return Metadata(tensors, storage_data=places, storage_meta=StorageMeta(load_id=self.load_id))  # type: ignore[arg-type]


def _chunk_record(chunk: ChunkStorageMetadata, place: _StorageInfo) -> dict[str, Any]:
    return {
        "offset": list(chunk.offsets),
        "size": list(chunk.sizes),
        "file": place.relative_path,
        "start": place.offset,
        "bytes": place.length,
    }


def _parse(
    description: Mapping[str, Any],
) -> tuple[dict[str, TensorStorageMetadata], dict[MetadataIndex, _StorageInfo]]:
    tensors: dict[str, TensorStorageMetadata] = {}
    places: dict[MetadataIndex, _StorageInfo] = {}
    for name, record in description.items():
        dtype = getattr(torch, record["dtype"])
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{name} has dtype {record['dtype']!r}")
        chunks = []
        for chunk in record["chunks"]:
            if PurePath(chunk["file"]).name != chunk["file"]:
                raise ValueError(f"{name} lies in {chunk['file']!r}, outside of the checkpoint")
            offsets = torch.Size(chunk["offset"])
            chunks.append(ChunkStorageMetadata(offsets, torch.Size(chunk["size"])))
            places[MetadataIndex(name, offsets)] = _StorageInfo(chunk["file"], chunk["start"], chunk["bytes"])
        tensors[name] = TensorStorageMetadata(TensorProperties(dtype=dtype), torch.Size(record["size"]), chunks)
    return tensors, places

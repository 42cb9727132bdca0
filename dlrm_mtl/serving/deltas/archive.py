"""``model.pt2`` as records: torch.export.save writes a ZIP file without compression."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt
import torch

Bytes = npt.NDArray[np.uint8]

CONFIG = "data/weights/model_weights_config.json"
"""Names the record of each tensor."""

OF_THE_WRITER = (".data/version", "byteorder", ".data/serialization_id")
"""Records that torch's writer adds at the end."""

LOCAL_HEADER = 30
"""Bytes before a record's name."""


class Archive:
    """The records of a model, by their names without the folder that they all are in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with ZipFile(path) as file:
            infos = {info.filename.partition("/")[2]: info for info in file.infolist()}
        self._infos = {name: info for name, info in infos.items() if name not in OF_THE_WRITER}
        self._config = json.loads(self.read(CONFIG))["config"]

    @property
    def names(self) -> list[str]:
        """In the order of the file."""
        return list(self._infos)

    def read(self, name: str) -> bytes:
        with ZipFile(self._path) as file:
            return file.read(self._infos[name])

    def record_of(self, tensor: str) -> str:
        """The record that holds a tensor."""
        return f"data/weights/{self._config[tensor]['path_name']}"

    def tensor(self, tensor: str) -> Bytes:
        """The bytes of a tensor, mapped into memory."""
        info = self._infos[self.record_of(tensor)]
        header = np.fromfile(self._path, np.uint8, LOCAL_HEADER, offset=info.header_offset)
        name, extra = header[26:30].view("<u2").tolist()
        start = info.header_offset + LOCAL_HEADER + name + extra
        return np.memmap(self._path, np.uint8, "r", start, (info.file_size,))


def write_records(archive: Archive, empty: Collection[str], path: Path) -> None:
    """Writes the records of a model, compressed, with nothing in those of ``empty``."""
    with ZipFile(path, "w") as file:
        for name in archive.names:
            # ZipInfo's own date makes the bytes a function of the model.
            file.writestr(ZipInfo(f"model/{name}"), b"" if name in empty else archive.read(name), ZIP_DEFLATED)


def write_model(records: Archive, tensors: Mapping[str, Callable[[], Bytes]], path: Path) -> None:
    """Writes a model, as torch.export.save does.

    Args:
        records: what :func:`write_records` wrote.
        tensors: give what belongs in the records that are empty there, by record.
    """
    writer = torch._C.PyTorchFileWriter(str(path))
    writer.set_min_version(6)  # as torch.export's writer
    for name in records.names:
        if name in tensors:
            content = torch.from_numpy(tensors[name]()).untyped_storage()
            writer.write_record(name, content, content.nbytes())  # type: ignore[arg-type]  # its stub lacks the type
        else:
            data = records.read(name)
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()

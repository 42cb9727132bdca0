"""The directory of predictions.

::

    OUT/predictions.json               the manifest
    OUT/data.json                      the shards that were read, with their checksums
    OUT/parts/part-00000.parquet ...   consecutive rows

Until all are written it is ``OUT.partial``.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm_mtl.data.shards import DataRecord
from dlrm_mtl.files import is_leftover, publish, remove_leftovers, write_json
from dlrm_mtl.inference.predictions.manifest import MANIFEST, Manifest, PartRecord, write_manifest
from dlrm_mtl.storage.parquet import UNREADABLE
from dlrm_mtl.training.run_data import DATA_RECORD

PARTS = "parts"


@dataclass(frozen=True)
class Output:
    """The directories of predictions."""

    out: Path

    @property
    def partial(self) -> Path:
        out = self.out.absolute()
        return out.with_name(f"{out.name}.partial")

    def find(self) -> Path | None:
        """The directory that holds predictions, finished or begun; None if there are none.

        Raises:
            ValueError: a directory holds something else.
        """
        if (self.out / MANIFEST).is_file():
            return self.out
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ValueError(f"{self.out}: is not empty and has no {MANIFEST}; give another --out")
        if not self.partial.exists():
            return None
        for entry in self.partial.iterdir():
            if entry.name not in (MANIFEST, DATA_RECORD, PARTS) and not is_leftover(entry):
                raise ValueError(f"{entry}: is no file of predictions; give another --out")
        has_finished = any((self.partial / PARTS).glob("*.parquet"))
        return self.partial if has_finished and (self.partial / MANIFEST).is_file() else None

    def begin(self, manifest: Manifest, record: DataRecord) -> None:
        """Makes an empty directory for predictions that begin."""
        shutil.rmtree(self.partial, ignore_errors=True)
        (self.partial / PARTS).mkdir(parents=True)
        write_json(self.partial / DATA_RECORD, record.as_json())
        write_manifest(self.partial, manifest)

    def go_on(self) -> None:
        """Removes what a killed process has left unfinished."""
        for directory in (self.partial, self.partial / PARTS):
            remove_leftovers(directory)

    def files(self, parts: Sequence[range]) -> dict[Path, range]:
        """The files of all parts while they are being written, with their places of rows."""
        return {self.partial / PARTS / f"part-{number:05}.parquet": part for number, part in enumerate(parts)}

    def publish(self, manifest: Manifest, parts: Mapping[Path, range], checksums: Mapping[Path, str]) -> None:
        """Adds the files to the manifest, and gives the directory its name."""
        records = tuple(
            PartRecord(str(file.relative_to(self.partial)), len(part), checksums[file]) for file, part in parts.items()
        )
        write_manifest(self.partial, replace(manifest, parts=records))
        publish(self.partial, self.out.absolute())


def unfinished(parts: Mapping[Path, range], schema: pa.Schema) -> dict[Path, range]:
    """The parts whose file is not there, or is not what was to be written."""
    return {file: part for file, part in parts.items() if not _is_finished(file, len(part), schema)}


def _is_finished(file: Path, rows: int, schema: pa.Schema) -> bool:
    if not file.is_file():
        return False
    try:
        with pq.ParquetFile(file) as written:
            return bool(written.metadata.num_rows == rows and written.schema_arrow.equals(schema))
    except UNREADABLE:
        return False

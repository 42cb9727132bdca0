"""Writes what a data set says about the one before it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.encoding.extending import Extended
from dlrm_mtl.continuation import Continuation, ResetIds
from dlrm_mtl.file_names import file_names
from dlrm_mtl.files import sha256, write_whole
from dlrm_mtl.meaning import TableFingerprint


@dataclass(frozen=True)
class Continued:
    """The data set before, and the ids that begin anew."""

    data_set: str
    """Name of the data set before."""
    tables: Mapping[str, TableFingerprint]
    """Its tables."""
    reset: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """By table, the ids (N,) that have another value now, ascending; none that are appended."""

    @staticmethod
    def of(extended: Extended) -> "Continued | None":
        """What the encoding of a data set extends; None: it begins a chain."""
        if extended.previous is None:
            return None
        reused = extended.previous.reused
        return Continued(reused.name, reused.encoding.fingerprints.tables, extended.reset)

    def write(self, directory: Path) -> Continuation:
        """Writes the ids below the directory of the data set."""
        files = file_names(self.tables)
        reset = {}
        for table, ids in self.reset.items():
            if len(ids):
                path = directory / "reset" / f"{files[table]}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                with write_whole(path) as temporary:
                    pq.write_table(pa.table({"id": pa.array(ids, pa.int64())}), temporary, compression="zstd")
                reset[table] = ResetIds(str(path.relative_to(directory)), len(ids), sha256(path))
        return Continuation(self.data_set, dict(self.tables), reset)

"""The log's rows by day, in temporary files: the log is not sorted, and read once however many days it has."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from data_prep.columns.arrays import numbers
from data_prep.kuairand_log.raw_tables import Impressions


class DayFiles:
    """Writes impressions into a file per day, and reads them in the order of the log. The directory is removed at the
    end.

    Args:
        directory: an existing one is replaced.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}

    def __enter__(self) -> "DayFiles":
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def days(self) -> list[int]:
        """Days since 1970 that have impressions, ascending."""
        return sorted(self._writers)

    def write(self, impressions: Impressions) -> None:
        """Adds impressions of any days."""
        for day in np.unique(impressions.day).tolist():
            columns = impressions.select(impressions.day == day).columns
            batch = pa.record_batch({name: pa.array(values) for name, values in columns.items()})
            if day not in self._writers:
                self._writers[day] = pa.ipc.new_file(str(self._path(day)), batch.schema)
            self._writers[day].write_batch(batch)

    def close(self) -> None:
        """Ends the files, so that they can be read."""
        for writer in self._writers.values():
            writer.close()

    def read(self, day: int) -> Iterator[Impressions]:
        """The impressions of a day."""
        with pa.memory_map(str(self._path(day))) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                columns = {name: numbers(batch[name], np.int64) for name in batch.schema.names}
                yield Impressions(columns, np.full(len(batch), day, np.int64))

    def _path(self, day: int) -> Path:
        return self._directory / f"{day}.arrow"

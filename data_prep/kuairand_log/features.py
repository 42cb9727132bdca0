"""KuaiRand's features. Those of a user or a video are encoded once per table row, and an impression takes the encoded
row.

Notation: B impressions, N rows of a table; row N stands for users or videos that it lacks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_prep.columns.arrays import NULL, Integers, to_integers
from data_prep.encoding.encoder import Encoder
from data_prep.encoding.encoding import Encoding
from data_prep.encoding.kuairand import (
    LOG_CATEGORICAL,
    LOG_DENSE,
    history_columns,
    log_columns,
    user_columns,
    video_columns,
)
from data_prep.ids.assignment import of_values
from data_prep.kuairand_log.raw_tables import (
    Impressions,
    JoinTable,
    RawFiles,
    read_history,
    read_users,
    read_videos,
)


@dataclass
class Tables:
    """The tables that impressions are joined with."""

    users: JoinTable
    videos: JoinTable
    history: JoinTable | None

    def __post_init__(self) -> None:
        upload_day = self.videos.columns["upload_dt"].cast(pa.int32()).cast(pa.int64())
        self.upload_day: Integers = np.append(to_integers(upload_day), NULL)
        """(N + 1,) of the videos."""
        self.columns = {
            "user": user_columns(_with_empty_row(self.users.columns)),
            "video": video_columns(_with_empty_row(self.videos.columns)),
        }
        """Columns (N + 1,) of the features of each table."""
        if self.history is not None:
            self.columns["history"] = history_columns(_with_empty_row(self.history.columns))

    @staticmethod
    def read(files: RawFiles) -> "Tables":
        """Raises ValueError where a file or a value is not as expected."""
        history = read_history(files.history) if files.history is not None else None
        return Tables(read_users(files.users), read_videos(files.videos), history)

    def join(self, impressions: Impressions) -> dict[str, Integers]:
        """Row number in each table, (B,), by the table's name."""
        users, videos = impressions.columns["user_id"], impressions.columns["video_id"]
        rows = {"user": self.users.lookup(users), "video": self.videos.lookup(videos)}
        if self.history is not None:
            rows["history"] = self.history.lookup(users)
        return rows

    def log_columns(self, impressions: Impressions, videos: Integers) -> pa.Table:
        """The columns (B,) of the features of impressions; ``videos`` are their row numbers (B,)."""
        return log_columns(impressions.columns, impressions.day, self.upload_day[videos])


class ImpressionEncoder:
    """Encodes impressions as columns of the data set.

    Args:
        vocabularies: of the encoding's tables: columns ``value``.
    """

    def __init__(self, tables: Tables, encoding: Encoding, vocabularies: Mapping[str, pa.Table]) -> None:
        self._tables = tables
        assignments = encoding.assignments(
            lambda table: of_values(vocabularies[table]["value"], encoding.tables[table][0].kind)
        )
        self._log = Encoder(encoding.restricted({*LOG_CATEGORICAL, *LOG_DENSE}), assignments)
        self._encoded = {
            table: Encoder(encoding.restricted(set(columns.column_names)), assignments).encode(columns)
            for table, columns in tables.columns.items()
        }

    def encode(self, impressions: Impressions) -> dict[str, pa.Array]:
        """All feature columns of the impressions."""
        rows = self._tables.join(impressions)
        columns = self._log.encode(self._tables.log_columns(impressions, rows["video"]))
        for table, encoded in self._encoded.items():
            columns |= {name: column.take(pa.array(rows[table])) for name, column in encoded.items()}
        return columns


def _with_empty_row(table: pa.Table) -> pa.Table:
    empty = pa.table({field.name: pa.nulls(1, field.type) for field in table.schema})
    return pa.concat_tables([table, empty]).unify_dictionaries()

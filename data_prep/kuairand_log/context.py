"""Clusters and segments of KuaiRand's evaluation rows: the user, the day, and columns of the log and the tables.

Notation: B impressions.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.columns.arrays import NULL, Integers, one_chunk
from data_prep.columns.days import day_texts
from data_prep.columns.layout import DAY, USER
from data_prep.encoding.kuairand import USER_TEXTS, VIDEO_TEXTS
from data_prep.kuairand_log.features import Tables
from data_prep.kuairand_log.raw_tables import Impressions
from data_prep.output.raw_context import cluster_keys, distinct_keys
from data_prep.output.segment_values import SegmentValueCounter, SegmentValues, are_among, encode, known_or_new
from dlrm_mtl.segments import Segment, cluster_column, segment_column

CLUSTER = "user_id"

OF_LOG = ("hour", "tab", "duration_bucket")

NONE: Integers = np.empty(0, np.int64)

SEGMENTS = (*OF_LOG, *USER_TEXTS, *VIDEO_TEXTS)
"""Columns that may be segments."""


class KuaiRandContext:
    """Learns the values of segments and the known users in one pass over the log, and encodes them in a second one.

    Args:
        names: segments beside ``day`` (the log's date) and ``user``.
        known: keys (U,) of the users that are known beside those with training rows, ascending.
    """

    def __init__(self, tables: Tables, names: Sequence[str], known: Integers = NONE) -> None:
        self._tables = tables
        self._of_tables: dict[str, tuple[str, pa.StringArray]] = {}
        for table, columns in (("user", tables.users.columns), ("video", tables.videos.columns)):
            for name in names:
                if name in columns.column_names:
                    texts = one_chunk(columns[name]).cast(pa.string())
                    # The last row is for users or videos that the table lacks.
                    self._of_tables[name] = (table, pa.concat_arrays([texts, pa.nulls(1, pa.string())]))
        self._of_log = [name for name in names if name in OF_LOG]
        self._counters = {name: SegmentValueCounter(name) for name in (*names, DAY)}
        self._known = known
        self._evaluated: Counter[int] = Counter()
        self._values: dict[str, SegmentValues] = {}

    def add(self, split: str, impressions: Impressions) -> None:
        """Adds impressions of a split."""
        users, rows = np.unique(impressions.columns[CLUSTER], return_counts=True)
        if split == "train":
            self._known = np.union1d(self._known, distinct_keys(_keys_of(users)))
            return
        self._evaluated.update(dict(zip(users.tolist(), rows.tolist(), strict=True)))
        for name, texts in self._texts(impressions).items():
            self._counters[name].add(texts)

    def learnt(self) -> list[Segment]:
        """The segments, once all impressions have been added."""
        of_users = SegmentValueCounter(USER)
        of_users.add(
            known_or_new(self._keys_evaluated, self._known), np.array(list(self._evaluated.values()), np.int64)
        )
        self._values = {name: counter.values() for name, counter in (self._counters | {USER: of_users}).items()}
        return [values.segment for values in self._values.values()]

    def columns(self, impressions: Impressions) -> dict[str, pa.Array]:
        """The columns (B,) of impressions of the eval split."""
        keys = _keys_of(impressions.columns[CLUSTER])
        texts = self._texts(impressions) | {USER: known_or_new(keys, self._known)}
        columns = {segment_column(name): pa.array(encode(self._values[name].segment, texts[name])) for name in texts}
        return {cluster_column(CLUSTER): keys, **columns}

    @property
    def clusters(self) -> Integers:
        """Keys (U,) of the users that have been added or were known, ascending."""
        return np.union1d(self._known, distinct_keys(self._keys_evaluated))

    def as_record(self) -> dict[str, Any]:
        """The entries ``cluster`` and ``segments`` of the schema's source."""
        keys = distinct_keys(self._keys_evaluated)
        clusters = {
            "column": CLUSTER,
            "evaluated": len(keys),
            "of_which_known": int(are_among(keys, self._known).sum()),
            "rows_without": self._evaluated[NULL],
        }
        return {"cluster": clusters, "segments": {name: values.as_record() for name, values in self._values.items()}}

    @property
    def _keys_evaluated(self) -> pa.Int64Array:
        return _keys_of(np.array(list(self._evaluated), np.int64))

    def _texts(self, impressions: Impressions) -> dict[str, pa.StringArray]:
        """Texts (B,) of all segments except ``user``; null: no value."""
        rows = self._tables.join(impressions)
        of_log = self._tables.log_columns(impressions, rows["video"])
        texts = {name: one_chunk(of_log[name]).cast(pa.string()) for name in self._of_log}
        texts |= {name: column.take(pa.array(rows[table])) for name, (table, column) in self._of_tables.items()}
        return texts | {DAY: day_texts(impressions.day)}


def _keys_of(users: Integers) -> pa.Int64Array:
    """Keys (B,) of users; null where they are ``NULL``."""
    return cluster_keys(pa.array(users, mask=users == NULL).cast(pa.string()))

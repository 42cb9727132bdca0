"""The two passes over the impressions of a data set: the first counts and learns, the second encodes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from data_prep.kuairand_log.context import KuaiRandContext
from data_prep.kuairand_log.counts import Counts, count_ids, count_joins, count_labels, derive_labels
from data_prep.kuairand_log.features import ImpressionEncoder, Tables
from data_prep.kuairand_log.learning import Statistics
from data_prep.kuairand_log.raw_tables import Impressions
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.schema import keeps_context


@dataclass(frozen=True)
class Passes:
    """What the passes do with the impressions of a split."""

    tasks: Sequence[Task]
    tables: Tables
    context: KuaiRandContext
    statistics: Statistics | None
    """Of all splits but eval; None: nothing is learnt."""
    counts: Counts = field(default_factory=Counts)

    def count(self, split: str, impressions: Impressions) -> None:
        """The first pass."""
        self.counts.rows[split] = self.counts.rows.get(split, 0) + len(impressions)
        count_labels(impressions, self.tasks, self.counts, split)
        count_joins(impressions, self.tables, self.counts, split)
        self.context.add(split, impressions)
        if self.statistics is not None and split != "eval":
            self.statistics.add(impressions)

    def encode(
        self, split: str, impressions: Impressions, encoder: ImpressionEncoder, features: Sequence[CategoricalFeature]
    ) -> pa.Table:
        """The second pass: the columns (B,) of the data set."""
        columns = encoder.encode(impressions)
        count_ids(columns, features, self.counts, split)
        columns |= {name: pa.array(values) for name, values in derive_labels(impressions, self.tasks).items()}
        if keeps_context(split):
            columns |= self.context.columns(impressions)
        return pa.table(columns)

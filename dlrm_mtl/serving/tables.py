"""A model's embedding tables in one process, by torch's own operators.

Notation: B rows, F categorical features, T ids of all rows and features, D_f dimension of a table.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.models.embeddings import build_embedding_bags, embedding_names, table_owners
from dlrm_mtl.module_names import table_name
from dlrm_mtl.serving.manifest import StoredTable


class Lookup(NamedTuple):
    """A feature whose ids are looked up in a table."""

    name: str
    """Of the pooled embedding."""
    feature: int
    """Position of the feature."""
    table: int
    """Position of the table."""


class FloatTables(nn.Module):
    """Mean-pooled embeddings; those of an empty bag are 0. The weights are not initialised.

    Raises:
        ValueError: see :func:`build_embedding_bags`.
    """

    def __init__(self, schema: ModelSchema, config: ModelConfig) -> None:
        super().__init__()
        tables = build_embedding_bags(schema, config).embedding_bag_configs()
        self.names = [table.name for table in tables]
        """Of the tables in the model."""
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(table.num_embeddings, table.embedding_dim), requires_grad=False)
            for table in tables
        )
        self.lookups = [
            Lookup(name, position, self.names.index(table_name(feature.table_name, owner)))
            for owner in ("", *table_owners(schema, config))
            for position, (feature, name) in enumerate(
                zip(schema.categorical, embedding_names(schema, config, owner), strict=True)
            )
        ]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Rows and dimension of each table."""
        return [(weight.shape[0], weight.shape[1]) for weight in self.weights]

    def stored(self, prefix: str) -> dict[str, StoredTable]:
        """Where the rows of the tables are, by name.

        Args:
            prefix: of the tensors in the model.
        """
        return {
            name: StoredTable(f"{prefix}.weights.{position}", 0, rows, 4 * dim)
            for position, (name, (rows, dim)) in enumerate(zip(self.names, self.sizes, strict=True))
        }

    def forward(self, values: Tensor, lengths: Tensor) -> Mapping[str, Tensor]:
        """
        Args:
            values: (T,) int64 ids, feature by feature, row by row within a feature.
            lengths: (F, B) int64 numbers of ids.

        Returns:
            pooled embeddings (B, D_f) by name.

        Raises:
            RuntimeError: an id is outside of its table, or the lengths do not add up to T.
        """
        of_features = values.split(lengths.sum(dim=1).tolist())
        starts = pad(lengths.cumsum(dim=1), (1, 0)).unbind()
        return {
            name: embedding_bag(
                of_features[feature], self.weights[table], starts[feature], mode="mean", include_last_offset=True
            )
            for name, feature, table in self.lookups
        }

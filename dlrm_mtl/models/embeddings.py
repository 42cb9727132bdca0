"""Embedding tables of a data set."""

import torch
from torch import Tensor
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.module_names import escape
from dlrm_mtl.schema import Schema


def embedding_dims(schema: Schema, config: ModelConfig) -> dict[str, int]:
    """Embedding dimension of each categorical feature.

    Raises:
        ValueError: ``embedding_dims`` names a table that the data set does not have.
    """
    unknown = sorted(set(config.embedding_dims) - set(schema.tables))
    if unknown:
        raise ValueError(
            f"model.embedding_dims names table {unknown[0]!r}; the data set has {', '.join(schema.tables)}"
        )
    return {
        feature.name: config.embedding_dims.get(feature.table_name, config.embedding_dim)
        for feature in schema.categorical
    }


def build_embedding_bags(schema: Schema, config: ModelConfig) -> EmbeddingBagCollection:
    """The data set's tables on the meta device, mean-pooled: sharding allocates them, and
    :func:`dlrm_mtl.distributed.tables.initialize_tables` fills them."""
    dims = embedding_dims(schema, config)
    return EmbeddingBagCollection(
        device=torch.device("meta"),
        tables=[
            EmbeddingBagConfig(
                name=escape(table),
                num_embeddings=features[0].cardinality,
                embedding_dim=dims[features[0].name],
                feature_names=[escape(feature.name) for feature in features],
                pooling=PoolingType.MEAN,
                init_fn=_leave_uninitialized,
            )
            for table, features in schema.tables.items()
        ],
    )


def _leave_uninitialized(weights: Tensor) -> Tensor:
    return weights

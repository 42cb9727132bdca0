"""Embedding tables of a data set: the shared ones, and those that tasks own beside them."""

import torch
from torch import Tensor
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.models.relations.relation import build_relation
from dlrm_mtl.models.sharing.architecture import sharing_class
from dlrm_mtl.module_names import escape, owner_of, table_name


def embedding_dims(schema: ModelSchema, config: ModelConfig) -> dict[str, int]:
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


def table_owners(schema: ModelSchema, config: ModelConfig) -> list[str]:
    """The owners of tables beside the shared ones: no one, or each task, if the architecture reads such tables.

    Raises:
        ValueError: the architecture's or the relation's class cannot be imported, or the tasks do not support it.
    """
    if not sharing_class(config).own_tables:
        return []
    return list(dict.fromkeys(owner_of(head.name) for head in build_relation(config, schema.tasks).heads))


def embedding_names(schema: ModelSchema, config: ModelConfig, owner: str = "") -> list[str]:
    """Names of the features' pooled embeddings, by the order of the features.

    Args:
        owner: of the tables that they are from; by default the shared ones.
    """
    features = [escape(feature.name) for feature in schema.categorical]
    if not table_owners(schema, config):
        return features
    # torchrec's names where several tables have a feature.
    tables = [table_name(feature.table_name, owner) for feature in schema.categorical]
    return [f"{feature}@{table}" for feature, table in zip(features, tables, strict=True)]


def build_embedding_bags(schema: ModelSchema, config: ModelConfig) -> EmbeddingBagCollection:
    """The model's tables on the meta device, mean-pooled: sharding allocates them, and
    :func:`dlrm_mtl.distributed.tables.initialize_tables` fills them."""
    dims = embedding_dims(schema, config)
    owners = ["", *table_owners(schema, config)]
    return EmbeddingBagCollection(
        device=torch.device("meta"),
        tables=[
            EmbeddingBagConfig(
                name=table_name(table, owner),
                num_embeddings=features[0].cardinality,
                embedding_dim=dims[features[0].name],
                feature_names=[escape(feature.name) for feature in features],
                pooling=PoolingType.MEAN,
                init_fn=_leave_uninitialized,
            )
            for owner in owners
            for table, features in schema.tables.items()
        ],
    )


def _leave_uninitialized(weights: Tensor) -> Tensor:
    return weights

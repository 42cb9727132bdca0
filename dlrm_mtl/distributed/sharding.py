"""Sharders, and the sharding types that the planner may choose from."""

from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.types import ModuleSharder

from dlrm_mtl.config import CommsConfig, ShardingConfig, TableOptimizer
from dlrm_mtl.distributed.comms import comm_codecs

CPU_KINDS = ("table_wise", "column_wise", "table_column_wise")
COLUMN_KINDS = ("column_wise", "table_column_wise", "grid_shard")


def sharders(comms: CommsConfig | None = None) -> list[ModuleSharder[nn.Module]]:
    """The sharders of the model's tables; by default embeddings are exchanged as float32."""
    codecs = comm_codecs(comms or CommsConfig())
    return [EmbeddingBagCollectionSharder(qcomm_codecs_registry=codecs)]  # type: ignore[list-item]


def allowed_kinds(config: ShardingConfig, table_optimizer: TableOptimizer, device: str) -> list[str]:
    """The sharding types the planner may choose from.

    Raises:
        ValueError: a type that the CPU cannot run, or that would make training depend on the plan.
    """
    if not config.kinds:
        return ["table_wise"] if device == "cpu" else ["table_wise", "row_wise", "table_row_wise"]
    for kind in config.kinds:
        if device == "cpu" and kind not in CPU_KINDS:
            raise ValueError(f"sharding.kinds has {kind!r}, expected one of {', '.join(CPU_KINDS)} on a CPU")
        if table_optimizer == "rowwise_adagrad" and kind in COLUMN_KINDS:
            raise ValueError(
                f"sharding.kinds has {kind!r}, expected no column shards with optimizer.table=rowwise_adagrad: it"
                " keeps one value per row and column shard, so the plan would change the training"
            )
    return list(config.kinds)

"""Mean pooling of sharded tables."""

from fbgemm_gpu.split_table_batched_embeddings_ops_common import PoolingMode
from torch import nn


def average_once(tables: nn.Module) -> None:
    """Makes the mean of a bag independent of the plan.

    As soon as one table is sharded by rows, torchrec 1.8 divides the sums of all tables by the bags' lengths, though
    the kernels of tables that are not sharded by rows have averaged already. Here they sum, too.

    Args:
        tables: sharded embedding bags, all mean-pooled.
    """
    if tables._has_mean_pooling_callback:
        for lookup in tables._lookups:  # type: ignore[union-attr]
            for kernel in lookup._emb_modules:
                kernel.emb_module.pooling_mode = PoolingMode.SUM

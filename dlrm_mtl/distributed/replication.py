"""Tables that every rank holds whole, with gradients in ``.grad``, which fused tables do not have. Balancing by the
gradients of the tables' parameters needs them."""

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchrec.distributed.sharding_plan import construct_module_sharding_plan, data_parallel
from torchrec.distributed.types import ShardingPlan
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.sharding import sharders


def replicate_tables(tables: EmbeddingBagCollection, ranks: Ranks) -> ShardingPlan:
    """A plan that keeps every table whole on every rank."""
    plan = construct_module_sharding_plan(
        tables,
        {config.name: data_parallel() for config in tables.embedding_bag_configs()},
        sharders()[0],  # type: ignore[arg-type]
        local_size=ranks.local_world_size,
        world_size=ranks.world_size,
        device_type=ranks.device.type,
    )
    return ShardingPlan(plan={"embedding_bags": plan})


def replicated_parameters(tables: nn.Module) -> list[nn.Parameter]:
    """The kernels' parameters of replicated tables. torchrec's parameters are slices of them outside of the autograd
    graph."""
    kernels = {id(table._original_tensor): table._original_tensor for table in tables.parameters()}  # type: ignore[attr-defined]
    return list(kernels.values())


def average_gradients_of_replicas(tables: nn.Module, ranks: Ranks) -> None:
    """Averages the replicas' gradients over the ranks when backward has accumulated them in ``.grad``.

    Replaces the DistributedDataParallel that torchrec puts around the lookups, which reduces gradients in only one of
    several backward passes of a forward pass, so that the replicas would differ.
    """
    tables._lookups = [  # type: ignore[assignment]
        lookup.module if isinstance(lookup, DistributedDataParallel) else lookup
        for lookup in tables._lookups  # type: ignore[union-attr]
    ]

    def average(parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad, group=ranks.group)
        parameter.grad /= ranks.world_size

    for parameter in replicated_parameters(tables):
        parameter.register_post_accumulate_grad_hook(average)

"""Tables that do not fit into a GPU: rows in host memory (UVM), with a cache of the used ones on the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn
from torchrec.distributed.types import CacheParams, ParameterSharding, ShardingPlan

from dlrm_mtl.config import ShardingConfig, require

CACHED = "fused_uvm_caching"


def allowed_kernels(config: ShardingConfig, device: str) -> list[str]:
    """The table kernels that the planner may choose from.

    Raises:
        ValueError: a cache, or an option of one, without a GPU.
    """
    if device != "cuda":
        factor = config.cache_load_factor
        require("sharding.kernels", config.kernels, CACHED not in config.kernels, "only fused on a CPU")
        require("sharding.cache_load_factor", factor, factor is None, "none on a CPU, which has no cached tables")
        require("sharding.prefetch", config.prefetch, not config.prefetch, "False on a CPU, which has no cached tables")
        return ["fused"]
    return list(config.kernels or ("fused", CACHED))


def cache_params(config: ShardingConfig) -> CacheParams:
    """The cache of each table that the planner puts behind one."""
    return CacheParams(load_factor=config.cache_load_factor)


def fetch_ahead(plan: ShardingPlan) -> None:
    """Marks a plan with cached tables for the pipeline that fetches rows ahead.

    To be called after planning: otherwise the planner assumes that a cache is as fast as device memory, and caches
    tables that fit. All kernels are marked, since torchrec logs an error in every step for those that are not.
    """
    if any(parameter.compute_kernel == CACHED for parameter in _parameters(plan)):
        for parameter in _parameters(plan):
            parameter.cache_params = replace(parameter.cache_params or CacheParams(), prefetch_pipeline=True)


def fetches_ahead(plan: ShardingPlan) -> bool:
    """Whether a plan is marked by :func:`fetch_ahead`."""
    return any(
        parameter.cache_params is not None and bool(parameter.cache_params.prefetch_pipeline)
        for parameter in _parameters(plan)
    )


@contextmanager
def without_cache_locks(tables: nn.Module) -> Iterator[None]:
    """For an evaluation. Kernels that fetch rows ahead lock each row in the cache until its backward pass; rows that an
    evaluation reads would stay locked.

    Args:
        tables: sharded embedding bags; no batch of a training step is under way.
    """
    kernels = [kernel.emb_module for lookup in tables._lookups for kernel in lookup._emb_modules]  # type: ignore[union-attr]
    locking = [kernel for kernel in kernels if getattr(kernel, "lock_cache_line", False)]
    for kernel in locking:
        kernel.lock_cache_line = False
    try:
        yield
    finally:
        for kernel in locking:
            kernel.lock_cache_line = True


def _parameters(plan: ShardingPlan) -> Iterator[ParameterSharding]:
    for module in plan.plan.values():
        yield from module.values()  # type: ignore[attr-defined]

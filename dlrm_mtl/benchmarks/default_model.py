"""The default model's work per step, and the machine's limits for it."""

from dlrm_mtl.benchmarks.limits import Limits, Work, count_dense_flops, count_table_bytes, measure_limits
from dlrm_mtl.benchmarks.session import read_batch
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.training.arm import build_arm
from dlrm_mtl.training.session import Session


def measure_default_limits(session: Session) -> Limits:
    """Limits for the control's step on the session's data. Collective."""
    config, ranks = session.config, session.ranks
    rows = config.local_batch_size(ranks.world_size)
    batch = read_batch(session)
    schema = session.source.dataset.schema
    arm = build_arm(config, parse_recipe("mean"), 0, schema, session.plan, ranks)
    arm.model.train()

    def step() -> None:
        losses, _ = arm.model(batch)
        losses.sum().backward()

    bags = rows * len(schema.categorical)
    table_bytes = count_table_bytes(batch.sparse.values().numel(), bags, config.model.embedding_dim)
    work = Work(count_dense_flops(step), table_bytes)
    return measure_limits(arm.model, work, rows, ranks.device, ranks.synchronize)

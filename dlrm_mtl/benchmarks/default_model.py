"""The default model's work per step, and the machine's limits for it."""

from itertools import islice

from dlrm_mtl.benchmarks.limits import Limits, Work, count_dense_flops, count_table_bytes, measure_limits
from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.reader import TrainingReader, batches
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.training.arm import build_arm
from dlrm_mtl.training.session import Session


def measure_default_limits(session: Session) -> Limits:
    """Limits for the control's step on the session's data. Collective."""
    config, ranks = session.config, session.ranks
    rows = config.local_batch_size(ranks.world_size)
    reader = TrainingReader(session.source, rows, 0, ranks.rank, ranks.world_size, config.reader.shuffle_rows)
    [batch] = islice(batches(reader, ReaderConfig(workers=0), pin_memory=False), 1)
    batch = batch.to(ranks.device)
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

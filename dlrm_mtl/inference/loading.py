"""A stored model on this job's ranks, its tables sharded by a plan."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torchrec.distributed.model_parallel import DistributedModelParallel

from dlrm_mtl.arms import build_layer
from dlrm_mtl.config import OptimizerConfig, ReaderConfig, ShardingConfig
from dlrm_mtl.data.reader import PartsReader
from dlrm_mtl.distributed.checkpoint import Checkpoint, load_tensors, open_checkpoint
from dlrm_mtl.distributed.mean_pooling import average_once
from dlrm_mtl.distributed.planner import plan_sharding
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.sharding import sharders
from dlrm_mtl.inference.stored_model import StoredModel, StoredPart, find_checkpoint_in, open_stored_model
from dlrm_mtl.models.losses import TaskLosses
from dlrm_mtl.models.ranker import Predictions, build_ranker
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.training.arm import build_table_model
from dlrm_mtl.training.optimization.optimizers import apply_table_optimizer
from dlrm_mtl.training.pipeline import predict
from dlrm_mtl.training.state.arm_state import BALANCING

WITHOUT_STATE = OptimizerConfig(table="sgd")
"""Tables need some optimizer; this one takes no memory."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode."""

    stored: StoredModel
    parts: tuple[DistributedModelParallel, ...]
    """One for all tasks, or one per task."""

    def predict(self, reader: PartsReader, config: ReaderConfig, ranks: Ranks) -> Iterator[Predictions]:
        """Predictions for this rank's rows, batch by batch: logits (B, M) of the M tasks of the model, beside labels
        and weights of the tasks of the data set. Collective.

        Raises:
            ValueError: rows cannot be read.
        """
        streams = [predict(part, reader, config, ranks) for part in self.parts]
        for predictions in zip(*streams, strict=True):
            logits = torch.cat([each.logits for each in predictions], dim=1)
            yield replace(predictions[0], logits=logits)


def open_on_all(path: Path, arm: str | None, ranks: Ranks) -> StoredModel:
    """:func:`open_stored_model` on every rank, of the checkpoint that rank 0 finds, since a run may just write another.
    Collective.

    Raises:
        ValueError: on every rank.
    """
    newest = ranks.broadcast(ranks.run_on_all(lambda: find_checkpoint_in(path) if ranks.is_first else path))
    return ranks.run_on_all(lambda: open_stored_model(newest, arm))


def load_model(
    stored: StoredModel, ranks: Ranks, local_batch_size: int, sharding: ShardingConfig | None = None
) -> LoadedModel:
    """Loads the weights of a stored model, which any number of ranks trained under any plan. Collective.

    Args:
        local_batch_size: rows of a rank's batches, for the plan.

    Raises:
        ValueError: on every rank: the checkpoint is damaged or is of another model than its manifest says; a class of
            the user's cannot be imported; no plan fits.
    """
    checkpoint = open_checkpoint(stored.path, ranks)
    sharding = sharding or ShardingConfig()
    parts = (_build(part, stored.bf16, ranks, local_batch_size, sharding) for part in stored.parts)
    loaded = zip(parts, stored.parts, strict=True)
    return LoadedModel(stored, tuple(_with_weights(model, part.prefix, checkpoint, ranks) for model, part in loaded))


def _build(
    part: StoredPart, bf16: bool, ranks: Ranks, local_batch_size: int, sharding: ShardingConfig
) -> DistributedModelParallel:
    """Builds and shards a model."""
    schema, config = part.schema, part.config
    tables = build_table_model(schema, config, WITHOUT_STATE, ranks.device)
    plan = plan_sharding(tables, schema, sharding, WITHOUT_STATE.table, local_batch_size, ranks)
    # In evaluation mode every balancing layer is the identity.
    balancing = build_layer(parse_recipe("mean"), schema.task_names, ranks.group)
    losses = TaskLosses(schema.tasks, "batch", ranks.group)
    ranker = build_ranker(schema, config, balancing, losses, 0, ranks.device, bf16)
    apply_table_optimizer(ranker.embedding_bags, WITHOUT_STATE, ranks.device)
    model = DistributedModelParallel(ranker, device=ranks.device, plan=plan, sharders=sharders(sharding.comms))
    average_once(ranker.embedding_bags)
    return model.eval()


@torch.no_grad()
def _with_weights(
    model: DistributedModelParallel, prefix: str, checkpoint: Checkpoint, ranks: Ranks
) -> DistributedModelParallel:
    """Loads all weights but the balancing layer's."""
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items() if not name.startswith(BALANCING)}

    sizes = {name: value.size() for name, value in state.items()}
    ranks.run_on_all(lambda: check_weights(checkpoint.path, checkpoint.sizes, prefix, sizes))
    sharded = {name: value for name, value in state.items() if isinstance(value, ShardedTensor)}
    whole = load_tensors(checkpoint, sharded, state.keys() - sharded.keys(), ranks)
    for name, value in whole.items():
        state[name].copy_(value)
    return model


def check_weights(
    path: Path, stored: Mapping[str, Sequence[int]], prefix: str, expected: Mapping[str, Sequence[int]]
) -> None:
    """Checks that a checkpoint has the weights of a model, except the balancing layer's, and no others.

    Args:
        stored: sizes of the checkpoint's tensors, by name.
        prefix: of the model's tensors in the checkpoint.
        expected: sizes of the model's weights, by their names in the checkpoint.

    Raises:
        ValueError: it has other weights, or of other sizes.
    """
    there = {name for name in stored if name.startswith(prefix) and not name.startswith(f"{prefix}{BALANCING}")}
    for name in sorted(there ^ expected.keys()):
        has, should = ("a", "none") if name in there else ("no", "one")
        raise ValueError(f"{path}: has {has} tensor {name}, expected {should} by its manifest")
    for name, size in expected.items():
        if tuple(stored[name]) != tuple(size):
            raise ValueError(f"{path}: {name} has size {list(stored[name])}, expected {list(size)}")

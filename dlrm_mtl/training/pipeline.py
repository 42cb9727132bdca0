"""The pipelines that train an arm, and that predict with its model."""

from collections.abc import Iterator

import torch
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.train_pipeline import (
    EvalPipelineSparseDist,
    PrefetchTrainPipelineSparseDist,
    TrainPipelineSparseDist,
)

from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.reader import PartsReader, batches
from dlrm_mtl.distributed.caching import without_cache_locks
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.training.arm import Arm


def pipeline_class(prefetch: bool) -> type[TrainPipelineSparseDist]:
    """torchrec's pipeline that overlaps copies to the device, the exchange of ids and, with ``prefetch``, fetching rows
    into caches with the step before."""
    return PrefetchTrainPipelineSparseDist if prefetch else TrainPipelineSparseDist


def build_pipeline(arm: Arm, device: torch.device) -> TrainPipelineSparseDist:
    """The pipeline that trains an arm, to the last batch."""
    pipeline: TrainPipelineSparseDist = pipeline_class(arm.prefetch)(
        arm.model, arm.optimizer, device, execute_all_batches=True
    )
    return pipeline


def predict(
    model: DistributedModelParallel, reader: PartsReader, config: ReaderConfig, ranks: Ranks
) -> Iterator[Predictions]:
    """The model's predictions for this rank's rows of a split, batch by batch. Collective.

    Args:
        model: in evaluation mode.
    """
    pipeline = EvalPipelineSparseDist(model, None, ranks.device)  # type: ignore[arg-type]  # takes no step
    items = batches(reader, config, pin_memory=ranks.device.type == "cuda")
    with without_cache_locks(model.module.embedding_bags):
        for batch in range(len(reader)):
            ranks.watch.progress("evaluation", batch)
            with torch.no_grad():
                predictions = pipeline.progress(items)
            yield predictions
    pipeline.detach()

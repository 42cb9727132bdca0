"""The train pipeline of an arm."""

import torch
from torchrec.distributed.train_pipeline import PrefetchTrainPipelineSparseDist, TrainPipelineSparseDist

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

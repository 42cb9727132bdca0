"""What a node needs for its processes: CPUs, GPUs and memory."""

from typing import Any

import torchx.specs as specs

from dlrm_mtl.launching.job import Job
from dlrm_mtl.quoting import quote
from dlrm_mtl.run_config import TrainingConfig

RANK_CPUS, RANK_MB, LEAST_RANK_MB = 1, 2048, 1024
"""A process that trains on a CPU, with small tables: by default, and the least memory."""
GPU_RANK_CPUS, GPU_RANK_MB, LEAST_GPU_RANK_MB = 2, 12288, 2048
"""A process that trains on a GPU: its own thread and the one that pins batches; memory with the part in /dev/shm."""
HELPER_CPUS, HELPER_MB = 1, 2048
"""A process that reads or prepares data for another one, with the batches that it holds ready in shared memory."""
GPU_READERS = 2
"""Reader processes of a process on a GPU, by default."""


def node_size(job: Job, processes: int, config: Any) -> specs.Resource:
    """The resources that a node asks for: those of the job, else what its processes need.

    Args:
        processes: processes on the node.
        config: the options of the module that they run.

    Raises:
        ValueError: the resources are too small for the processes, ``h`` is unknown, or ``h`` and another are given.
    """
    size = _named(job) if job.h else specs.Resource(cpu=job.cpu, gpu=job.gpu, memMB=job.memMB)
    on_gpu = size.gpu > 0
    helpers = _helpers(config, on_gpu)
    cpus, megabytes, least_megabytes = (
        (GPU_RANK_CPUS, GPU_RANK_MB, LEAST_GPU_RANK_MB) if on_gpu else (RANK_CPUS, RANK_MB, LEAST_RANK_MB)
    )
    needed = specs.Resource(
        cpu=processes * (cpus + helpers * HELPER_CPUS),
        gpu=processes if on_gpu else 0,
        memMB=processes * (megabytes + helpers * HELPER_MB),
    )
    least = specs.Resource(cpu=processes, gpu=needed.gpu, memMB=processes * least_megabytes)
    for name in ("gpu", "cpu", "memMB"):
        value, minimum, enough = (getattr(resource, name) for resource in (size, least, needed))
        # A named resource may leave some open, as TorchX's NULL does.
        if (value < 0 and not job.h) or 0 < value < minimum:
            raise ValueError(
                f"{name} is {value}{f' in h {quote(job.h)}' if job.h else ''}, expected at least {minimum} for"
                f" {processes} processes on a node, and {enough} where nothing else is known"
            )
    if job.h:
        return size
    return specs.Resource(cpu=job.cpu or needed.cpu, gpu=job.gpu, memMB=job.memMB or needed.memMB)


def _named(job: Job) -> specs.Resource:
    others = [name for name in ("cpu", "gpu", "memMB") if getattr(job, name)]
    if others:
        raise ValueError(f"h is {quote(job.h)} and {others[0]} is {getattr(job, others[0])}, expected one of the two")
    try:
        return specs.named_resources[job.h]
    except KeyError as error:
        raise ValueError(f"h is {quote(job.h)}: {error.args[0]}") from None


def _helpers(config: Any, on_gpu: bool) -> int:
    """Processes that read or prepare data for each process of the job."""
    if isinstance(config, TrainingConfig) and config.reader.workers is not None:
        return config.reader.workers
    # The options of preparations, which this package does not import. One worker is the process itself.
    workers: int = config.work.workers if hasattr(config, "work") else 1
    return workers if workers > 1 else GPU_READERS * on_gpu

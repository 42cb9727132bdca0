"""What a job takes of a cluster."""

from typing import List, NamedTuple, Optional

CPUS_PER_RANK, MB_PER_RANK = 1, 2048
"""For a process that trains on a CPU, with small tables: one thread; torch and a model."""
CPUS_PER_GPU, MB_PER_GPU = 4, 16384
"""For a process that trains on a GPU: its own thread, two reader processes, the thread that pins their batches."""


class Job(NamedTuple):
    """Parameters of every component: what a job takes of a cluster. TorchX decodes them by these annotations."""

    j: str = "1x2"
    env: str = ""
    image: str = ""
    mounts: Optional[List[str]] = None
    overlay: str = ""
    cpu: int = 0
    gpu: int = 0
    memMB: int = 0
    h: Optional[str] = None
    max_retries: int = 0
    rdzv_port: int = 29500
    join_timeout: int = 900
    restarts: int = 3
    save_time: int = 120

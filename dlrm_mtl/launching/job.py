"""What a job takes of a cluster."""

from typing import List, NamedTuple, Optional

LAUNCHER_S = 10
"""Seconds that the launcher has to end after the processes that it started."""


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
    rdzv_port: int = 0
    join_timeout: int = 900
    restarts: int = 3
    save_time: int = 120

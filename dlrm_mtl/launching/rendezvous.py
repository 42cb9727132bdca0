"""Where the nodes of a job meet."""

import zlib
from collections.abc import Sequence
from pathlib import Path

from dlrm_mtl.srun import FIRST_PORT, PORTS


def rendezvous_port(command: Sequence[str]) -> int:
    """A port that follows from the job's command line and the directory in which it is launched, so that other jobs
    whose first node is the same have other ports, and the job itself the same one when it is started again."""
    job = "\0".join((str(Path.cwd()), *command))
    return FIRST_PORT + zlib.crc32(job.encode()) % PORTS
